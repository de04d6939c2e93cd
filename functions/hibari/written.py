"""What is written, word by word, made ready for hibari's G2P: every letter and digit in a form that it speaks."""

from __future__ import annotations

import re
import unicodedata
from dataclasses import dataclass

from yapit.errors import UnsupportedText

_WORD = re.compile(r"\S+")
_KEPT = frozenset("²³ªº™½¼¾")  # hibari has readings of its own for them
_LATIN = ("LATIN", "FEMININE", "MASCULINE", "MICRO", "MODIFIER")
_LIST = re.compile(r"\d+(?:,\d+)+")
_GROUPED = re.compile(r"[1-9]\d{0,2}(?:,\d{2,3})*,\d{3}")
_CODE = re.compile(r"(?<![\d.,:/])(?<!\d-)(?:0\d+|\d{16,})(?![.,:/-]?\d)")
_HUGE = re.compile(r"\d(?:,?\d){36,}")
_LINK = re.compile(r"\](?=\()")


@dataclass(frozen=True, slots=True)
class Word:
    """A written word: `text[start:end]`, and what is given to the G2P for it (it may hold blanks)."""

    start: int
    end: int
    reading: str

    @property
    def is_speakable(self) -> bool:
        return any(character.isalnum() for character in self.reading)


def words_of(text: str) -> list[Word]:
    """Raises `UnsupportedText` for letters that are not Latin."""
    return [Word(match.start(), match.end(), _reading(match.group(), match.start())) for match in _WORD.finditer(text)]


def _reading(word: str, position: int) -> str:
    if not word.isascii():
        word = unicodedata.normalize("NFC", "".join(_fold(c, position + i) for i, c in enumerate(word)))
    if any(character.isdigit() for character in word):
        word = _LIST.sub(_spaced_list, word)
        word = _CODE.sub(_digit_by_digit, word)
        word = _HUGE.sub(_digit_by_digit, word)
    # "[word](/phonemes/)" is markup to hibari, and users write links that look so
    return _LINK.sub("] ", word)


def _fold(character: str, position: int) -> str:
    """ "Ｈ", "𝐇" and "ⓗ" are letters too; invisible format characters would cut a word in two."""
    if character.isascii() or character in _KEPT:
        return character
    if unicodedata.category(character) == "Cf":
        return ""
    folded = unicodedata.normalize("NFKC", character)
    if "⁄" in folded:
        return f" {folded.replace('⁄', '/')} "
    if folded.isascii() and folded.isalnum():
        return folded
    name = unicodedata.name(character, "")
    if character.isalpha() and not name.startswith(_LATIN):
        raise UnsupportedText(
            f"text: {character!r} at character {position} ({name or 'unnamed'}) is no Latin letter; hibari "
            "speaks English only. The model espeak speaks other languages.",
            param="text",
        )
    return character


def _spaced_list(match: re.Match[str]) -> str:
    """ "1,2,3" is no number of three digits."""
    found = match.group()
    return found if _GROUPED.fullmatch(found) else found.replace(",", ", ")


def _digit_by_digit(match: re.Match[str]) -> str:
    """ "007" would lose its zeros, and beyond 36 digits hibari knows no number."""
    return " ".join(match.group().replace(",", ""))
