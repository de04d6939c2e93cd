"""Workers that ask for their jobs, and their place in the pool."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator

import pytest

from emulator.engine.clock import VirtualClock
from emulator.engine.jobs import Job, JobState
from emulator.engine.pool import PoolLimits, WorkerPool
from emulator.engine.pulled import PulledWorker

SILENCE_S = 40.0


class Pulled:
    def __init__(self) -> None:
        self.clock = VirtualClock()
        self.made: list[PulledWorker] = []
        self.pool = WorkerPool(self._make, PoolLimits(max_workers=2, concurrency=2, idle_timeout_s=60), self.clock)

    def _make(self, worker_id: str) -> PulledWorker:
        self.made.append(PulledWorker(worker_id, self.clock, silence_s=SILENCE_S))
        return self.made[-1]

    def submit(self, job_id: str) -> Job:
        job = Job(job_id, {}, self.clock)
        self.pool.submit(job)
        return job

    async def _taken(self, count: int, worker: int) -> list[Job]:
        return [attempt.job for attempt in await self.made[worker].take(count, 20)]

    async def asking(self, count: int = 1, worker: int = 0) -> asyncio.Task[list[Job]]:
        task = asyncio.create_task(self._taken(count, worker))
        await self.clock.advance(0)
        return task


@pytest.fixture
async def pulled() -> AsyncIterator[Pulled]:
    pulled = Pulled()
    yield pulled
    await pulled.pool.close()


async def test_a_worker_is_ready_when_it_first_asks(pulled: Pulled) -> None:
    job = pulled.submit("a")
    await pulled.clock.advance(10)
    assert pulled.pool.workers() == {"initializing": 1}
    assert (await pulled.asking()).result() == [job]
    assert pulled.pool.workers() == {"running": 1}


async def test_jobs_that_were_handed_over_a_broken_connection_run_again(pulled: Pulled) -> None:
    pulled.submit("first")
    await pulled.asking()
    asking = await pulled.asking()
    job = pulled.submit("a")
    assert job.state is JobState.RUNNING
    asking.cancel()
    await pulled.clock.advance(0)
    assert (job.state, job.retries) == (JobState.QUEUED, 1)
    assert (await pulled.asking()).result() == [job]


async def test_a_worker_that_will_ask_again_spares_another_one(pulled: Pulled) -> None:
    pulled.submit("a")
    await pulled.asking()
    pulled.submit("b")
    await pulled.clock.advance(0)
    assert len(pulled.made) == 1
    pulled.submit("c")
    await pulled.clock.advance(0)
    assert len(pulled.made) == 2


async def test_an_idle_worker_that_fell_silent_is_replaced_when_jobs_wait(pulled: Pulled) -> None:
    job = pulled.submit("a")
    (await pulled.asking()).result()[0].complete("sound")
    pulled.made[0].heard()
    waiting = pulled.submit("b")
    await pulled.clock.advance(SILENCE_S)
    assert job.state is JobState.COMPLETED
    assert len(pulled.made) == 2
    assert (await pulled.asking(worker=1)).result() == [waiting]


async def test_closing_lets_go_of_every_poll(pulled: Pulled) -> None:
    pulled.submit("a")
    await pulled.asking()
    asking = await pulled.asking(5)
    stops = asyncio.create_task(pulled.made[0].stops(20))
    await pulled.clock.advance(0)
    await pulled.pool.close()
    assert (await asking, await stops) == ([], ["a"])
    assert await pulled.made[0].take(1, 20) == []
