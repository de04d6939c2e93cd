"""The chaos of `make chaos-runpod` in small: without sockets, and with a clock that runs ahead."""

from __future__ import annotations

import asyncio
from collections.abc import Callable

import httpx
import pytest

from emulator.engine.clock import VirtualClock
from emulator.engine.faults import Effect
from emulator.fault_requests import DroppedConnection
from emulator.pytest_plugin import InProcessEmulator
from tests.chaos.runpod import RULES, Chaos
from tests.conftest import API_KEY, TEST_FUNCTIONS
from yapit.gateway.processors.tts import runpod

JOBS = 200


class Sockets(httpx.AsyncBaseTransport):
    """A connection that breaks off looks as it does over a socket."""

    def __init__(self, inner: httpx.AsyncBaseTransport) -> None:
        self._inner = inner

    async def handle_async_request(self, request: httpx.Request) -> httpx.Response:
        try:
            return await self._inner.handle_async_request(request)
        except DroppedConnection as error:
            raise httpx.ReadError(str(error), request=request) from error


@pytest.fixture(autouse=True)
def no_pauses(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(runpod, "_POLL_AGAIN_AFTER_S", (0.0,) * len(runpod._POLL_AGAIN_AFTER_S))
    monkeypatch.setattr("yapit.errors.RETRY_AFTER_S", 0.0)


@pytest.mark.parametrize("seed", range(2))
async def test_whatever_fails_every_job_arrives_whole_and_once_and_ends(
    make_emulator: Callable[..., InProcessEmulator], seed: int
) -> None:
    clock = VirtualClock()
    emulator = make_emulator(TEST_FUNCTIONS, api_key=API_KEY, clock=clock)
    chaos = Chaos(emulator, "http://emulator", seed=seed, clients=16, transport=Sockets(emulator.transport))

    async def run_ahead() -> None:
        while True:
            await clock.advance(0.1)

    running_ahead = asyncio.create_task(run_ahead())
    report = await chaos.run(JOBS)
    running_ahead.cancel()
    await clock.advance(120)
    chaos.account(report)
    assert report.problems == []
    assert (report.whole, report.unfinished) == (JOBS, 0)
    assert sum(count > 0 for count in report.struck.values()) > len(RULES) // 2
    assert {rule.effect for rule in RULES} == {*Effect}, "every effect takes part"
