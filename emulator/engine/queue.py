"""The jobs that wait: first in, first out, and each can leave from the middle at once."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Iterator

from emulator.engine.jobs import Job


class JobQueue:
    """Every operation takes the same time however many jobs wait; those that come back are few."""

    def __init__(self) -> None:
        self._jobs: OrderedDict[str, Job] = OrderedDict()
        self._returned: dict[str, Job] = {}
        self._low_priority = 0

    def __len__(self) -> int:
        return len(self._jobs) + len(self._returned)

    def __iter__(self) -> Iterator[Job]:
        yield from self._returned.values()
        yield from self._jobs.values()

    @property
    def urgent(self) -> int:
        """How many jobs wait that a worker may be started for."""
        return len(self) - self._low_priority

    def push(self, job: Job) -> None:
        self._jobs[job.job_id] = job
        self._low_priority += job.low_priority

    def put_back(self, job: Job) -> None:
        """Before the jobs that no worker had yet, in the order of submission."""
        waiting = [*self._returned.values(), job]
        self._returned = {job.job_id: job for job in sorted(waiting, key=lambda job: job.number)}
        self._low_priority += job.low_priority

    def pop(self) -> Job:
        """The job that is next. Raises `KeyError` if none waits."""
        if self._returned:
            job = self._returned.pop(next(iter(self._returned)))
        else:
            _, job = self._jobs.popitem(last=False)
        self._low_priority -= job.low_priority
        return job

    def discard(self, job: Job) -> None:
        if self._jobs.pop(job.job_id, None) or self._returned.pop(job.job_id, None):
            self._low_priority -= job.low_priority
