"""espeak-ng: over a hundred languages from one small library, no weights, hundreds of times faster than real time."""

from __future__ import annotations

import json
from collections.abc import AsyncIterator
from contextlib import aclosing
from pathlib import Path
from typing import Any

from yapit.contracts import PcmChunk
from yapit.errors import UnknownVoice
from yapit.workers.adapters.base import SynthAdapter

from .engine import engine
from .library import DEFAULT_PITCH, DEFAULT_RANGE, DEFAULT_VOLUME, SAMPLE_RATE, SpeechSettings
from .speech import Speech
from .stretch import split_speed


class EspeakAdapter(SynthAdapter):
    """Formant synthesis by libespeak-ng. Text is plain: neither SSML nor `[[phonemes]]` nor commands mean anything.

    The same call gives the same bytes, in any process and after any other call.
    """

    sample_rate = SAMPLE_RATE

    def __init__(self) -> None:
        voices = json.loads(Path(__file__).with_name("voices.json").read_text(encoding="utf-8"))
        self._identifiers: dict[str, str] = {voice["slug"]: voice["parameters"]["espeak_voice"] for voice in voices}

    async def initialize(self) -> None:
        """Raises `ConfigurationError` where the espeakng-loader wheel is missing."""
        await engine().start()

    async def synthesize(self, text: str, *, voice: str, speed: float) -> bytes:
        return b"".join([chunk.pcm async for chunk in self.stream(text, voice=voice, speed=speed)])

    async def stream(
        self,
        text: str,
        *,
        voice: str,
        speed: float,
        pitch: int = DEFAULT_PITCH,
        range: int = DEFAULT_RANGE,
        volume: int = DEFAULT_VOLUME,
        word_gap_ms: int = 0,
        espeak_voice: str | None = None,
        **parameters: Any,  # noqa: ARG002 - part of the promise
    ) -> AsyncIterator[PcmChunk]:
        """PCM with its words; a word comes with the chunk in which its end is known.

        `pitch`, `range` (of the pitch): 0–99. `volume`: percent. `word_gap_ms`: more silence between words, at speed 1.
        `espeak_voice` comes from `voices.json`. Raises `UnknownVoice`, `NoAudio`, `UnsupportedText`.
        """
        rate_wpm, pace = split_speed(speed)
        identifier = self._identifier(voice, espeak_voice)
        settings = SpeechSettings(identifier, rate_wpm, pitch, range, volume, word_gap_ms)
        async with aclosing(engine().stream(Speech(text, settings, pace))) as chunks:
            async for chunk in chunks:
                yield chunk

    def _identifier(self, slug: str, identifier: str | None) -> str:
        # from the table in any case: to the library, an identifier is a path
        if identifier in self._identifiers.values():
            return str(identifier)
        if slug not in self._identifiers:
            raise UnknownVoice(f"voice: espeak has no voice {slug!r}; de, en, es, fr … are some", param="voice")
        return self._identifiers[slug]
