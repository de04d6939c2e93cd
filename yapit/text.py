"""Text before synthesis: what may be spoken at all, and where long text is cut."""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass

import sentencex

from yapit.errors import InvalidRequest, NothingToSay, TextTooLong

_CLAUSE_END = re.compile(r"[,;:)\]}»”—–、，；：…]+[\s]*")
_WORD_END = re.compile(r"\s+")


@dataclass(frozen=True, slots=True)
class TextPiece:
    """A part of a text that is spoken in one call: `text` stands at character `start` of the whole."""

    text: str
    start: int


def check_text(text: str, *, max_characters: int, field: str = "text") -> None:
    """Refuse what no voice can speak; `field` is what the caller calls the text.

    Raises `TextTooLong` (naming the limit), `NothingToSay` (no letter or digit) or `InvalidRequest` (U+0000, lone
    surrogates).
    """
    if len(text) > max_characters:
        raise TextTooLong(f"{field}: {len(text):,} characters, the limit is {max_characters:,}", param=field)
    for position, character in enumerate(text):
        if character == "\0" or "\ud800" <= character <= "\udfff":
            name = "U+0000" if character == "\0" else f"the lone surrogate U+{ord(character):04X}"
            raise InvalidRequest(f"{field}: {name} at character {position} cannot be spoken; remove it", param=field)
    if not is_speakable(text):
        raise NothingToSay(f"{field}: there is no letter or digit to speak", param=field)


def is_speakable(text: str) -> bool:
    """Whether there is a letter or digit of any script."""
    return any(character.isalnum() for character in text)


def split_text(text: str, *, max_characters: int, by_sentence: bool, language: str = "en") -> list[TextPiece]:
    """Cut `text` into speakable pieces of at most `max_characters`, in order, each starting at a letter, digit or mark.

    With `by_sentence` each sentence is a piece of its own; else as many whole sentences as fit are taken together. A
    sentence over the limit is cut after a clause mark, else between words, else anywhere. Every letter and digit of
    `text` is in exactly one piece. Splitting a piece again with the same arguments gives that piece.
    """
    spans = list(_cut(text, 0, len(text), max_characters, language))
    spans = _attach_unspeakable(text, spans, max_characters)
    if not by_sentence:
        spans = _pack(spans, max_characters)
    return [TextPiece(text[start:end], start) for start, end in spans if is_speakable(text[start:end])]


def _cut(text: str, start: int, end: int, max_characters: int, language: str) -> Iterator[tuple[int, int]]:
    parts = list(_sentences(text, start, end, language))
    if len(parts) <= 1:
        parts = list(_shorten(text, start, end, max_characters))
    if len(parts) <= 1:
        yield from parts
        return
    for first, last in parts:
        # once more, by itself: where a sentence ends depends on what stands around it (an open quotation mark)
        yield from _cut(text, first, last, max_characters, language)


def _sentences(text: str, start: int, end: int, language: str) -> Iterator[tuple[int, int]]:
    position = start
    for sentence in sentencex.segment(language, text[start:end]):
        span = _strip(text, position, position + len(sentence))
        if span[0] < span[1]:
            yield span
        position += len(sentence)


def _strip(text: str, start: int, end: int) -> tuple[int, int]:
    while start < end and text[start].isspace():
        start += 1
    while end > start and text[end - 1].isspace():
        end -= 1
    return start, end


def _shorten(text: str, start: int, end: int, max_characters: int) -> Iterator[tuple[int, int]]:
    start, end = _strip(text, start, end)
    while end - start > max_characters:
        cut = _last_cut(text, start, start + max_characters)
        yield _strip(text, start, cut)
        start, _ = _strip(text, cut, end)
    if end > start:
        yield start, end


def _last_cut(text: str, start: int, limit: int) -> int:
    """Where to cut `text[start:limit]`: after the last clause mark of its second half, else after its last word."""
    window = text[start:limit]
    clauses = [m.end() for m in _CLAUSE_END.finditer(window) if m.end() > len(window) // 2]
    if clauses:
        return start + clauses[-1]
    if text[limit].isspace():
        return limit
    words = [m.end() for m in _WORD_END.finditer(window)]
    return start + words[-1] if words else limit


def _attach_unspeakable(text: str, spans: list[tuple[int, int]], max_characters: int) -> list[tuple[int, int]]:
    """Join pieces that are punctuation alone to the one before: `Really` + `?!` stays a question."""
    joined: list[tuple[int, int]] = []
    for start, end in spans:
        if joined and not is_speakable(text[start:end]) and end - joined[-1][0] <= max_characters:
            joined[-1] = (joined[-1][0], end)
        else:
            joined.append((start, end))
    return joined


def _pack(spans: list[tuple[int, int]], max_characters: int) -> list[tuple[int, int]]:
    packed: list[tuple[int, int]] = []
    for start, end in spans:
        if packed and end - packed[-1][0] <= max_characters:
            packed[-1] = (packed[-1][0], end)
        else:
            packed.append((start, end))
    return packed
