"""How long RunpodProcessor takes over a distant RunPod, by the clock: its round trips, and no interval of polling."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from typing import Any

import httpx
import pytest

from emulator.engine.clock import VirtualClock, sleep
from tests.conformance.cloud import KEY, Cloud
from tests.unit.gateway.test_processors import DONE, audio
from yapit.contracts import SynthesisJob, SynthesisParameters
from yapit.gateway.processors.tts.base import Context
from yapit.gateway.processors.tts.runpod import RunpodProcessor
from yapit.gateway.routes import Route
from yapit.gateway.settings import Settings

ROUND_TRIP_S = 0.2
STEP_S = 0.005


class Distant(httpx.AsyncBaseTransport):
    """Half a round trip to the emulator, and half of one back. Counts what is under way."""

    def __init__(self, cloud: Cloud) -> None:
        self._inner, self._clock = httpx.ASGITransport(cloud.app), cloud.clock
        self.paths: list[str] = []
        self.open = self.most_open = 0

    async def handle_async_request(self, request: httpx.Request) -> httpx.Response:
        self.paths.append(request.url.path.split("/")[3])
        self.open += 1
        self.most_open = max(self.most_open, self.open)
        try:
            await sleep(self._clock, ROUND_TRIP_S / 2)
            response = await self._inner.handle_async_request(request)
            await sleep(self._clock, ROUND_TRIP_S / 2)
            return response
        finally:
            self.open -= 1


class Measured:
    """The moments at which a job's events reached the client, on the clock."""

    def __init__(self, clock: VirtualClock, distant: Distant, moments_s: list[float]) -> None:
        self.clock, self.distant, self.moments_s = clock, distant, moments_s


async def measured(pauses_s: list[float]) -> Measured:
    """A job whose worker waits before each event, the last of which ends it."""
    cloud: Cloud

    async def handler(_: dict[str, Any]) -> AsyncIterator[dict[str, object]]:
        for number, pause_s in enumerate(pauses_s):
            await sleep(cloud.clock, pause_s)
            yield DONE if number == len(pauses_s) - 1 else audio(number)

    cloud = Cloud(handler=handler)
    distant = Distant(cloud)
    settings = Settings(_env_file=None, runpod_api_base="http://api/v2", runpod_api_key=KEY)
    processor = RunpodProcessor(Route(slug="tone", processor="x", runpod_endpoint_id="ep"), Context(settings, distant))
    moments_s: list[float] = []

    async def listen() -> None:
        job = SynthesisJob("req_1", "tone", SynthesisParameters(text="Hi.", voice="any"), 100.0)
        async for _ in processor.stream(job):
            moments_s.append(cloud.clock.now())

    listening = asyncio.create_task(listen())
    while not listening.done():
        await cloud.clock.advance(STEP_S)
    await listening
    await cloud.close()
    return Measured(cloud.clock, distant, moments_s)


@pytest.mark.parametrize("synthesis_s", [0.3, 1.0, 7.77, 35.0])
async def test_first_audio_comes_one_round_trip_after_it_is_made(synthesis_s: float) -> None:
    found = await measured([synthesis_s, 3.0])
    assert found.moments_s[0] == pytest.approx(synthesis_s + ROUND_TRIP_S, abs=2 * STEP_S)
    assert found.moments_s[-1] == pytest.approx(synthesis_s + 3.0 + ROUND_TRIP_S, abs=2 * STEP_S)


async def test_what_is_made_at_once_is_here_after_two_round_trips() -> None:
    found = await measured([0.0, 0.0])
    assert found.moments_s[-1] == pytest.approx(2 * ROUND_TRIP_S, abs=2 * STEP_S)
    assert found.distant.paths == ["run", "stream"]


async def test_at_most_one_request_is_under_way_and_none_asks_whether_it_is_over() -> None:
    found = await measured([0.5] * 8)
    assert found.distant.most_open == 1
    assert set(found.distant.paths) == {"run", "stream"}
    assert len(found.distant.paths) <= 1 + 8
