"""Which part of the phonemes belongs to which written word."""

from __future__ import annotations

import unicodedata
from collections.abc import Callable
from dataclasses import dataclass
from difflib import SequenceMatcher

from .written import Word

_SPOKEN_MARKS = frozenset("$€£¥₹₩¢%#@&+°")

Span = tuple[int, int]


@dataclass(frozen=True, slots=True)
class SpokenWord:
    """`text[text_start:text_end]` is spoken by the phonemes `first` to `last` (exclusive)."""

    text_start: int
    text_end: int
    first: int
    last: int


def align(
    text: str, written: list[Word], spoken: list[str], spans: list[Span], count: Callable[[str], int]
) -> list[SpokenWord]:
    """The written words with the phonemes of what each became: "Dr." of "Doctor", "$5" of "five dollars".

    `spans` are the phonemes of each word of `spoken`; `count` tells how many words a reading becomes by itself.
    What became one thing only together ("USD 5") is one word.
    """
    pairs = _pairs([word for word in written if word.is_speakable], spoken, count)
    words = []
    for (first, last), (low, high) in pairs:
        heard = [span for span in spans[low:high] if span[0] < span[1]]
        if heard:
            words.append(SpokenWord(*_bare(text, first.start, last.end), heard[0][0], heard[-1][1]))
    return words


def _pairs(written: list[Word], spoken: list[str], count: Callable[[str], int]) -> list[tuple[tuple[Word, Word], Span]]:
    """First and last written word, and the spoken words they became, in order."""
    pairs: list[tuple[tuple[Word, Word], Span]] = []
    left_over: list[Word] = []
    matcher = SequenceMatcher(None, [word.reading for word in written], spoken, autojunk=False)
    for _, a1, a2, b1, b2 in matcher.get_opcodes():
        group = left_over + written[a1:a2]
        if not group and pairs:  # "Rs 500": the rupees that are said after the number
            words, (low, _) = pairs[-1]
            pairs[-1] = (words, (low, b2))
        elif b1 == b2:
            left_over = group
        elif group:
            left_over = []
            pairs += _share(group, b1, b2, count) if len(group) <= b2 - b1 else [((group[0], group[-1]), (b1, b2))]
    if left_over and pairs:
        (first, _), span = pairs[-1]
        pairs[-1] = ((first, left_over[-1]), span)
    return pairs


def _share(group: list[Word], low: int, high: int, count: Callable[[str], int]) -> list[tuple[tuple[Word, Word], Span]]:
    """`group` became the spoken words `low` to `high`: each takes as many as it becomes by itself, at least one."""
    weights = [max(1, count(word.reading)) for word in group] if len(group) < high - low else [1] * len(group)
    ends, taken = [], 0
    for number, weight in enumerate(weights, 1):
        taken += weight
        fair = low + round(taken * (high - low) / sum(weights))
        ends.append(min(max(fair, low + number), high - len(group) + number))
    return [((word, word), span) for word, span in zip(group, zip([low, *ends], ends, strict=False), strict=True)]


def _bare(text: str, start: int, end: int) -> Span:
    """A word without the punctuation around it."""

    def is_mark(character: str) -> bool:
        folded = unicodedata.normalize("NFKC", character)  # "№" is read as letters
        return character not in _SPOKEN_MARKS and not any(part.isalnum() for part in folded)

    while start < end and is_mark(text[start]):
        start += 1
    while end > start and is_mark(text[end - 1]):
        end -= 1
    return start, end
