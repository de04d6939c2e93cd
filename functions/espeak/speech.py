"""One call: text in, PCM chunks with their words out. Blocking; runs in the engine's thread."""

from __future__ import annotations

import unicodedata
from collections.abc import Callable
from dataclasses import dataclass

from yapit.contracts import PcmChunk
from yapit.errors import NoAudio

from .library import SpeechEvent, SpeechSettings
from .process import SpeakerProcess
from .words import WordTracker


@dataclass(frozen=True, slots=True)
class Speech:
    """What to say and how. `pace` is applied to the finished audio, after `settings.rate_wpm`."""

    text: str
    settings: SpeechSettings
    pace: float = 1.0


class Delivery:
    """Speaks `speech`, handing its chunks to `push` until that answers False."""

    def __init__(self, speech: Speech, push: Callable[[PcmChunk], bool]) -> None:
        self._speech, self._push = speech, push
        self._words = WordTracker(speech.text, speech.pace)
        self._silence: bytes | None = b""  # held back until there is a sound: silence alone is no speech
        self._is_wanted = True

    def run(self, process: SpeakerProcess) -> None:
        """Raises `NoAudio` where there is only silence, and what `SpeakerProcess.speak` raises."""
        process.speak(sayable(self._speech.text), self._speech.settings, self._speech.pace, self._receive)
        if self._is_wanted and self._silence is not None:
            raise NoAudio(f"espeak made no sound for {self._speech.text[:60]!r}")

    def _receive(self, pcm: bytes, events: list[SpeechEvent]) -> bool:
        words = tuple(self._words.words(events))
        if self._silence is not None:
            pcm, self._silence = self._silence + pcm, None
            if not pcm.strip(b"\0"):
                self._silence, pcm = pcm, b""
        if pcm or words:
            self._is_wanted = self._push(PcmChunk(pcm, words))
        return self._is_wanted


def sayable(text: str) -> str:
    """`text` with blanks for control characters, which espeak takes for commands, and for surrogates."""
    return "".join(
        character if character in "\t\n\r" or unicodedata.category(character) not in ("Cc", "Cs") else " "
        for character in text
    )
