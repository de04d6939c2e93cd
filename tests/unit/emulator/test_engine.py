import asyncio
from collections.abc import AsyncIterator, Callable

import pytest

from emulator.engine.clock import VirtualClock, sleep
from emulator.engine.jobs import Job, JobState
from emulator.engine.pool import PoolLimits, WorkerPool
from emulator.engine.slot import Slot
from emulator.engine.store import JobStore, StoreFull
from emulator.engine.worker import WorkerLost


@pytest.fixture
def clock() -> VirtualClock:
    return VirtualClock()


class FakeWorker:
    """Starts after `cold_start_s`; each job waits until it is let go, and may take the worker with it."""

    made: list["FakeWorker"]

    def __init__(self, worker_id: str, clock: VirtualClock, cold_start_s: float = 0.0) -> None:
        self.worker_id, self.clock, self.cold_start_s = worker_id, clock, cold_start_s
        self.gates: dict[str, asyncio.Future[object]] = {}
        self.cancelled: list[str] = []
        self.is_stopped = False
        self.start_error: Exception | None = None

    async def start(self) -> None:
        if self.start_error:
            raise self.start_error
        await sleep(self.clock, self.cold_start_s)

    async def run(self, job: Job) -> None:
        gate = self.gates[job.job_id] = asyncio.get_running_loop().create_future()
        try:
            job.complete(await gate)
        except asyncio.CancelledError:
            self.cancelled.append(job.job_id)
            raise

    async def stop(self) -> None:
        self.is_stopped = True


class Harness:
    def __init__(self, clock: VirtualClock, limits: PoolLimits, cold_start_s: float = 0.0) -> None:
        self.clock, self.workers = clock, list[FakeWorker]()
        self.start_error: Exception | None = None
        self.cold_start_s = cold_start_s
        self.pool = WorkerPool(self._make, limits, clock)

    def _make(self, worker_id: str) -> FakeWorker:
        worker = FakeWorker(worker_id, self.clock, self.cold_start_s)
        worker.start_error = self.start_error
        self.workers.append(worker)
        return worker

    def submit(self, job_id: str, **options: object) -> Job:
        job = Job(job_id, {}, self.clock, **options)  # type: ignore[arg-type]
        self.pool.submit(job)
        return job

    def serving(self) -> list[str]:
        return [job_id for worker in self.workers for job_id, gate in worker.gates.items() if not gate.done()]

    def finish(self, job_id: str, output: object = "sound") -> None:
        for worker in self.workers:
            gate = worker.gates.get(job_id)
            if gate and not gate.done():
                gate.set_result(output)

    def kill(self, worker: FakeWorker) -> None:
        for gate in worker.gates.values():
            if not gate.done():
                gate.set_exception(WorkerLost("killed"))


@pytest.fixture
async def harness(clock: VirtualClock) -> AsyncIterator[Callable[..., Harness]]:
    made: list[Harness] = []

    def make(cold_start_s: float = 0.0, **limits: object) -> Harness:
        made.append(Harness(clock, PoolLimits(**limits), cold_start_s))  # type: ignore[arg-type]
        return made[-1]

    yield make
    for each in made:
        await each.pool.close()
        assert all(worker.is_stopped for worker in each.workers)


async def test_the_clock_fires_timers_in_order_and_those_they_set_up(clock: VirtualClock) -> None:
    fired: list[tuple[str, float]] = []

    def first() -> None:
        fired.append(("first", clock.now()))
        clock.call_later(5, lambda: fired.append(("chained", clock.now())))

    clock.call_later(20, lambda: fired.append(("last", clock.now())))
    clock.call_later(10, first)
    clock.call_later(1, lambda: fired.append(("cancelled", clock.now()))).cancel()
    await clock.advance(86_400)
    assert fired == [("first", 10), ("chained", 15), ("last", 20)]
    assert clock.now() == 86_400


