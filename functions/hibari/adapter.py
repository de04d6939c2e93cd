"""hibari: a small neural English voice (hibari-tts, 6.2 M parameters), its weights in its wheel."""

from __future__ import annotations

import asyncio
import os
from collections.abc import AsyncIterator
from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING, Any

from yapit.contracts import PcmChunk
from yapit.errors import ConfigurationError, NoAudio, UnknownVoice
from yapit.text import split_text
from yapit.workers.adapters.base import SynthAdapter

if TYPE_CHECKING:
    from .speech import Speaker

VOICE = "heart"
MAX_PIECE_CHARACTERS = 250  # as in pyproject.toml: about 17 s of speech, and what bounds the memory of a call
_WARM_UP = "Hello."


class HibariAdapter(SynthAdapter):
    """One call uses one thread; as many run at once as there are cores."""

    sample_rate = 24_000

    async def load(self) -> None:
        """All of the start: without a GPU it may all be in a snapshot."""
        await self.close()  # after an attempt that failed
        threads = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count()
        self._threads = ThreadPoolExecutor(threads, thread_name_prefix="hibari")
        await asyncio.get_running_loop().run_in_executor(self._threads, self._load)

    async def initialize(self) -> None:
        if not hasattr(self, "_speaker"):
            await self.load()

    async def synthesize(self, text: str, *, voice: str, speed: float) -> bytes:
        """Sentence by sentence, cut as the runner cuts: the bare adapter sounds like the whole chain."""
        pieces = split_text(text, max_characters=MAX_PIECE_CHARACTERS, by_sentence=True)
        if not pieces:
            raise NoAudio(f"hibari finds no word in {text[:60]!r}")
        spoken = [(await self._call(piece.text, voice, speed)).pcm for piece in pieces]
        return b"".join(spoken)

    async def stream(
        self,
        text: str,
        *,
        voice: str,
        speed: float,
        **parameters: Any,  # noqa: ARG002 - it has none
    ) -> AsyncIterator[bytes | PcmChunk]:
        yield await self._call(text, voice, speed)

    async def close(self) -> None:
        if hasattr(self, "_threads"):
            self._threads.shutdown(wait=False, cancel_futures=True)

    async def _call(self, text: str, voice: str, speed: float) -> PcmChunk:
        # cancelled while it still waits for a thread, it never starts
        return await asyncio.get_running_loop().run_in_executor(self._threads, self._speak, text, voice, speed)

    def _load(self) -> None:
        try:
            from .speech import Speaker
        except ImportError as error:
            raise ConfigurationError(
                f"hibari needs the package hibari-tts ({error}): make install FUNCTION=hibari"
            ) from None
        self._speaker: Speaker = Speaker(VOICE)
        self._speak(_WARM_UP, VOICE, 1.0)

    def _speak(self, text: str, voice: str, speed: float) -> PcmChunk:
        """One piece, in a worker thread. Raises `UnsupportedText`, `UnknownVoice` or `NoAudio`."""
        if voice != VOICE:
            raise UnknownVoice(f"voice: hibari has no voice {voice!r}; it has {VOICE}", param="voice")
        return self._speaker.speak(text, speed)
