"""Text to phonemes, word by word, so that no word is dropped and each can be found again in the audio."""

from __future__ import annotations

import re
import threading
import unicodedata
from collections.abc import Callable
from dataclasses import dataclass
from difflib import SequenceMatcher

from hibari.g2p import G2P
from hibari.g2p.normalize import normalize

from yapit.errors import UnsupportedText

_WORD = re.compile(r"\S+")
_PAUSES = frozenset(';:,.!?—…"()“” ')


@dataclass(frozen=True, slots=True)
class SpokenWord:
    """A written word: `text[text_start:text_end]`, and its part of the phonemes."""

    text_start: int
    text_end: int
    first: int
    last: int


@dataclass(frozen=True, slots=True)
class Phonemes:
    symbols: str
    words: list[SpokenWord]


class Phonemizer:
    """hibari's own G2P. `knows` says which phonemes the model has been trained on."""

    def __init__(self, knows: Callable[[str], bool]) -> None:
        self._g2p = G2P()
        self._knows = knows
        self._lock = threading.Lock()  # its out-of-vocabulary network loads lazily; a call takes about 1 ms

    def __call__(self, text: str) -> Phonemes:
        """Raises `UnsupportedText` for letters of other scripts and for words that would be dropped."""
        _check_script(text)
        normalized = normalize(text)
        with self._lock:
            # not `tokenize`: that reads "[word](/phonemes/)" as markup, and users write such things
            tokens = self._g2p.phonemize_tokens(self._g2p._tokens(normalized))
        symbols, spans = self._join(tokens)
        written = [match.span() for match in _WORD.finditer(normalized)]
        for (start, end), span in zip(written, spans, strict=True):
            word = normalized[start:end]
            if span[0] == span[1] and any(c.isalnum() for c in word):
                raise UnsupportedText(f"text: hibari cannot pronounce {word[:40]!r}", param="text")
        return Phonemes(symbols, _words(text, normalized, written, spans))

    def _join(self, tokens: list[object]) -> tuple[str, list[tuple[int, int]]]:
        """All phonemes, and for each blank-separated word where its own start and end."""
        symbols, spans, start = "", [], 0
        for token in tokens:
            symbols += "".join(filter(self._knows, token.phonemes or ""))  # type: ignore[attr-defined]
            if token.whitespace:  # type: ignore[attr-defined]
                spans.append((start, len(symbols)))
                symbols += " "
                start = len(symbols)
        spans.append((start, len(symbols)))
        return symbols, [_without_pauses(symbols, *span) for span in spans]


def _without_pauses(symbols: str, first: int, last: int) -> tuple[int, int]:
    while first < last and symbols[first] in _PAUSES:
        first += 1
    while last > first and symbols[last - 1] in _PAUSES:
        last -= 1
    return first, last


def _check_script(text: str) -> None:
    for position, character in enumerate(text):
        if character.isalpha() and ord(character) > 127:
            name = unicodedata.name(character, "")
            if not name.startswith(("LATIN", "FEMININE", "MASCULINE", "MICRO", "MODIFIER")):
                raise UnsupportedText(
                    f"text: {character!r} at character {position} ({name or 'unnamed'}) is no Latin letter; hibari "
                    "speaks English only. The model espeak speaks other languages.",
                    param="text",
                )


def _words(text: str, normalized: str, spoken: list[tuple[int, int]], spans: list[tuple[int, int]]) -> list[SpokenWord]:
    """Each written word with the phonemes of what it became: "Dr." of "Doctor", "3/4" of "March fourth"."""
    written = [match.span() for match in _WORD.finditer(text)]
    before = [text[slice(*span)] for span in written]
    after = [normalized[slice(*span)] for span in spoken]
    words: list[SpokenWord] = []
    for _, a1, a2, b1, b2 in SequenceMatcher(None, before, after, autojunk=False).get_opcodes():
        count = a2 - a1
        for number in range(count if b2 > b1 else 0):
            low = b1 + number * (b2 - b1) // count
            high = max(low + 1, b1 + (number + 1) * (b2 - b1) // count)
            heard = [span for span in spans[low:high] if span[0] < span[1]]
            start, end = _bare(text, *written[a1 + number])
            if heard and start < end:
                words.append(SpokenWord(start, end, heard[0][0], heard[-1][1]))
    return words


def _bare(text: str, start: int, end: int) -> tuple[int, int]:
    """A word without the punctuation around it."""
    while start < end and not text[start].isalnum():
        start += 1
    while end > start and not text[end - 1].isalnum():
        end -= 1
    return start, end
