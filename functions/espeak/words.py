"""From espeak's word events to word timings over the text.

An event says where a word begins, but its length is no more than a hint: at most 31 characters, too long within
numbers, one character for a whole Chinese word, one letter for an abbreviation, zero after some quotation marks. Words
that espeak says in one breath ("in the") come as their first.
"""

from __future__ import annotations

import unicodedata
from collections.abc import Iterator

from yapit.contracts import WordTiming

from .library import EVENT_END, EVENT_WORD, SAMPLE_RATE, SpeechEvent

_JOINERS = "'’.-\u200c\u200d"  # inside a word they belong to it


class WordTracker:
    """Turns events, in their order, into words; each is known once the next one begins.

    `pace` is the factor by which the audio is sped up after the events were made.
    """

    def __init__(self, text: str, pace: float) -> None:
        self._text = text
        self._samples_per_ms = SAMPLE_RATE * pace / 1000
        self._open: tuple[int, int, int] | None = None  # first character, character after the hint, first sample
        self._told_end = 0

    def words(self, events: list[SpeechEvent]) -> Iterator[WordTiming]:
        """The words that these events complete."""
        for event in events:
            if event.type == EVENT_END:
                yield from self._close(event.sample, len(self._text))
            elif event.type == EVENT_WORD:
                yield from self._begin(event)

    def _begin(self, event: SpeechEvent) -> Iterator[WordTiming]:
        start, end = self._trim(
            event.text_start, event.text_start + (event.length or self._mark_length(event.text_start))
        )
        if self._open is not None and start < end and start < self._open[1]:
            # one number or abbreviation, spoken as several words
            self._open = (self._open[0], max(end, self._open[1]), self._open[2])
            return
        yield from self._close(event.sample, max(start, self._open[1]) if self._open else start)
        if max(start, self._told_end) < end:
            self._open = (max(start, self._told_end), end, event.sample)

    def _close(self, sample: int, limit: int) -> Iterator[WordTiming]:
        """End the open word: it reaches over letters and joiners, but not to the character `limit`."""
        if self._open is None:
            return
        start, end, first_sample = self._open
        self._open = None
        while end < limit and _belongs(self._text[end]):
            end += 1
        start, end = self._trim(start, end)
        self._told_end = end
        yield WordTiming(
            word=self._text[start:end],
            start_ms=round(first_sample / self._samples_per_ms, 1),
            end_ms=round(sample / self._samples_per_ms, 1),
            text_start=start,
            text_end=end,
        )

    def _mark_length(self, start: int) -> int:
        """How many characters it takes from `start` to the first letter of the word there."""
        length = 1
        while start + length < len(self._text) and not _is_letter(self._text[start + length - 1]):
            length += 1
        return length

    def _trim(self, start: int, end: int) -> tuple[int, int]:
        start, end = max(start, 0), min(end, len(self._text))
        while start < end and not _is_letter(self._text[start]):
            start += 1
        while end > start and not _is_letter(self._text[end - 1]):
            end -= 1
        return start, end


def _is_letter(character: str) -> bool:
    return character.isalnum() or unicodedata.category(character).startswith("M")


def _belongs(character: str) -> bool:
    return _is_letter(character) or character in _JOINERS
