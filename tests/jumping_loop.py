"""An event loop whose time jumps to the next timer when nothing else is to be done: an hour's wait takes no time.

For code that waits by asyncio itself. Nothing in it may wait for a socket or a thread: the loop would jump over it.
"""

from __future__ import annotations

import asyncio
import selectors
from collections.abc import Coroutine
from typing import Any, TypeVar

T = TypeVar("T")


class _JumpingSelector(selectors.DefaultSelector):
    now_s = 0.0

    def select(self, timeout: float | None = None) -> list[tuple[selectors.SelectorKey, int]]:
        if found := super().select(0):
            return found
        assert timeout is not None, "everything waits for something that nothing here will bring about"
        self.now_s += timeout
        return []


class _JumpingLoop(asyncio.SelectorEventLoop):
    def __init__(self) -> None:
        self._jumping = _JumpingSelector()
        super().__init__(self._jumping)

    def time(self) -> float:
        return self._jumping.now_s


def run_jumping(main: Coroutine[Any, Any, T]) -> T:
    """As `asyncio.run`, on such a loop."""
    with asyncio.Runner(loop_factory=_JumpingLoop) as runner:
        return runner.run(main)
