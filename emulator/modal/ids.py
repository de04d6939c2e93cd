"""Identifiers in Modal's form: `fc-…` for a call, `in-…` for an input, `fu-…` for a function."""

from __future__ import annotations

import secrets
import string

_ALPHABET = string.ascii_uppercase + string.digits
_RANDOM, _MARK = 16, 6


class Ids:
    """Makes ids that carry the mark of this emulator: one that is not kept any more is told from one never given."""

    def __init__(self) -> None:
        self._mark = _random(_MARK)

    def new(self, prefix: str) -> str:
        return f"{prefix}-{_random(_RANDOM)}{self._mark}"

    def is_ours(self, found: str) -> bool:
        return found.endswith(self._mark)


def _random(length: int) -> str:
    return "".join(secrets.choice(_ALPHABET) for _ in range(length))
