"""Identifiers in Modal's form: `fc-…` for a call, `in-…` for an input, `fu-…` for a function."""

from __future__ import annotations

import secrets

_RANDOM_BYTES, _MARK_BYTES = 8, 3
"""22 characters in all: the SDK's CLI takes nothing else for an app's id (modal 1.6.4, `cli/app.py`)."""


class Ids:
    """Makes ids that carry the mark of this emulator: one that is not kept any more is told from one never given."""

    def __init__(self) -> None:
        self._mark = _random(_MARK_BYTES)

    def new(self, prefix: str) -> str:
        return f"{prefix}-{_random(_RANDOM_BYTES)}{self._mark}"

    def is_ours(self, found: str) -> bool:
        return found.endswith(self._mark)


def _random(size_bytes: int) -> str:
    return secrets.token_hex(size_bytes).upper()