async def test_the_clock_forgets_timers_that_were_cancelled(clock: VirtualClock) -> None:
    fired: list[int] = []
    kept = [clock.call_later(number, lambda number=number: fired.append(number)) for number in range(1, 11)]
    for _ in range(10_000):
        clock.call_later(86_400, lambda: fired.append(0)).cancel()
        clock.call_later(5.5, lambda: fired.append(0)).cancel()
    assert len(clock._timers) < 500
    kept[3].cancel()
    await clock.advance(86_400)
    assert fired == [1, 2, 3, 5, 6, 7, 8, 9, 10]
    kept[0].cancel()
    assert len(clock._timers) == 0


@pytest.mark.parametrize("end", ["complete", "fail", "cancel", "time_out"])
async def test_a_job_reaches_exactly_one_terminal_state(clock: VirtualClock, end: str) -> None:
    job = Job("a", {}, clock)
    ended: list[JobState] = []
    job.on_final.append(lambda job: ended.append(job.state))
    assert job.start("w")
    ends = {
        "complete": lambda: job.complete("x"),
        "fail": lambda: job.fail("x"),
        "cancel": job.cancel,
        "time_out": lambda: job.time_out("x"),
    }
    assert ends[end]()
    state = job.state
    for late in ends.values():
        assert not late()
    job.add_chunk("late")
    job.progress("late")
    assert not job.requeue()
    assert (job.state, job.has_chunks, ended) == (state, False, [state])


async def test_chunks_are_handed_out_once(clock: VirtualClock) -> None:
    job = Job("a", {}, clock)
    job.start("w")
    job.add_chunk(1)
    job.add_chunk(2)
    assert (job.drain(), job.drain()) == ([1, 2], [])


async def test_waiting_for_a_change_ends_with_it_or_with_the_time(clock: VirtualClock) -> None:
    job = Job("a", {}, clock)
    waiting = asyncio.create_task(job.changed(10))
    await clock.advance(9)
    assert not waiting.done()
    job.start("w")
    assert await waiting
    waiting = asyncio.create_task(job.changed(10))
    await clock.advance(10)
    assert not await waiting


async def test_a_cold_start_happens_once_then_the_worker_stays_warm(harness: Callable[..., Harness]) -> None:
    h = harness(cold_start_s=30, max_workers=1, idle_timeout_s=60)
    job = h.submit("a")
    await h.clock.advance(29)
    assert (job.state, h.pool.workers()) == (JobState.QUEUED, {"initializing": 1})
    await h.clock.advance(1)
    assert h.serving() == ["a"]
    assert (job.started_at, job.worker_id) == (30, "worker-1")
    h.finish("a")
    await h.clock.advance(59)
    h.submit("b")
    await h.clock.advance(0)
    assert h.serving() == ["b"]
    assert len(h.workers) == 1


async def test_an_idle_worker_is_stopped_but_not_below_the_minimum(harness: Callable[..., Harness]) -> None:
    h = harness(min_workers=1, max_workers=2, idle_timeout_s=60)
    h.pool.open()
    await h.clock.advance(0)
    h.submit("a")
    h.submit("b")
    await h.clock.advance(0)
    h.finish("a")
    h.finish("b")
    await h.clock.advance(0)
    assert h.pool.workers() == {"idle": 2}
    await h.clock.advance(61)
    assert h.pool.workers() == {"idle": 1}
    assert sum(worker.is_stopped for worker in h.workers) == 1


async def test_workers_are_added_up_to_the_maximum_and_jobs_served_in_order(harness: Callable[..., Harness]) -> None:
    h = harness(max_workers=2, concurrency=2)
    jobs = [h.submit(name) for name in "abcdef"]
    await h.clock.advance(0)
    assert len(h.workers) == 2
    assert sorted(h.serving()) == ["a", "b", "c", "d"]
    h.finish("b")
    await h.clock.advance(0)
    assert "e" in h.serving()
    assert jobs[5].state is JobState.QUEUED
    assert max(sum(not gate.done() for gate in w.gates.values()) for w in h.workers) == 2


