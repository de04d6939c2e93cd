"""What fault rules do to jobs and workers, of both kinds: one that is called, and one that asks for its jobs."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator

import pytest

from emulator.engine.clock import VirtualClock
from emulator.engine.faults import Effect, FaultRule, Faults
from emulator.engine.jobs import Attempt, Job, JobState
from emulator.engine.policy import JobPolicy, PoolLimits
from emulator.engine.pool import WorkerPool
from emulator.engine.pulled import PulledWorker
from emulator.engine.worker import Worker

SILENCE_S = 40.0


class Called:
    """A worker in this process. What it has, it serves when the test says so."""

    def __init__(self, bench: Bench) -> None:
        self.bench = bench

    async def start(self) -> None: ...

    async def run(self, attempt: Attempt) -> None:
        self.bench.began.append(attempt)
        gate = self.bench.gates.setdefault(attempt, asyncio.Event())
        attempt.add_chunk(f"chunk of {attempt.worker_id}")
        await gate.wait()
        attempt.complete(f"result of {attempt.worker_id}")

    async def stop(self) -> None: ...


class Remote(PulledWorker):
    """A worker that asks, and reports as RunPod's worker API does."""

    def __init__(self, worker_id: str, bench: Bench) -> None:
        super().__init__(worker_id, bench.clock, silence_s=SILENCE_S)
        self.is_killed = False
        self.bench, self.loop = bench, asyncio.create_task(self._ask())

    async def _ask(self) -> None:
        serving: set[asyncio.Task[None]] = set()
        try:
            while not self._is_over:
                for attempt in await self.take(2, 1_000):
                    serving.add(asyncio.create_task(self._work(attempt)))
        finally:
            for task in serving:
                task.cancel()

    async def _work(self, attempt: Attempt) -> None:
        self.bench.began.append(attempt)
        gate = self.bench.gates.setdefault(attempt, asyncio.Event())
        attempt.add_chunk(f"chunk of {attempt.worker_id}")
        await gate.wait()
        self.report(attempt.job_id)
        attempt.complete(f"result of {attempt.worker_id}")

    async def kill(self) -> None:
        self.is_killed = True

    async def stop(self) -> None:
        await super().stop()
        self.loop.cancel()


class Bench:
    """A pool under rules, and the gate of every attempt that a worker has begun."""

    def __init__(self, kind: str) -> None:
        self.clock, self.faults, self.kind = VirtualClock(), Faults(), kind
        self.workers: list[Worker] = []
        self.began: list[Attempt] = []
        self.gates: dict[Attempt, asyncio.Event] = {}
        limits = PoolLimits(max_workers=2, concurrency=2, idle_timeout_s=9_999)
        policy = JobPolicy(silence_s=SILENCE_S)
        self.pool = WorkerPool(self._make, limits, self.clock, name="ep", policy=policy, faults=self.faults)

    def _make(self, worker_id: str) -> Worker:
        self.workers.append(Called(self) if self.kind == "called" else Remote(worker_id, self))
        return self.workers[-1]

    def rule(self, effect: Effect, **rule: object) -> None:
        self.faults.set([FaultRule(effect, **{"count": 1, **rule})])  # type: ignore[arg-type]

    async def submit(self, job_id: str = "a", timeout_s: float = 600) -> Job:
        job = Job(job_id, {}, self.clock, execution_timeout_s=timeout_s)
        self.pool.submit(job)
        await self.clock.advance(0)
        return job

    async def finish(self, number: int = -1) -> None:
        self.gates[self.began[number]].set()
        await self.clock.advance(0)


@pytest.fixture(params=["called", "asking"])
async def bench(request: pytest.FixtureRequest) -> AsyncIterator[Bench]:
    bench = Bench(request.param)
    yield bench
    await bench.pool.close()
    await asyncio.gather(*(w.loop for w in bench.workers if isinstance(w, Remote)), return_exceptions=True)


async def test_a_stuck_job_waits_while_others_pass_it(bench: Bench) -> None:
    bench.rule(Effect.STUCK, match="ep/a", value=60)
    stuck, other = await bench.submit("a"), await bench.submit("b")
    await bench.clock.advance(59)
    assert (stuck.state, other.state, bench.pool.queued) == (JobState.QUEUED, JobState.RUNNING, 1)
    await bench.clock.advance(1)
    await bench.finish()
    assert (stuck.state, bench.pool.queued) == (JobState.COMPLETED, 0)


async def test_a_job_stuck_for_ever_can_still_be_cancelled_and_purged(bench: Bench) -> None:
    bench.rule(Effect.STUCK, count=2)
    jobs = [await bench.submit(name) for name in "ab"]
    await bench.clock.advance(86_400)
    assert bench.workers == []
    assert jobs[0].cancel()
    assert bench.pool.purge() == 1
    assert (bench.pool.queued, jobs[1].state) == (0, JobState.CANCELLED)


async def test_without_capacity_jobs_wait_and_the_worker_shows_as_throttled(bench: Bench) -> None:
    bench.rule(Effect.THROTTLE, match="ep/worker-1", value=300)
    job = await bench.submit()
    await bench.clock.advance(299)
    assert (bench.pool.workers(), job.state) == ({"throttled": 1}, JobState.QUEUED)
    await bench.clock.advance(1)
    assert (bench.pool.workers(), job.started_at) == ({"running": 1}, 300)


