"""Text to phonemes, word by word, so that no word is dropped and each can be found again in the audio."""

from __future__ import annotations

import math
import threading
import unicodedata
from collections.abc import Callable
from dataclasses import dataclass
from functools import cached_property
from typing import Any

from hibari.g2p import G2P
from hibari.g2p.normalize import normalize
from hibari.g2p.oov import OOV

from yapit.errors import UnsupportedText

from .alignment import SpokenWord, align
from .written import words_of

_PAUSES = frozenset(';:,.!?—…"()“” ')


@dataclass(frozen=True, slots=True)
class Phonemes:
    symbols: str
    words: list[SpokenWord]


class Phonemizer:
    """hibari's own G2P. `knows` says which phonemes the model has been trained on. Thread-safe."""

    def __init__(self, knows: Callable[[str], bool]) -> None:
        self._g2p = G2P(oov=_UnknownWords())
        self._knows = knows
        self._lock = threading.Lock()  # for what loads lazily; a call takes about 1 ms

    def __call__(self, text: str) -> Phonemes:
        """Raises `UnsupportedText` for letters of other scripts and for words that would be dropped."""
        written = words_of(text)
        normalized = normalize(" ".join(word.reading for word in written))
        spoken = normalized.split()
        if not spoken:
            return Phonemes("", [])
        with self._lock:
            tokens = self._g2p.phonemize_tokens(self._g2p.tokenize(normalized))
        symbols, spans = self._join(tokens)
        for word, span in zip(spoken, spans, strict=True):
            if span[0] == span[1] and any(character.isalnum() for character in word):
                raise UnsupportedText(f"text: hibari cannot pronounce {word[:40]!r}", param="text")
        return Phonemes(symbols, align(text, written, spoken, spans, _count))

    def _join(self, tokens: list[Any]) -> tuple[str, list[tuple[int, int]]]:
        """All phonemes, and for each blank-separated word where its own start and end."""
        symbols, spans, start = "", [], 0
        for token in tokens:
            symbols += "".join(filter(self._knows, token.phonemes or ""))
            if token.whitespace:
                spans.append((start, len(symbols)))
                symbols += " "
                start = len(symbols)
        spans.append((start, len(symbols)))
        return symbols, [_without_pauses(symbols, *span) for span in spans]


class _UnknownWords:
    """Words that no lexicon has, read by hibari's small network, which by itself drops letters that it never saw and
    whatever follows the 24th."""

    @cached_property
    def _read(self) -> OOV:
        return OOV()

    def __call__(self, word: str) -> str:
        letters = "".join(letter for character in word for letter in self._known(character))
        parts = math.ceil(len(letters) / self._read.maxlen)
        length = math.ceil(len(letters) / max(1, parts))
        return "".join(self._read(letters[part * length : (part + 1) * length]) or "" for part in range(parts))

    def _known(self, character: str) -> str:
        if character in self._read.cin:
            return character
        return "".join(c for c in unicodedata.normalize("NFKD", character) if c in self._read.cin)


def _count(reading: str) -> int:
    return len(normalize(reading).split())


def _without_pauses(symbols: str, first: int, last: int) -> tuple[int, int]:
    while first < last and symbols[first] in _PAUSES:
        first += 1
    while last > first and symbols[last - 1] in _PAUSES:
        last -= 1
    if first == last:
        return first, last
    if first > 1 and symbols[first - 1] == " " and symbols[first - 2] in _PAUSES:
        first -= 1  # after a pause a word is heard before its first phoneme's time
    if symbols[last : last + 1] == " " and symbols[last + 1] not in _PAUSES:
        last += 1  # between two words there is no silence: the time of the blank is the first one's last sound
    return first, last
