"""The jobs of one endpoint: bounded in number and in time."""

from __future__ import annotations

from emulator.engine.clock import Clock, Timer
from emulator.engine.jobs import Job


class StoreFull(Exception):
    """As many jobs are kept as may be, none of them over."""


class JobStore:
    """Keeps a job until its time to live is over, counted from submission, or its retention, counted from its end.

    Over `max_jobs` the longest finished ones go first.
    """

    def __init__(self, clock: Clock, *, max_jobs: int = 20_000) -> None:
        self._clock, self._max_jobs = clock, max_jobs
        self._jobs: dict[str, Job] = {}
        self._finished: dict[str, None] = {}
        self._timers: dict[str, Timer] = {}

    def __len__(self) -> int:
        return len(self._jobs)

    def add(self, job: Job, *, ttl_s: float, retention_s: float) -> None:
        """Raises `StoreFull`."""
        if len(self._jobs) >= self._max_jobs:
            if not self._finished:
                raise StoreFull(f"{len(self._jobs)} jobs are waiting or running")
            self.delete(next(iter(self._finished)))
        self._jobs[job.job_id] = job
        self._timers[job.job_id] = self._clock.call_later(ttl_s, lambda: self.expire(job))
        job.on_final.append(lambda _: self._keep(job, retention_s))

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
        if timer := self._timers.pop(job_id, None):
            timer.cancel()

    def revive(self, job: Job, *, ttl_s: float) -> None:
        """A finished job runs again: its retention no longer counts."""
        self._finished.pop(job.job_id, None)
        self._set_timer(job, ttl_s)

    def _keep(self, job: Job, retention_s: float) -> None:
        if job.job_id in self._jobs:
            self._finished[job.job_id] = None
            self._set_timer(job, retention_s)

    def _set_timer(self, job: Job, delay_s: float) -> None:
        self._timers[job.job_id].cancel()
        self._timers[job.job_id] = self._clock.call_later(delay_s, lambda: self.expire(job))
