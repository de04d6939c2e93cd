"""Deadlines: the job has its own, and the cold start before it another. Waits of minutes, by a clock that jumps."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncGenerator

import httpx
import pytest

from tests.jumping_loop import run_jumping
from tests.unit.gateway.test_processors import DONE, audio, context
from yapit.contracts import Event, SynthesisJob, SynthesisParameters, parse_event
from yapit.errors import SynthesisTimeout
from yapit.gateway.processors.tts.base import BaseTTSProcessor
from yapit.gateway.processors.tts.runpod import RunpodProcessor
from yapit.gateway.routes import Route

COLD_START_S, DEADLINE_S = 300.0, 30.0


def job(cold_start_s: float = COLD_START_S) -> SynthesisJob:
    return SynthesisJob("req_1", "tone", SynthesisParameters(text="Hi.", voice="any"), DEADLINE_S, cold_start_s)


class Slow(BaseTTSProcessor):
    """Waits before each event."""

    waits_s: tuple[float, ...] = ()

    async def _events(self, job: SynthesisJob) -> AsyncGenerator[Event, None]:
        for number, wait_s in enumerate(self.waits_s):
            await asyncio.sleep(wait_s)
            yield parse_event(DONE if number == len(self.waits_s) - 1 else audio(number))

    async def is_ready(self) -> bool:
        return True


def spoken_at(waits_s: tuple[float, ...], *, reading_s: float = 0.0, cold_start_s: float = COLD_START_S) -> float:
    """Seconds until such a job is over, read by somebody who takes `reading_s` over each event."""

    async def listen() -> float:
        processor = Slow(Route(slug="tone", processor="x"), context(lambda _: httpx.Response(200)))
        processor.waits_s = waits_s
        async for _ in processor.stream(job(cold_start_s)):
            await asyncio.sleep(reading_s)
        return asyncio.get_running_loop().time()

    return run_jumping(listen())


def test_what_a_cold_start_takes_is_not_taken_from_the_job() -> None:
    assert spoken_at((299, 29, 0.5)) == pytest.approx(328.5)


def test_beyond_its_budget_a_cold_start_takes_from_the_job() -> None:
    assert spoken_at((320, 9, 0.5)) == pytest.approx(329.5)
    with pytest.raises(SynthesisTimeout, match=r"did not finish within 30 s"):
        spoken_at((320, 11))


def test_a_job_that_begins_at_once_gets_nothing_of_the_cold_starts_budget() -> None:
    with pytest.raises(SynthesisTimeout, match=r"did not finish within 30 s"):
        spoken_at((0, 31))


def test_a_job_that_never_begins_ends_with_both() -> None:
    with pytest.raises(SynthesisTimeout, match=r"did not begin to speak within 330 s \(300 of them for a cold start\)"):
        spoken_at((331,))


def test_without_a_cold_start_there_is_one_deadline() -> None:
    with pytest.raises(SynthesisTimeout, match="did not finish within 30 s"):
        spoken_at((31,), cold_start_s=0)


def test_a_slow_reader_loses_nothing() -> None:
    assert spoken_at((1, 1, 1), reading_s=1_000) == pytest.approx(3_003)


def test_runpod_lets_go_of_a_job_when_we_do() -> None:
    """Both limits of the policy are what the client waits, the cold start's budget included."""
    policies = []

    def api(request: httpx.Request) -> httpx.Response:
        if request.url.path.endswith("/run"):
            policies.append(json.loads(request.content)["policy"])
            return httpx.Response(200, json={"id": "job-1-u1", "status": "IN_QUEUE"})
        return httpx.Response(200, json={"status": "COMPLETED", "stream": [{"output": audio(0)}, {"output": DONE}]})

    async def speak() -> None:
        processor = RunpodProcessor(Route(slug="tone", processor="x", runpod_endpoint_id="ep"), context(api))
        async for _ in processor.stream(job()):
            pass

    run_jumping(speak())
    assert policies == [{"executionTimeout": 330_000, "ttl": 330_000}]
