"""Item 28 of the checklist: 429 above RunPod's rate limits, where they are asked for."""

from __future__ import annotations

import pytest

from emulator.engine.clock import VirtualClock
from emulator.runpod import facts
from emulator.runpod.limits import RateLimiter, RunpodLimits, TooManyRequests
from tests.conformance.cloud import Cloud


async def test_28_over_the_requests_per_window_is_429() -> None:
    cloud = Cloud(limits=RunpodLimits(rates={"purge-queue": (2, None)}))
    answers = [(await cloud.http.post("/purge-queue")).status_code for _ in range(3)]
    assert answers == [200, 200, 429]
    assert (await cloud.http.get("/health")).status_code == 200
    await cloud.clock.advance(9.9)
    assert (await cloud.http.post("/purge-queue")).status_code == 429
    await cloud.clock.advance(0.1)
    assert (await cloud.http.post("/purge-queue")).status_code == 200
    await cloud.close()


async def test_28_over_the_requests_at_once_is_429_until_one_is_answered() -> None:
    cloud = Cloud(limits=RunpodLimits(rates={"stream": (100, 1)}))
    job_id = await cloud.run()
    held = await cloud.waiting("GET", f"/stream/{job_id}")
    refused = await cloud.http.get(f"/stream/{job_id}")
    assert (refused.status_code, refused.headers["retry-after"]) == (429, "1")
    await cloud.say(job_id, "a")
    assert (await held).status_code == 200
    await cloud.say(job_id, "b")
    assert (await cloud.http.get(f"/stream/{job_id}")).status_code == 200
    await cloud.close()


async def test_28_over_the_queue_limit_no_job_is_taken() -> None:
    cloud = Cloud(limits=RunpodLimits(rates={}, min_queue=1, queue_per_max_worker=2))
    for _ in range(4):  # one runs, three wait
        await cloud.run()
    assert (await cloud.http.post("/run", json={"input": 1})).status_code == 429
    assert len(cloud.endpoint.jobs) == 4
    await cloud.close()


async def test_28_there_are_none_unless_asked_for(cloud: Cloud) -> None:
    assert {(await cloud.http.post("/purge-queue")).status_code for _ in range(5)} == {200}


@pytest.mark.parametrize(("operation", "requests", "at_once"), [("run", 1_000, 200), ("cancel", 100, 20)])
def test_28_the_documented_numbers_are_the_default(operation: str, requests: int, at_once: int) -> None:
    assert RunpodLimits().rates[operation] == facts.RATE_LIMITS[operation] == (requests, at_once)
    limiter = RateLimiter(RunpodLimits(), VirtualClock())
    for _ in range(requests):
        with limiter.admit("ep", operation):
            pass
    with limiter.admit("other", operation):
        pass
    with pytest.raises(TooManyRequests, match=operation), limiter.admit("ep", operation):
        pass
