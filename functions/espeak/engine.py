"""The one thread that speaks for the whole process: calls in the order they came, one at a time.

The chunks of a call cross from that thread to the event loop of whoever asked, at most `MAX_CHUNKS_AHEAD` before they
are taken. Pieces of a text are short enough (`input.max_piece_characters`) that a slow listener does not reach that
bound and hold up the others.
"""

from __future__ import annotations

import asyncio
import atexit
import queue
import threading
from collections.abc import AsyncGenerator
from functools import lru_cache

from yapit.contracts import PcmChunk

from .process import SpeakerProcess
from .speech import Delivery, Speech

MAX_CHUNKS_AHEAD = 64


class _Call:
    """One speech on its way: `push` and `end` belong to the engine's thread, `next` and `cancel` to the loop's.

    Without a speech it only starts the speaker.
    """

    def __init__(self, speech: Speech | None) -> None:
        self.speech = speech
        self.is_cancelled = False
        self._loop = asyncio.get_running_loop()
        self._chunks: asyncio.Queue[PcmChunk | BaseException | None] = asyncio.Queue()
        self._room = threading.Semaphore(MAX_CHUNKS_AHEAD)

    def push(self, chunk: PcmChunk) -> bool:
        self._room.acquire()
        if not self.is_cancelled:
            self._deliver(chunk)
        return not self.is_cancelled

    def end(self, error: BaseException | None) -> None:
        self._deliver(error)

    async def next(self) -> PcmChunk | None:
        item = await self._chunks.get()
        if isinstance(item, BaseException):
            raise item
        self._room.release()
        return item

    def cancel(self) -> None:
        self.is_cancelled = True
        self._room.release()  # wakes a thread that waits for room

    def _deliver(self, item: PcmChunk | BaseException | None) -> None:
        try:
            self._loop.call_soon_threadsafe(self._chunks.put_nowait, item)
        except RuntimeError:  # the loop was closed under the call
            self.is_cancelled = True


class Engine:
    """Speaks `Speech`es in a thread of its own. Any number of adapters and event loops may share it."""

    def __init__(self) -> None:
        self._calls: queue.SimpleQueue[_Call] = queue.SimpleQueue()
        self._speaker: SpeakerProcess | None = None
        # a daemon, ended with the process: nobody could say when its last user has left
        threading.Thread(target=self._work, name="espeak", daemon=True).start()
        atexit.register(self._close)

    async def start(self) -> None:
        """Start the speaker, unless it is there. Raises `ConfigurationError` where the library is missing."""
        async for _ in self._stream(_Call(None)):
            pass

    def stream(self, speech: Speech) -> AsyncGenerator[PcmChunk, None]:
        """The chunks of `speech` as they are made. Close the generator, or cancel its reader, to stop the work.

        Raises what `Delivery.run` raises.
        """
        return self._stream(_Call(speech))

    async def _stream(self, call: _Call) -> AsyncGenerator[PcmChunk, None]:
        self._calls.put(call)
        try:
            while (chunk := await call.next()) is not None:
                yield chunk
        finally:
            call.cancel()

    def _work(self) -> None:
        while True:
            call = self._calls.get()
            if call.is_cancelled:
                continue
            try:
                speaker = self._running_speaker()
                if call.speech is not None:
                    Delivery(call.speech, call.push).run(speaker)
            except BaseException as error:
                call.end(error)
            else:
                call.end(None)
            del call  # or the last speech stays in memory until the next one

    def _running_speaker(self) -> SpeakerProcess:
        if self._speaker is not None and not self._speaker.is_alive:
            self._close()
        if self._speaker is None:
            self._speaker = SpeakerProcess()
        return self._speaker

    def _close(self) -> None:
        if self._speaker is not None:
            self._speaker.close()
            self._speaker = None


@lru_cache(maxsize=1)
def engine() -> Engine:
    """The engine of this process."""
    return Engine()