async def test_a_cancelled_job_stops_its_worker_or_never_starts(harness: Callable[..., Harness]) -> None:
    h = harness(max_workers=1)
    running, queued = h.submit("a"), h.submit("b")
    await h.clock.advance(0)
    assert h.pool.cancel(running)
    assert h.pool.cancel(queued)
    assert not h.pool.cancel(queued)
    await h.clock.advance(0)
    assert h.workers[0].cancelled == ["a"]
    assert h.serving() == []
    assert (h.pool.queued, h.pool.running, h.pool.workers()) == (0, 0, {"idle": 1})
    assert h.pool.finished[JobState.CANCELLED] == 2


async def test_a_job_whose_worker_dies_runs_once_more_then_fails(harness: Callable[..., Harness]) -> None:
    h = harness(max_workers=1, concurrency=2)
    job, neighbour = h.submit("a"), h.submit("b")
    await h.clock.advance(0)
    h.kill(h.workers[0])
    await h.clock.advance(0)
    assert len(h.workers) == 2
    assert sorted(h.serving()) == ["a", "b"]
    h.finish("b")
    h.kill(h.workers[1])
    await h.clock.advance(0)
    assert (job.state, job.error, job.retries) == (JobState.FAILED, "the worker was lost: killed", 1)
    assert neighbour.state is JobState.COMPLETED


async def test_a_worker_that_cannot_start_fails_the_jobs_that_waited_for_it(harness: Callable[..., Harness]) -> None:
    h = harness(max_workers=1)
    h.start_error = OSError("no weights")
    job = h.submit("a")
    await h.clock.advance(0)
    assert (job.state, job.error) == (
        JobState.FAILED,
        "the worker failed to start 2 times: no weights",
    )
    assert len(h.workers) == 2
    h.start_error = None
    h.submit("b")
    await h.clock.advance(0)
    assert h.serving() == ["b"]


async def test_a_job_over_its_execution_time_fails_and_frees_its_worker(harness: Callable[..., Harness]) -> None:
    h = harness(max_workers=1)
    job = h.submit("a", execution_timeout_s=600)
    await h.clock.advance(599)
    assert job.state is JobState.RUNNING
    await h.clock.advance(1)
    assert (job.state, job.error) == (JobState.FAILED, "the job ran longer than 600 s")
    assert h.workers[0].cancelled == ["a"]


async def test_purging_leaves_what_runs(harness: Callable[..., Harness]) -> None:
    h = harness(max_workers=1)
    running = h.submit("a")
    h.submit("b")
    h.submit("c")
    await h.clock.advance(0)
    assert h.pool.purge() == 2
    assert (h.pool.queued, running.state) == (0, JobState.RUNNING)


async def test_low_priority_starts_a_worker_only_where_there_is_none(harness: Callable[..., Harness]) -> None:
    h = harness(max_workers=3)
    for name in "abc":
        h.submit(name, low_priority=True)
    await h.clock.advance(0)
    assert len(h.workers) == 1


async def test_what_the_workers_did_is_on_record(harness: Callable[..., Harness]) -> None:
    h = harness(max_workers=1, idle_timeout_s=5, cold_start_s=2)
    h.submit("a")
    await h.clock.advance(3)
    h.finish("a")
    await h.clock.advance(10)
    assert [(entry.at_s, entry.event, entry.job_id) for entry in h.pool.log] == [
        (0, "starting", None),
        (2, "ready", None),
        (2, "job", "a"),
        (3, "done", "a"),
        (8, "idle", None),
        (8, "stopped", None),
    ]


async def test_closing_cancels_whatever_was_left(clock: VirtualClock) -> None:
    h = Harness(clock, PoolLimits(max_workers=1))
    running, queued = h.submit("a"), h.submit("b")
    await clock.advance(0)
    assert h.serving() == ["a"]
    await h.pool.close()
    assert {running.state, queued.state} == {JobState.CANCELLED}
    assert h.workers[0].is_stopped


def finished(job: Job) -> Job:
    job.start("w")
    job.complete("x")
    return job


