"""Adapters that behave well or badly on purpose. Each keeps to the three documented methods unless it says more."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from typing import Any

import numpy as np

from yapit.contracts import PcmChunk, WordTiming
from yapit.errors import UnsupportedText
from yapit.workers.adapters.base import SynthAdapter

SAMPLE_RATE = 24_000
SAMPLES_PER_CHARACTER = 1_200


def tone(text: str) -> bytes:
    """50 ms of sound per character, different for different texts."""
    time_s = np.arange(len(text) * SAMPLES_PER_CHARACTER) / SAMPLE_RATE
    frequency_hz = 200 + sum(map(ord, text)) % 400
    return (np.sin(2 * np.pi * frequency_hz * time_s) * 8_000).astype("<i2").tobytes()


class Tone(SynthAdapter):
    async def initialize(self) -> None:
        self.initialized = getattr(self, "initialized", 0) + 1

    async def synthesize(self, text: str, *, voice: str, speed: float) -> bytes:
        return tone(text)

    def calculate_duration_ms(self, audio_bytes: bytes) -> int:
        return len(audio_bytes) // 2 * 1000 // SAMPLE_RATE


class _Bad(SynthAdapter):
    async def initialize(self) -> None:
        pass


class Raises(_Bad):
    async def synthesize(self, text: str, *, voice: str, speed: float) -> bytes:
        raise RuntimeError("secret path /root/.key")


class Refuses(_Bad):
    async def synthesize(self, text: str, *, voice: str, speed: float) -> bytes:
        raise UnsupportedText("text: no Klingon")


class Hangs(_Bad):
    async def synthesize(self, text: str, *, voice: str, speed: float) -> bytes:
        await asyncio.Event().wait()
        raise AssertionError("unreachable")


class OddBytes(_Bad):
    async def synthesize(self, text: str, *, voice: str, speed: float) -> bytes:
        return b"\0\0\0"


class Nothing(_Bad):
    async def synthesize(self, text: str, *, voice: str, speed: float) -> bytes:
        return b""


class WrongType(_Bad):
    async def synthesize(self, text: str, *, voice: str, speed: float) -> bytes:
        return "sound"  # type: ignore[return-value]


class FailsToStart(Tone):
    attempts = 0

    async def initialize(self) -> None:
        type(self).attempts += 1
        raise OSError("no such device")


class WrongRate(Tone):
    sample_rate = 24_000

    async def initialize(self) -> None:
        self.sample_rate = 16_000


class Gated(_Bad):
    """Streams two chunks per call: the first at once, the second when `gate` opens. Counts what runs."""

    def __init__(self) -> None:
        self.gate = asyncio.Event()
        self.calls: list[str] = []
        self.open_streams = 0

    async def synthesize(self, text: str, *, voice: str, speed: float) -> bytes:
        return tone(text)

    async def stream(
        self, text: str, *, voice: str, speed: float, **parameters: Any
    ) -> AsyncIterator[bytes | PcmChunk]:
        self.calls.append(text)
        self.open_streams += 1
        try:
            pcm = tone(text)
            half = len(pcm) // 4 * 2
            word = WordTiming(word=text[:2], start_ms=10.0, end_ms=20.0, text_start=0, text_end=2)
            yield PcmChunk(pcm[:half], (word,))
            await self.gate.wait()
            yield pcm[half:]
        finally:
            self.open_streams -= 1


class FailsAfterAudio(_Bad):
    async def synthesize(self, text: str, *, voice: str, speed: float) -> bytes:
        return tone(text)

    async def stream(
        self, text: str, *, voice: str, speed: float, **parameters: Any
    ) -> AsyncIterator[bytes | PcmChunk]:
        yield tone(text)
        raise RuntimeError("out of memory")
