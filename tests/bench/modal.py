"""Modal: what `ModalProcessor` adds to a bare call of Modal's SDK to a class that answers the same bytes."""

from __future__ import annotations

import asyncio
import os
import statistics
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from dataclasses import dataclass, field
from typing import Any

import httpx
from pydantic import SecretStr

from tests.bench.adapter import PCM
from tests.bench.processes import free_port, server
from tests.bench.report import table
from yapit.contracts import AudioEvent, SynthesisJob, SynthesisParameters
from yapit.gateway.processors.tts.base import Context
from yapit.gateway.processors.tts.modal import MAX_WHOLE_CHARACTERS, ModalProcessor
from yapit.gateway.routes import Route
from yapit.gateway.settings import Settings

CALLS, WARM = 400, 40
SHORT = "Hello."
LONG = "Hello. " * (MAX_WHOLE_CHARACTERS // 7 + 1)
PROXY_TOKEN = {"modal_key": "wk-emulator", "modal_secret": "bench"}
PAYLOAD = {"text": SHORT, "voice": "free"}


@dataclass
class Taken:
    """Milliseconds until the first audio and until the end, per call."""

    first: list[float] = field(default_factory=list)
    whole: list[float] = field(default_factory=list)


Call = Callable[[], Awaitable[tuple[float, float]]]
"""Makes one call; when its first audio and when its last was there (`time.perf_counter`)."""


def measure() -> str:
    http_port, grpc_port = free_port(), free_port()
    os.environ.update(MODAL_SERVER_URL=f"http://127.0.0.1:{grpc_port}", MODAL_CONFIG_PATH=os.devnull)
    ports = (str(http_port), str(grpc_port))
    with server("tests.bench.modal_server", *ports, ready=f"http://127.0.0.1:{http_port}/healthz"):
        taken = asyncio.run(_run())
    return "\n\n".join(["## Modal", _NOTE, _table(taken)])


_NOTE = (
    "`ModalProcessor` beside a bare call, of Modal's SDK or of httpx, to a class of the emulator that only answers the "
    f"same 48,128 bytes. The emulator is a process of its own. One call at a time, {CALLS} of each in turn. Ours is "
    "the difference: the worker's runner, base64, checking of events, bounds and deadlines."
)


async def _run() -> dict[str, Taken]:
    import modal

    settings = Settings(_env_file=None, modal_token_id="ak-emulator", modal_token_secret="bench")
    route = Route(slug="free", processor="x", modal_app="yapit-free", modal_class="TTS")
    processor = ModalProcessor(route, Context(settings))
    with_proxy_token = settings.model_copy(update={name: SecretStr(value) for name, value in PROXY_TOKEN.items()})
    by_web = ModalProcessor(route, Context(with_proxy_token))
    client = await modal.Client.from_credentials.aio("ak-emulator", "bench")
    raw = modal.Cls.from_name("bench", "Raw", client=client)()
    raw_url = await raw.web.get_web_url.aio()
    key, secret = PROXY_TOKEN.values()
    http = httpx.AsyncClient(headers={"Modal-Key": key, "Modal-Secret": secret})
    calls: dict[str, Call] = {
        "SDK, remote": lambda: _bare(_once(raw.whole.remote.aio(PAYLOAD))),
        "ModalProcessor, remote": lambda: _ours(processor, SHORT),
        "SDK, remote_gen": lambda: _bare(raw.stream.remote_gen.aio(PAYLOAD)),
        "ModalProcessor, remote_gen": lambda: _ours(processor, LONG),
        "httpx, web endpoint": lambda: _bare(_posted(http, f"{raw_url}/")),
        "ModalProcessor, web endpoint": lambda: _ours(by_web, LONG),
    }
    taken = {name: Taken() for name in calls}
    for number in range(WARM + CALLS):
        for name, call in calls.items():
            started_at = time.perf_counter()
            first_at, end_at = await call()
            if number >= WARM:
                taken[name].first.append((first_at - started_at) * 1000)
                taken[name].whole.append((end_at - started_at) * 1000)
    for processor_used in (processor, by_web):
        await processor_used.close()
    await http.aclose()
    await client.close.aio()
    return taken


async def _once(call: Awaitable[Any]) -> AsyncIterator[Any]:
    yield await call


async def _posted(http: httpx.AsyncClient, url: str) -> AsyncIterator[bytes]:
    async with http.stream("POST", url, json=PAYLOAD) as response:
        async for part in response.aiter_bytes():
            yield part


async def _bare(items: AsyncIterator[Any]) -> tuple[float, float]:
    received, first_at = b"", 0.0
    async for item in items:
        first_at = first_at or time.perf_counter()
        received += item
    if received != PCM:
        raise RuntimeError(f"{len(received)} bytes came")
    return first_at, time.perf_counter()


async def _ours(processor: ModalProcessor, text: str) -> tuple[float, float]:
    job = SynthesisJob("bench", "free", SynthesisParameters(text=text, voice="free"), 30.0)
    received, first_at = b"", 0.0
    async for event in processor.stream(job):
        if isinstance(event, AudioEvent):
            received += event.decoded()
            first_at = first_at or time.perf_counter()
    if received != PCM:
        raise RuntimeError(f"{len(received)} bytes came")
    return first_at, time.perf_counter()


def _table(taken: dict[str, Taken]) -> str:
    rows, bare = [], Taken()
    for name, found in taken.items():
        if not name.startswith("ModalProcessor"):
            bare = found
        first, whole = statistics.median(found.first), statistics.median(found.whole)
        ours = [first - statistics.median(bare.first), whole - statistics.median(bare.whole)]
        shares = ["", ""] if found is bare else [f"{share:.2f}" for share in ours]
        rows.append([name, f"{first:.2f}", shares[0], f"{whole:.2f}", shares[1], f"{_p99(found.whole):.2f}"])
    return table(["way", "first audio p50 ms", "ours", "whole p50 ms", "ours", "whole p99 ms"], rows)


def _p99(values: list[float]) -> float:
    return sorted(values)[int(len(values) * 0.99)]
