"""One job, several runs: what an earlier worker still sends, and what becomes of its jobs."""

import asyncio

import pytest

from emulator.engine.clock import VirtualClock
from emulator.engine.jobs import Attempt, Job, JobState
from emulator.engine.pool import PoolLimits, WorkerLost, WorkerPool
from emulator.engine.queue import JobQueue
from emulator.engine.store import JobStore, StoreFull


@pytest.fixture
def clock() -> VirtualClock:
    return VirtualClock()


def test_an_attempt_that_is_over_says_nothing(clock: VirtualClock) -> None:
    job = Job("a", {}, clock)
    first = job.start("w1")
    assert first is not None
    assert job.start("w2") is None
    assert job.requeue()
    second = job.start("w2")
    first.add_chunk("late")
    first.progress("late")
    assert not first.complete("late")
    assert not first.fail("late")
    assert (job.state, job.has_chunks, job.output) == (JobState.RUNNING, False, None)
    assert second is not None
    assert second.complete("sound")
    assert not second.fail("late")


class PolledWorker:
    """As a remote process: it takes attempts when it polls and posts results from elsewhere."""

    def __init__(self) -> None:
        self.first_poll = asyncio.Event()
        self.offered: asyncio.Queue[Attempt] = asyncio.Queue()
        self.gone: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self.stop_error: Exception | None = None

    async def start(self) -> None:
        await self.first_poll.wait()

    async def poll(self) -> Attempt:
        self.first_poll.set()
        return await self.offered.get()

    async def run(self, attempt: Attempt) -> None:
        self.offered.put_nowait(attempt)
        await asyncio.shield(self.gone)
        raise WorkerLost("no ping")

    async def stop(self) -> None:
        self.gone.cancel()
        if self.stop_error:
            raise self.stop_error


def polled_pool(clock: VirtualClock, **limits: int) -> tuple[WorkerPool, list[PolledWorker]]:
    workers: list[PolledWorker] = []

    def make(_: str) -> PolledWorker:
        workers.append(PolledWorker())
        return workers[-1]

    return WorkerPool(make, PoolLimits(**limits), clock), workers


async def test_a_worker_that_polls_fits(clock: VirtualClock) -> None:
    pool, workers = polled_pool(clock, max_workers=1)
    job = Job("a", "input", clock)
    pool.submit(job)
    await clock.advance(0)
    assert job.state is JobState.QUEUED
    attempt = await workers[0].poll()
    assert (attempt.job_id, attempt.input, job.state) == ("a", "input", JobState.RUNNING)
    attempt.complete("sound")
    await clock.advance(0)
    assert (job.output, pool.running, pool.workers()) == ("sound", 0, {"idle": 1})
    await pool.close()


async def test_the_jobs_of_a_lost_worker_run_again_in_order(clock: VirtualClock) -> None:
    pool, workers = polled_pool(clock, max_workers=1, concurrency=2)
    jobs = [Job(name, {}, clock) for name in "abc"]
    for job in jobs:
        pool.submit(job)
    await clock.advance(0)
    late = [await workers[0].poll(), await workers[0].poll()]
    workers[0].gone.set_result(None)
    await clock.advance(0)
    assert len(workers) == 2
    again = [await workers[1].poll(), await workers[1].poll()]
    assert [attempt.job_id for attempt in again] == ["a", "b"]
    assert not late[0].complete("late")
    assert again[0].complete("sound")
    assert (jobs[0].retries, pool.retried) == (1, 2)
    await pool.close()


async def test_workers_are_started_for_what_waits_by_what_each_serves_at_once(clock: VirtualClock) -> None:
    pool, workers = polled_pool(clock, max_workers=9, concurrency=4)
    for number in range(8):
        pool.submit(Job(str(number), {}, clock))
    await clock.advance(0)
    assert len(workers) == 2
    workers[0].first_poll.set()
    await clock.advance(0)
    workers[0].gone.set_result(None)
    await clock.advance(0)
    assert len(workers) == 3
    await pool.close()


async def test_a_closed_pool_takes_no_job(clock: VirtualClock) -> None:
    pool, workers = polled_pool(clock, max_workers=1)
    await pool.close()
    job = Job("a", {}, clock)
    pool.submit(job)
    assert (job.state, workers, pool.queued) == (JobState.CANCELLED, [], 0)


async def test_a_worker_that_fails_to_stop_stops_nothing_else(
    clock: VirtualClock, caplog: pytest.LogCaptureFixture
) -> None:
    pool, workers = polled_pool(clock, min_workers=2, max_workers=2)
    pool.open()
    for worker in workers:
        worker.stop_error = OSError("busy")
    await pool.close()
    assert caplog.text.count("failed to stop") == 2
    assert [entry.event for entry in pool.log].count("stopped") == 2


def test_the_queue_is_first_in_first_out_and_any_job_can_leave(clock: VirtualClock) -> None:
    queue, jobs = JobQueue(), [Job(name, {}, clock, low_priority=name == "b") for name in "abcd"]
    for job in jobs:
        queue.push(job)
    assert (len(queue), queue.urgent) == (4, 3)
    queue.discard(jobs[1])
    queue.discard(jobs[1])
    assert (len(queue), queue.urgent) == (3, 3)
    for job in (jobs[3], jobs[2]):
        queue.discard(job)
        queue.put_back(job)
    assert len(queue) == 3
    assert [queue.pop().job_id for _ in range(3)] == ["c", "d", "a"]
    with pytest.raises(KeyError):
        queue.pop()


async def test_results_are_forgotten_over_the_bytes_that_may_be_kept(clock: VirtualClock) -> None:
    store, jobs = JobStore(clock, max_bytes=100), [Job(name, {}, clock) for name in "abc"]
    for job in jobs:
        store.add(job, ttl_s=60, retention_s=60, input_bytes=20)
    with pytest.raises(StoreFull, match="60 bytes"):
        store.add(Job("d", {}, clock), ttl_s=60, retention_s=60, input_bytes=50)
    for job in jobs[:2]:
        job.start("w")
        job.complete(b"x" * 30)
    assert [job.job_id for job in store.jobs()] == ["b", "c"]
    store.delete("b")
    store.add(Job("d", {}, clock), ttl_s=60, retention_s=60, input_bytes=80)
    assert [job.job_id for job in store.jobs()] == ["c", "d"]


async def test_wall_time_moves_with_the_clock() -> None:
    clock = VirtualClock(starts_at=1_700_000_000)
    await clock.advance(86_400)
    assert clock.time() == 1_700_086_400
