"""The jobs that wait: first in, first out, and each can leave from the middle at once."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Iterator

from emulator.engine.jobs import Job


class JobQueue:
    """Every operation takes the same time however many jobs wait; those that come back are few.

    A job that is withheld waits, and is not given out.
    """

    def __init__(self) -> None:
        self._jobs: OrderedDict[str, Job] = OrderedDict()
        self._returned: dict[str, Job] = {}
        self._withheld: dict[str, Job] = {}
        self._low_priority = 0

    def __len__(self) -> int:
        return self.ready + len(self._withheld)

    def __iter__(self) -> Iterator[Job]:
        yield from self._returned.values()
        yield from self._jobs.values()
        yield from self._withheld.values()

    @property
    def ready(self) -> int:
        """How many jobs can be given out."""
        return len(self._jobs) + len(self._returned)

    @property
    def urgent(self) -> int:
        """How many jobs wait that a worker may be started for."""
        return self.ready - self._low_priority

    def push(self, job: Job) -> None:
        self._jobs[job.job_id] = job
        self._low_priority += job.low_priority

    def withhold(self, job: Job) -> None:
        self._withheld[job.job_id] = job

    def release(self, job: Job) -> None:
        """A withheld job, unless it has left, becomes the last of those that can be given out."""
        if self._withheld.pop(job.job_id, None):
            self.push(job)

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
        self._withheld.pop(job.job_id, None)
        if self._jobs.pop(job.job_id, None) or self._returned.pop(job.job_id, None):
            self._low_priority -= job.low_priority
