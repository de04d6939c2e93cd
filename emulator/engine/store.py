"""The jobs of one endpoint: bounded in number and in time."""

from __future__ import annotations

from emulator.engine.clock import Clock, Timer
from emulator.engine.jobs import Job

MAX_JOBS = 20_000
MAX_BYTES = 512 * 1024 * 1024


class StoreFull(Exception):
    """As many jobs, or bytes of them, are kept as may be, none of them over."""


class JobStore:
    """Keeps a job until its time to live is over, counted from submission, or its retention, counted from its end.

    Over `max_jobs`, or over `max_bytes` of inputs and results, the longest finished ones go first; the one that
    finished last stays. A running job counts with its input.
    """

    def __init__(self, clock: Clock, *, max_jobs: int = MAX_JOBS, max_bytes: int = MAX_BYTES) -> None:
        self._clock, self._max_jobs, self._max_bytes = clock, max_jobs, max_bytes
        self._bytes: dict[str, int] = {}
        self._total_bytes = 0
        self._jobs: dict[str, Job] = {}
        self._finished: dict[str, None] = {}
        self._timers: dict[str, Timer] = {}

    def __len__(self) -> int:
        return len(self._jobs)

    def add(self, job: Job, *, ttl_s: float, retention_s: float, input_bytes: int = 0) -> None:
        """Raises `StoreFull`."""
        while len(self._jobs) >= self._max_jobs or self._total_bytes + input_bytes > self._max_bytes:
            if not self._finished:
                raise StoreFull(f"{len(self._jobs)} jobs of {self._total_bytes:,} bytes are waiting or running")
            self.delete(next(iter(self._finished)))
        self._jobs[job.job_id] = job
        self._weigh(job, input_bytes)
        self._timers[job.job_id] = self._clock.call_later(ttl_s, lambda: self.expire(job))
        job.on_final.append(lambda _: self._keep(job, retention_s, input_bytes))

    def get(self, job_id: str) -> Job | None:
        return self._jobs.get(job_id)

    def jobs(self) -> list[Job]:
        return list(self._jobs.values())

    def expire(self, job: Job) -> None:
        """The end of a job's time to live, even while it runs."""
        self.delete(job.job_id)
        job.cancel()

    def delete(self, job_id: str) -> None:
        self._jobs.pop(job_id, None)
        self._finished.pop(job_id, None)
        self._total_bytes -= self._bytes.pop(job_id, 0)
        if timer := self._timers.pop(job_id, None):
            timer.cancel()

    def keep_for(self, job: Job, delay_s: float) -> None:
        """Delete the job after that time, from now on, in place of what was set before."""
        self._set_timer(job, delay_s)

    def revive(self, job: Job, *, ttl_s: float) -> None:
        """A finished job runs again: its retention no longer counts."""
        self._finished.pop(job.job_id, None)
        self._set_timer(job, ttl_s)

    def _keep(self, job: Job, retention_s: float, input_bytes: int) -> None:
        if job.job_id not in self._jobs:
            return
        self._finished[job.job_id] = None
        self._set_timer(job, retention_s)
        self._weigh(job, input_bytes + job.held_bytes)
        while self._total_bytes > self._max_bytes and len(self._finished) > 1:
            self.delete(next(iter(self._finished)))

    def _weigh(self, job: Job, size_bytes: int) -> None:
        self._total_bytes += size_bytes - self._bytes.get(job.job_id, 0)
        self._bytes[job.job_id] = size_bytes

    def _set_timer(self, job: Job, delay_s: float) -> None:
        self._timers[job.job_id].cancel()
        self._timers[job.job_id] = self._clock.call_later(delay_s, lambda: self.expire(job))
