"""Speaking the pieces of one text: several at a time, heard in order."""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import AsyncGenerator
from contextlib import aclosing
from dataclasses import dataclass
from typing import Any

from yapit.audio import whole_frames
from yapit.contracts import PcmChunk, WordTiming
from yapit.errors import InvalidAudio, NoAudio, SynthesisTimeout
from yapit.text import TextPiece
from yapit.workers.adapters.base import BYTES_PER_SAMPLE, SynthAdapter

MAX_WAITING_CHUNKS = 64
"""Chunks that a piece may be ahead of its listener; then its adapter waits."""


@dataclass(frozen=True, slots=True)
class Call:
    """What every piece of a job is spoken with. `timeout_s` bounds the time spent waiting for the adapter."""

    voice: str
    speed: float
    parameters: dict[str, Any]
    parallel_pieces: int
    timeout_s: float


class _Piece:
    """One adapter call in a task of its own, its chunks waiting in a bounded queue; `None` ends them."""

    def __init__(self, adapter: SynthAdapter, piece: TextPiece, call: Call) -> None:
        self.text = piece
        self.chunks: asyncio.Queue[PcmChunk | None] = asyncio.Queue(MAX_WAITING_CHUNKS)
        self.task = asyncio.create_task(self._speak(adapter, call))

    async def _speak(self, adapter: SynthAdapter, call: Call) -> None:
        made_bytes = 0
        stream: Any = adapter.stream(self.text.text, voice=call.voice, speed=call.speed, **call.parameters)
        if not hasattr(stream, "__anext__"):
            raise InvalidAudio(f"the adapter's stream() gave {type(stream).__name__}; it must be an async generator")
        async with aclosing(stream) as chunks:
            async for chunk in chunks:
                timed = chunk if isinstance(chunk, PcmChunk) else PcmChunk(chunk)
                pcm = whole_frames(timed.pcm, adapter.channels)
                made_bytes += len(pcm)
                if pcm or timed.words:
                    await self.chunks.put(PcmChunk(pcm, timed.words))
        if not made_bytes:
            raise NoAudio(f"the model made no sound for {self.text.text[:60]!r}")

    async def next(self) -> PcmChunk | None:
        """The next chunk, or None after the last. Raises what the adapter raised, after the chunks before it."""
        if self.chunks.empty() and not self.task.done():
            getter = asyncio.ensure_future(self.chunks.get())
            try:
                await asyncio.wait((getter, self.task), return_when=asyncio.FIRST_COMPLETED)
                if getter.done():
                    return getter.result()
            finally:
                getter.cancel()
        if not self.chunks.empty():
            return self.chunks.get_nowait()
        self.task.result()
        return None

    def waiting(self) -> PcmChunk | None:
        """A chunk that is there already."""
        return None if self.chunks.empty() else self.chunks.get_nowait()

    async def stop(self) -> None:
        self.task.cancel()
        await asyncio.gather(self.task, return_exceptions=True)


async def speak(adapter: SynthAdapter, pieces: list[TextPiece], call: Call) -> AsyncGenerator[PcmChunk, None]:
    """PCM of all pieces in order, with word times and text positions counted over the whole.

    What is ready at once comes as one chunk, so a slow reader gets few large ones. Close it to stop the work.
    Raises `NoAudio`, `InvalidAudio`, `SynthesisTimeout`, and whatever the adapter raises.
    """
    waiting = deque(pieces)
    running: deque[_Piece] = deque()
    frame_bytes = adapter.channels * BYTES_PER_SAMPLE
    clock = asyncio.get_running_loop().time
    budget_s, made_bytes = call.timeout_s, 0
    try:
        while waiting or running:
            while waiting and len(running) < call.parallel_pieces:
                running.append(_Piece(adapter, waiting.popleft(), call))
            first, started_bytes = running[0], made_bytes
            while True:
                asked_at = clock()
                try:
                    async with asyncio.timeout(budget_s):
                        chunk = await first.next()
                except TimeoutError:
                    raise SynthesisTimeout(f"synthesis took longer than {call.timeout_s:g} s") from None
                budget_s -= clock() - asked_at
                if chunk is None:
                    break
                ready = [chunk]
                while (more := first.waiting()) is not None:
                    ready.append(more)
                pcm = b"".join(part.pcm for part in ready) if len(ready) > 1 else chunk.pcm
                offset_ms = started_bytes / frame_bytes * 1000 / adapter.sample_rate
                words = tuple(_shift(word, offset_ms, first.text.start) for part in ready for word in part.words)
                made_bytes += len(pcm)
                yield PcmChunk(pcm, words)
            running.popleft()
    finally:
        await asyncio.gather(*(piece.stop() for piece in running))


def _shift(word: WordTiming, offset_ms: float, text_offset: int) -> WordTiming:
    return WordTiming(
        word=word.word,
        start_ms=round(word.start_ms + offset_ms, 1),
        end_ms=round(word.end_ms + offset_ms, 1),
        text_start=word.text_start + text_offset,
        text_end=word.text_end + text_offset,
    )