async def test_jobs_are_kept_for_their_time_to_live_or_their_retention(clock: VirtualClock) -> None:
    store = JobStore(clock)
    waiting, done = Job("waiting", {}, clock), Job("done", {}, clock)
    store.add(waiting, ttl_s=86_400, retention_s=60)
    store.add(done, ttl_s=86_400, retention_s=60)
    finished(done)
    await clock.advance(59)
    assert store.get("done") is done
    await clock.advance(1)
    assert store.get("done") is None
    await clock.advance(86_400)
    assert (store.get("waiting"), waiting.state, len(store)) == (None, JobState.CANCELLED, 0)


async def test_a_full_store_forgets_finished_jobs_first_and_refuses_when_there_are_none(clock: VirtualClock) -> None:
    store = JobStore(clock, max_jobs=2)
    first, second = Job("1", {}, clock), Job("2", {}, clock)
    for job in (first, second):
        store.add(job, ttl_s=100, retention_s=100)
    finished(second)
    store.add(Job("3", {}, clock), ttl_s=100, retention_s=100)
    assert (store.get("1"), store.get("2")) == (first, None)
    with pytest.raises(StoreFull):
        store.add(Job("4", {}, clock), ttl_s=100, retention_s=100)


async def test_a_cancelled_job_is_not_running_while_its_worker_cleans_up(clock: VirtualClock) -> None:
    cleaned = asyncio.Event()

    class Tidy(FakeWorker):
        async def run(self, job: Job) -> None:
            try:
                await asyncio.Event().wait()
            finally:
                await cleaned.wait()

    pool = WorkerPool(lambda worker_id: Tidy(worker_id, clock), PoolLimits(max_workers=1), clock)
    job = Job("a", {}, clock)
    pool.submit(job)
    await clock.advance(0)
    assert pool.running == 1
    pool.cancel(job)
    await clock.advance(0)
    assert (pool.running, pool.workers()) == (0, {"running": 1})
    cleaned.set()
    await clock.advance(0)
    assert pool.workers() == {"idle": 1}
    await pool.close()


async def test_ten_thousand_jobs_that_wait_are_not_looked_through_and_nor_are_the_busy_workers(
    harness: Callable[..., Harness], monkeypatch: pytest.MonkeyPatch
) -> None:
    h = harness(max_workers=20)
    for number in range(20):
        h.submit(f"busy {number}")
    await h.clock.advance(0)
    assert len(h.serving()) == 20
    looks: list[str] = []
    room = Slot.room
    monkeypatch.setattr(
        Slot, "room", lambda slot, concurrency: (looks.append(slot.worker_id), room(slot, concurrency))[1]
    )
    jobs = [h.submit(str(number)) for number in range(10_000)]
    assert (h.pool.queued, h.pool.is_full) == (10_000, True)
    for job in jobs[100:]:
        job.cancel()
    assert h.pool.queued == 100
    assert len(looks) <= 20  # once each, at most, to learn that it is full
    looks.clear()
    h.finish("busy 7")
    await h.clock.advance(0)
    assert (jobs[0].state, jobs[0].worker_id) == (JobState.RUNNING, "worker-8")
    assert set(looks) == {"worker-8"}


async def test_more_room_than_before_is_used(harness: Callable[..., Harness]) -> None:
    h = harness(max_workers=1)
    for name in "abc":
        h.submit(name)
    await h.clock.advance(0)
    h.pool.limits = PoolLimits(max_workers=1, concurrency=2)
    h.submit("d")
    await h.clock.advance(0)
    assert h.serving() == ["a", "b"]


async def test_a_lowered_minimum_lets_workers_go_that_were_idle_before(
    harness: Callable[..., Harness], clock: VirtualClock
) -> None:
    pool = harness(min_workers=2, max_workers=2, idle_timeout_s=5).pool
    pool.open()
    await clock.advance(60)
    assert pool.workers() == {"idle": 2}
    pool.limits = PoolLimits(min_workers=0, max_workers=2, idle_timeout_s=5)
    await clock.advance(4)
    assert pool.workers() == {"idle": 2}
    await clock.advance(1)
    assert pool.workers() == {}
