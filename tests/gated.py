"""Speaks its first half, then waits for `release` (from any thread); the text's first word says what goes wrong."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from typing import Any

from yapit.contracts import PcmChunk
from yapit.workers.adapters.base import SynthAdapter

FIRST, SECOND = b"\1\0" * 2_400, b"\2\0" * 2_400
open_streams = 0
_gates: list[tuple[asyncio.AbstractEventLoop, asyncio.Event]] = []


def release() -> None:
    for loop, gate in _gates:
        loop.call_soon_threadsafe(gate.set)


class Gated(SynthAdapter):
    async def initialize(self) -> None:
        pass

    async def synthesize(self, text: str, *, voice: str, speed: float) -> bytes:
        return FIRST + SECOND

    async def stream(
        self, text: str, *, voice: str, speed: float, **parameters: Any
    ) -> AsyncIterator[bytes | PcmChunk]:
        global open_streams
        gate = (asyncio.get_running_loop(), asyncio.Event())
        _gates.append(gate)
        open_streams += 1
        try:
            if not text.startswith("silent"):
                yield FIRST
            if text.startswith("fails"):
                raise RuntimeError("out of memory")
            await gate[1].wait()
            yield SECOND
        finally:
            open_streams -= 1
            _gates.remove(gate)
