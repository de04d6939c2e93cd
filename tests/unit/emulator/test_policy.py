"""The provider's part: how jobs end that their workers did not end."""

from __future__ import annotations

from collections.abc import AsyncIterator

import pytest

from emulator.engine.clock import VirtualClock, sleep
from emulator.engine.jobs import Attempt, Job, JobState
from emulator.engine.policy import JobPolicy, PoolLimits
from emulator.engine.pool import WorkerPool
from emulator.engine.worker import WorkerLost

POLICY = JobPolicy(
    max_attempts=3,
    max_failed_starts=1,
    silence_s=30,
    on_lost=lambda job, reason: job.cancel(),
    on_over_time=lambda job: job.time_out("too long"),
    on_no_worker=lambda job, error: job.time_out(str(error)),
)


class Actor:
    """A worker that does what the job's input says."""

    async def start(self) -> None: ...

    async def run(self, attempt: Attempt) -> None:
        if attempt.input == "die":
            raise WorkerLost("killed")
        if attempt.input == "hang":
            await sleep(attempt.job._clock, 1_000)

    async def stop(self) -> None: ...


class Unstartable(Actor):
    async def start(self) -> None:
        raise OSError("no weights")


@pytest.fixture
def clock() -> VirtualClock:
    return VirtualClock()


@pytest.fixture
async def pool(clock: VirtualClock) -> AsyncIterator[WorkerPool]:
    pool = WorkerPool(lambda _: Actor(), PoolLimits(max_workers=1), clock, policy=POLICY)
    yield pool
    await pool.close()


async def ended(pool: WorkerPool, clock: VirtualClock, job_input: str, after_s: float = 0) -> Job:
    job = Job("a", job_input, clock, execution_timeout_s=600)
    pool.submit(job)
    await clock.advance(after_s)
    return job


async def test_a_job_runs_as_often_as_the_policy_says(pool: WorkerPool, clock: VirtualClock) -> None:
    job = await ended(pool, clock, "die")
    assert (job.state, job.retries) == (JobState.CANCELLED, 2)


async def test_a_job_over_its_time_ends_as_the_policy_says(pool: WorkerPool, clock: VirtualClock) -> None:
    job = await ended(pool, clock, "hang", 600)
    assert (job.state, job.error) == (JobState.TIMED_OUT, "too long")


async def test_a_job_of_which_nothing_is_heard_is_left_alone_for_the_silence(
    pool: WorkerPool, clock: VirtualClock
) -> None:
    job = await ended(pool, clock, "say nothing", 29)
    assert (job.state, job.retries) == (JobState.RUNNING, 0)
    await clock.advance(1)
    assert (job.state, job.retries) == (JobState.RUNNING, 1)
    await clock.advance(60)
    assert (job.state, job.retries) == (JobState.CANCELLED, 2)


async def test_a_job_that_no_worker_starts_for_ends_as_the_policy_says(clock: VirtualClock) -> None:
    pool = WorkerPool(lambda _: Unstartable(), PoolLimits(max_workers=1), clock, policy=POLICY)
    job = await ended(pool, clock, "any")
    assert (job.state, job.error) == (JobState.TIMED_OUT, "the worker failed to start 1 times: no weights")
    await pool.close()


async def test_a_buffer_of_idle_workers_is_kept_while_jobs_run(clock: VirtualClock) -> None:
    limits = PoolLimits(max_workers=5, buffer_workers=2, idle_timeout_s=10)
    pool = WorkerPool(lambda _: Actor(), limits, clock)
    assert pool.workers().total() == 0
    job = Job("job", "hang", clock)
    pool.submit(job)
    await clock.advance(30)
    assert (pool.workers()["running"], pool.workers()["idle"]) == (1, 2)
    job.cancel()
    await clock.advance(30)
    assert pool.workers().total() == 0
    await pool.close()


async def test_an_heir_takes_over_the_jobs_that_wait_and_no_worker(clock: VirtualClock) -> None:
    old, new = (WorkerPool(lambda _: Actor(), PoolLimits(max_workers=1), clock) for _ in range(2))
    running, waiting, late = (Job(name, "hang", clock) for name in ("running", "waiting", "late"))
    old.submit(running)
    old.submit(waiting)
    await clock.advance(0)
    old.hand_over(new)
    old.submit(late)
    await clock.advance(0)
    assert (running.state, waiting.state, new.queued) == (JobState.RUNNING, JobState.RUNNING, 1)
    assert (old.workers()["running"], new.workers()["running"], old.is_empty) == (1, 1, False)
    running.complete("done")
    await clock.advance(0)
    assert old.is_empty
    assert old.finished[JobState.COMPLETED] == 1
    await new.close()
