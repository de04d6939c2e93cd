"""RunPod's own client beside our processor, on the same emulated endpoint in the same run: hibari, PCM, one job at a
time."""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Awaitable, Callable, Iterator
from statistics import median
from typing import Any

from tests.bench.processes import free_port, server
from tests.bench.report import table
from tests.bench.texts import MINUTE, SENTENCES
from yapit.contracts import AudioEvent, SynthesisJob, SynthesisParameters
from yapit.gateway.processors.tts.base import Context
from yapit.gateway.processors.tts.runpod import RunpodProcessor
from yapit.gateway.routes import Route
from yapit.gateway.settings import Settings

KEY = "bench"
ROUNDS = 7
TEXTS = {"a sentence": SENTENCES[0], "a minute of text": MINUTE}
OURS = "RunpodProcessor"
TIMEOUT_S = 60

Times = tuple[float, float]
"""Milliseconds to the first audio and to the whole of it."""
Way = Callable[[str], Awaitable[Times]]

_NOTE = (
    "hibari behind an emulated queue endpoint, PCM, one job at a time: milliseconds to the first audio and to the "
    f"whole, medians of {ROUNDS} interleaved rounds. `run_sync()`, `run()` with `output()`, and `stream()` are the "
    "runpod package's own, unmodified. It sleeps for a second between polls, and before the first of `stream()`, which "
    "asks once more after the last chunk; `run_sync()` is one held request, and hands nothing out before the end."
)


def measure() -> str:
    port = free_port()
    environ = {"EMULATOR_PORT": str(port), "EMULATOR_API_KEY": KEY, "LOG_LEVEL": "error"}
    with server("emulator", ready=f"http://127.0.0.1:{port}/healthz", **environ):
        times = asyncio.run(_measure(f"http://127.0.0.1:{port}/v2"))
    sections = []
    for name in TEXTS:
        rows, best = [], [median(column) for column in zip(*times[name, OURS], strict=True)]
        for way in dict.fromkeys(way for text, way in times if text == name):
            found = [median(column) for column in zip(*times[name, way], strict=True)]
            ratios = [f"{ours and value / ours:.1f}×" for value, ours in zip(found, best, strict=True)]
            rows.append([way, f"{found[0]:.0f}", f"{found[1]:.0f}", *ratios])
        header = ["client", "first audio ms", "whole ms", "first, to ours", "whole, to ours"]
        sections.append(f"### {name[0].upper()}{name[1:]}\n\n{table(header, rows)}")
    return "\n\n".join(["## RunPod's own client", _NOTE, *sections])


async def _measure(base_url: str) -> dict[tuple[str, str], list[Times]]:
    import aiohttp
    import runpod

    logging.getLogger("httpx").setLevel(logging.WARNING)  # importing runpod lets everybody's INFO through
    runpod.api_key, runpod.endpoint_url_base = KEY, base_url
    settings = Settings(_env_file=None, runpod_api_base=base_url, runpod_api_key=KEY)
    processor = RunpodProcessor(Route(slug="hibari", processor="x", runpod_endpoint_id="hibari"), Context(settings))
    times: dict[tuple[str, str], list[Times]] = {}
    async with aiohttp.ClientSession() as session:
        ways = {OURS: _ours(processor), **_blocking(runpod), **_asyncio(runpod.AsyncioEndpoint("hibari", session))}
        for text in TEXTS.values():
            await ways[OURS](text)  # warm: a worker is there, its model is loaded, connections are open
        for _ in range(ROUNDS):
            for name, text in TEXTS.items():
                for way, call in ways.items():
                    times.setdefault((name, way), []).append(await call(text))
    await processor.close()
    return times


def _ours(processor: RunpodProcessor) -> Way:
    async def speak(text: str) -> Times:
        job = SynthesisJob("bench", "hibari", SynthesisParameters(text=text, voice="heart"), TIMEOUT_S)
        stopwatch = Stopwatch()
        async for event in processor.stream(job):
            if isinstance(event, AudioEvent):
                stopwatch.heard()
        return stopwatch.times()

    return speak


def _blocking(runpod: Any) -> dict[str, Way]:
    endpoint = runpod.Endpoint("hibari")

    def run_sync(text: str) -> Iterator[Any]:
        yield endpoint.run_sync(_input(text))

    def output(text: str) -> Iterator[Any]:
        yield endpoint.run(_input(text)).output(timeout=TIMEOUT_S)

    def stream(text: str) -> Iterator[Any]:
        yield from endpoint.run(_input(text)).stream()

    def timed(call: Callable[[str], Iterator[Any]]) -> Way:
        def run(text: str) -> Times:
            stopwatch = Stopwatch()
            for part in call(text):
                if not part:
                    raise RuntimeError("the SDK has no output")
                stopwatch.heard()
            return stopwatch.times()

        return lambda text: asyncio.to_thread(run, text)

    return {
        "`Endpoint.run_sync()`": timed(run_sync),
        "`Endpoint.run()`, `output()`": timed(output),
        "`Endpoint.run()`, `stream()`": timed(stream),
    }


def _asyncio(endpoint: Any) -> dict[str, Way]:
    async def output(text: str) -> Times:
        stopwatch = Stopwatch()
        await (await endpoint.run(_input(text))).output(timeout=TIMEOUT_S)
        stopwatch.heard()
        return stopwatch.times()

    async def stream(text: str) -> Times:
        stopwatch = Stopwatch()
        async for _ in (await endpoint.run(_input(text))).stream():
            stopwatch.heard()
        return stopwatch.times()

    return {"`AsyncioEndpoint.run()`, `output()`": output, "`AsyncioEndpoint.run()`, `stream()`": stream}


class Stopwatch:
    """Runs from when it is made."""

    def __init__(self) -> None:
        self._started_at = time.perf_counter()
        self._first_ms: float | None = None

    def heard(self) -> None:
        """Audio came."""
        if self._first_ms is None:
            self._first_ms = self._elapsed_ms()

    def times(self) -> Times:
        """To the first audio, and to now. Raises `RuntimeError` if none came."""
        if self._first_ms is None:
            raise RuntimeError("no audio came")
        return self._first_ms, self._elapsed_ms()

    def _elapsed_ms(self) -> float:
        return (time.perf_counter() - self._started_at) * 1000


def _input(text: str) -> dict[str, str]:
    return {"text": text, "voice": "heart"}
