"""The jobs that wait: first in, first out, and each can leave from the middle at once."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Iterator

from emulator.engine.jobs import Job


class JobQueue:
    """Every operation takes the same time however many jobs wait."""

    def __init__(self) -> None:
        self._jobs: OrderedDict[str, Job] = OrderedDict()
        self._low_priority = 0

    def __len__(self) -> int:
        return len(self._jobs)

    def __iter__(self) -> Iterator[Job]:
        return iter(self._jobs.values())

    @property
    def urgent(self) -> int:
        """How many jobs wait that a worker may be started for."""
        return len(self._jobs) - self._low_priority

    def push(self, job: Job, *, first: bool = False) -> None:
        self._jobs[job.job_id] = job
        self._low_priority += job.low_priority
        if first:
            self._jobs.move_to_end(job.job_id, last=False)

    def pop(self) -> Job:
        """The job that is next. Raises `KeyError` if none waits."""
        _, job = self._jobs.popitem(last=False)
        self._low_priority -= job.low_priority
        return job

    def discard(self, job: Job) -> None:
        if self._jobs.pop(job.job_id, None) is not None:
            self._low_priority -= job.low_priority