async def test_a_job_delivered_twice_streams_twice_and_ends_once(bench: Bench) -> None:
    bench.rule(Effect.DUPLICATE)
    job = await bench.submit()
    assert [attempt.worker_id for attempt in bench.began] == ["worker-1", "worker-1"]
    assert job.drain() == ["chunk of worker-1"] * 2
    await bench.finish(1)
    await bench.finish(0)
    assert (job.state, job.output, job.retries) == (JobState.COMPLETED, "result of worker-1", 0)
    assert (bench.pool.running, bench.pool.finished[JobState.COMPLETED]) == (0, 1)


async def test_the_second_delivery_goes_to_another_worker_if_there_is_one(bench: Bench) -> None:
    bench.pool.limits = PoolLimits(min_workers=2, max_workers=2, concurrency=2)
    bench.pool.open()
    await bench.clock.advance(0)
    assert bench.pool.workers() == {"idle": 2}
    bench.rule(Effect.DUPLICATE)
    job = await bench.submit()
    assert {attempt.worker_id for attempt in bench.began} == {"worker-1", "worker-2"}
    await bench.finish(1)
    assert (job.state, job.output) == (JobState.COMPLETED, f"result of {bench.began[1].worker_id}")
    if bench.kind == "called":  # its second run was cancelled; one that asks is told to stop
        assert bench.pool.workers() == {"idle": 2}


async def test_a_lost_result_is_noticed_after_the_silence_and_the_job_runs_again(bench: Bench) -> None:
    bench.rule(Effect.LOSE_RESULT)
    job = await bench.submit()
    await bench.finish()
    await bench.clock.advance(SILENCE_S - 1)
    assert (job.state, job.retries, job.has_chunks) == (JobState.RUNNING, 0, True)
    await bench.clock.advance(1)
    await bench.finish()
    assert (job.state, job.retries, len(bench.began)) == (JobState.COMPLETED, 1, 2)


async def test_a_lost_result_does_not_outlive_the_jobs_time(bench: Bench) -> None:
    bench.rule(Effect.LOSE_RESULT)
    job = await bench.submit(timeout_s=SILENCE_S - 1)
    await bench.clock.advance(1)
    await bench.finish()
    await bench.clock.advance(SILENCE_S - 2)
    assert (job.state, job.error) == (JobState.FAILED, "the job ran longer than 39 s")


@pytest.mark.parametrize("effect", [Effect.KILL_BEFORE, Effect.KILL_DURING, Effect.OUT_OF_MEMORY])
async def test_a_worker_that_dies_is_killed_and_its_job_runs_elsewhere(bench: Bench, effect: Effect) -> None:
    bench.rule(effect)
    job = await bench.submit()
    assert (job.state, job.retries, job.worker_id) == (JobState.RUNNING, 1, "worker-2")
    assert [worker.is_killed for worker in bench.workers if isinstance(worker, Remote)] in ([], [True, False])
    await bench.finish()
    assert job.state is JobState.COMPLETED


async def test_a_job_fails_in_the_middle_and_its_worker_lives(bench: Bench) -> None:
    bench.rule(Effect.FAIL_DURING)
    job, other = await bench.submit("a"), await bench.submit("b")
    assert (job.state, job.error, job.has_chunks) == (JobState.FAILED, "a fault rule, during the job", True)
    await bench.finish()
    assert (other.state, other.worker_id, len(bench.workers)) == (JobState.COMPLETED, "worker-1", 1)


async def test_a_slow_start_is_waited_for(bench: Bench) -> None:
    bench.rule(Effect.SLOW_START, match="ep/worker-1", value=120)
    job = await bench.submit()
    await bench.clock.advance(119)
    assert (bench.pool.workers(), job.state) == ({"initializing": 1}, JobState.QUEUED)
    await bench.clock.advance(1)
    assert (bench.pool.workers(), job.started_at) == ({"running": 1}, 120)


async def test_memory_may_run_out_after_a_while(bench: Bench) -> None:
    bench.rule(Effect.OUT_OF_MEMORY, value=5)
    job = await bench.submit()
    await bench.clock.advance(4)
    assert job.worker_id == "worker-1"
    await bench.clock.advance(1)
    assert job.worker_id == "worker-2"


async def test_a_job_whose_workers_all_run_out_of_memory_fails_and_says_so(bench: Bench) -> None:
    bench.rule(Effect.OUT_OF_MEMORY, count=2)
    job = await bench.submit()
    assert job.error == "the worker was lost: a fault rule, out of memory (exit code 137)"


async def test_a_job_that_another_worker_still_runs_is_not_run_again_where_one_is_lost(bench: Bench) -> None:
    bench.pool.limits = PoolLimits(min_workers=2, max_workers=2, concurrency=2)
    bench.pool.open()
    await bench.clock.advance(0)
    bench.rule(Effect.DUPLICATE)
    job = await bench.submit()
    bench.pool.lose(bench.began[0].worker_id, "killed")
    await bench.clock.advance(0)
    assert (job.state, job.retries) == (JobState.RUNNING, 0)
    await bench.finish(1)
    assert (job.state, job.output) == (JobState.COMPLETED, f"result of {bench.began[1].worker_id}")
