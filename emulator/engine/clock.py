"""Time, injected: real, or moved by a test."""

from __future__ import annotations

import asyncio
import heapq
import itertools
import time
from collections.abc import Callable
from typing import Protocol

SETTLE_TURNS = 20
"""Turns of the event loop after each timer, so that what it woke has run before the next one fires."""

MIN_FORGOTTEN = 100


class Timer(Protocol):
    def cancel(self) -> None: ...


class Clock(Protocol):
    def now(self) -> float:
        """Seconds since some fixed moment."""

    def time(self) -> float:
        """Seconds since 1970, for people to read."""

    def call_later(self, delay_s: float, callback: Callable[[], object]) -> Timer:
        """Call `callback` after `delay_s` seconds."""


class RealClock:
    def now(self) -> float:
        return time.monotonic()

    def time(self) -> float:
        return time.time()

    def call_later(self, delay_s: float, callback: Callable[[], object]) -> Timer:
        return asyncio.get_running_loop().call_later(delay_s, callback)


class _VirtualTimer:
    def __init__(self, callback: Callable[[], object], on_cancel: Callable[[], None]) -> None:
        self.callback: Callable[[], object] | None = callback
        self._on_cancel = on_cancel

    def fire(self) -> None:
        callback, self.callback = self.callback, None
        if callback is not None:
            callback()

    def cancel(self) -> None:
        if self.callback is not None:
            self.callback = None
            self._on_cancel()


class VirtualClock:
    """Stands still until `advance` moves it: a day passes in milliseconds. `starts_at`: seconds since 1970."""

    def __init__(self, *, starts_at: float = 0.0) -> None:
        self._now_s, self._starts_at = 0.0, starts_at
        self._order = itertools.count()
        self._timers: list[tuple[float, int, _VirtualTimer]] = []
        self._cancelled = 0

    def now(self) -> float:
        return self._now_s

    def time(self) -> float:
        return self._starts_at + self._now_s

    def call_later(self, delay_s: float, callback: Callable[[], object]) -> Timer:
        timer = _VirtualTimer(callback, self._forget_cancelled)
        heapq.heappush(self._timers, (self._now_s + max(0.0, delay_s), next(self._order), timer))
        return timer

    async def advance(self, seconds: float) -> None:
        """Fire every timer that falls due, in order, including those that fired ones set up."""
        end_s = self._now_s + seconds
        await _settle()
        while self._timers and self._timers[0][0] <= end_s:
            due_s, _, timer = heapq.heappop(self._timers)
            if timer.callback is None:
                self._cancelled -= 1
                continue
            self._now_s = due_s
            timer.fire()
            await _settle()
        self._now_s = end_s
        await _settle()

    def _forget_cancelled(self) -> None:
        """As asyncio does: not each at once, but before they are the most."""
        self._cancelled += 1
        if self._cancelled > MIN_FORGOTTEN and self._cancelled * 2 > len(self._timers):
            self._timers = [entry for entry in self._timers if entry[2].callback is not None]
            heapq.heapify(self._timers)
            self._cancelled = 0


async def _settle() -> None:
    for _ in range(SETTLE_TURNS):
        await asyncio.sleep(0)


async def sleep(clock: Clock, seconds: float) -> None:
    """Sleep on that clock."""
    done = asyncio.Event()
    timer = clock.call_later(seconds, done.set)
    try:
        await done.wait()
    finally:
        timer.cancel()
