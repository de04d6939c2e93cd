"""A job and its states. It knows no provider: what a provider adds stands in `labels`.

    QUEUED ──start──▶ RUNNING ──▶ COMPLETED | FAILED | CANCELLED | TIMED_OUT
      ▲                 │
      └────requeue──────┘

Exactly one terminal state is reached; whatever arrives later is ignored. Each start is an `Attempt` of its own: what a
worker sends after its attempt is over cannot reach the next one.
"""

from __future__ import annotations

import enum
import itertools
from collections.abc import Callable
from typing import Any

from emulator.engine.changes import Changes
from emulator.engine.clock import Clock

_numbers = itertools.count()  # in the order of submission
FOREVER_S = 86_400.0


class JobState(enum.Enum):
    QUEUED = "queued"
    RUNNING = "running"
    COMPLETED = "completed"
    FAILED = "failed"
    CANCELLED = "cancelled"
    TIMED_OUT = "timed_out"

    @property
    def is_final(self) -> bool:
        return self not in (JobState.QUEUED, JobState.RUNNING)


class Job:
    """One job. Times are seconds of `clock`; `None` until they happen."""

    def __init__(
        self,
        job_id: str,
        job_input: Any,
        clock: Clock,
        *,
        execution_timeout_s: float | None = None,
        low_priority: bool = False,
        labels: dict[str, Any] | None = None,
    ) -> None:
        self.job_id, self.input = job_id, job_input
        self.number = next(_numbers)
        self.execution_timeout_s, self.low_priority = execution_timeout_s, low_priority
        self.labels = labels or {}
        self.state = JobState.QUEUED
        self.submitted_at = clock.now()
        self.started_at: float | None = None
        self.finished_at: float | None = None
        self.worker_id: str | None = None
        self.retries = 0
        self.output: Any = None
        self.error: str | None = None
        self._clock = clock
        self._chunks: list[Any] = []
        self.attempt: Attempt | None = None
        self._changes = Changes(clock)
        self.on_final: list[Callable[[Job], object]] = []

    # what a worker tells

    def start(self, worker_id: str) -> Attempt | None:
        """Claim a queued job for a worker. None if it is not to be had any more."""
        if self.state is not JobState.QUEUED:
            return None
        self.state, self.worker_id, self.started_at = JobState.RUNNING, worker_id, self._clock.now()
        self.attempt = Attempt(self, worker_id)
        self._changes.announce()
        return self.attempt

    def add_chunk(self, chunk: Any) -> None:
        """A piece of output, for whoever streams."""
        if self.state is JobState.RUNNING:
            self._chunks.append(chunk)
            self._changes.announce()

    def progress(self, output: Any) -> None:
        """An interim output, replaced by the next one or the result."""
        if self.state is JobState.RUNNING:
            self.output = output
            self._changes.announce()

    def complete(self, output: Any) -> bool:
        return self._finish(JobState.COMPLETED, output=output)

    def fail(self, error: str, output: Any = None) -> bool:
        return self._finish(JobState.FAILED, error=error, output=output)

    def cancel(self) -> bool:
        return self._finish(JobState.CANCELLED)

    def time_out(self, error: str) -> bool:
        return self._finish(JobState.TIMED_OUT, error=error)

    def requeue(self) -> bool:
        """Back into the queue after its worker was lost; what that worker had sent is void."""
        if self.state is not JobState.RUNNING:
            return False
        self.retries += 1
        self._reset()
        return True

    def retry(self) -> bool:
        """Once more from the start, under the same id. False unless the job failed or timed out."""
        if self.state not in (JobState.FAILED, JobState.TIMED_OUT):
            return False
        self.retries += 1
        self._reset()
        return True

    # what a client asks

    @property
    def has_chunks(self) -> bool:
        return bool(self._chunks)

    @property
    def held_bytes(self) -> int:
        """What this job keeps in memory, of what tells its size: chunks nobody has fetched, and the output."""
        return sum(_size_bytes(part) for part in (*self._chunks, self.output))

    def drain(self) -> list[Any]:
        """The chunks since the last call; there is one cursor, so each is handed out once."""
        chunks, self._chunks = self._chunks, []
        return chunks

    def chunks_after(self, index: int) -> list[Any]:
        """The chunks after the first `index`. They stay: each reader has a cursor of its own, and may go back."""
        return self._chunks[index:]

    @property
    def waiting(self) -> int:
        """How many wait for a change."""
        return self._changes.waiting

    async def first_chunk(self) -> None:
        """Wait until there is a chunk to hand out."""
        while not self._chunks:
            await self.changed(FOREVER_S)

    async def changed(self, timeout_s: float) -> bool:
        """Wait for the next change, at most `timeout_s` seconds of the clock. Whether there was one."""
        return await self._changes.wait(timeout_s)

    def _finish(self, state: JobState, *, error: str | None = None, output: Any = None) -> bool:
        if self.state.is_final:
            return False
        self.state, self.error, self.output, self.finished_at = state, error, output, self._clock.now()
        self._changes.announce()
        for callback in self.on_final:
            callback(self)
        return True

    def _reset(self) -> None:
        self.state, self.worker_id = JobState.QUEUED, None
        self.started_at = self.finished_at = None
        self.output = self.error = None
        self._chunks.clear()
        self._changes.announce()


class Attempt:
    """One run of a job by one worker. Once the job has ended or runs elsewhere, every method does nothing."""

    __slots__ = ("_first", "input", "is_unheard", "job", "job_id", "labels", "worker_id")

    def __init__(self, job: Job, worker_id: str, first: Attempt | None = None) -> None:
        self.job, self.job_id, self.input, self.labels = job, job.job_id, job.input, job.labels
        self.worker_id = worker_id
        self.is_unheard = False
        self._first = first or self

    def twin(self, worker_id: str) -> Attempt:
        """The same run, delivered a second time."""
        return Attempt(self.job, worker_id, self)

    @property
    def is_current(self) -> bool:
        return self.job.attempt is self._first and self.job.state is JobState.RUNNING

    def add_chunk(self, chunk: Any) -> None:
        if self.is_current:
            self.job.add_chunk(chunk)

    def progress(self, output: Any) -> None:
        if self.is_current:
            self.job.progress(output)

    def complete(self, output: Any) -> bool:
        return self.is_current and not self.is_unheard and self.job.complete(output)

    def fail(self, error: str, output: Any = None) -> bool:
        return self.is_current and not self.is_unheard and self.job.fail(error, output)


def _size_bytes(part: Any) -> int:
    return len(part) if isinstance(part, bytes) else getattr(part, "size_bytes", 0)
