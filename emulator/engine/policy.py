"""What a provider does with its workers and jobs, passed to the pool, which knows no provider."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from emulator.engine.jobs import Attempt, Job


@dataclass(frozen=True, slots=True)
class PoolLimits:
    """How an endpoint scales. `concurrency` is per worker; `buffer_workers` stay idle while any job runs or waits."""

    min_workers: int = 0
    max_workers: int = 3
    buffer_workers: int = 0
    concurrency: int = 1
    idle_timeout_s: float = 5.0


class StartsFailed(Exception):
    """Workers fail to start, the last one with this as its `__cause__`."""

    def __init__(self, times: int, cause: Exception) -> None:
        super().__init__(f"the worker failed to start {times} times: {cause}")
        self.__cause__ = cause


def _fail_lost(job: Job, reason: str) -> None:
    job.fail(f"the worker was lost: {reason}")


def _fail_over_time(job: Job) -> None:
    job.fail(f"the job ran longer than {job.execution_timeout_s:g} s")


def _fail_by_rule(attempt: Attempt, reason: str) -> None:
    attempt.fail(reason)


def _fail_unserved(job: Job, error: StartsFailed) -> None:
    job.fail(str(error))


@dataclass(frozen=True, slots=True)
class JobPolicy:
    """How jobs end that their workers did not end. Each `on_…` must end the job that it is given, in the state and
    with the words that the provider has for it.
    """

    max_attempts: int = 2
    """How often a job runs whose worker is lost each time."""
    max_failed_starts: int = 2
    """How many workers in a row may fail to start before the jobs that wait for one are given up."""
    silence_s: float = 0.0
    """How long a job is left alone of whose end its worker, which runs in this process, said nothing."""
    on_lost: Callable[[Job, str], object] = _fail_lost
    """The worker of the last attempt was lost, and why."""
    on_over_time: Callable[[Job], object] = _fail_over_time
    """The job ran for its `execution_timeout_s`."""
    on_fault: Callable[[Attempt, str], object] = _fail_by_rule
    """A fault rule has the job's own code fail."""
    on_no_worker: Callable[[Job, StartsFailed], object] = _fail_unserved
    """Workers fail to start."""
