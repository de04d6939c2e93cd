"""Waiting for the next change of something, at most so long by the clock."""

from __future__ import annotations

import asyncio

from emulator.engine.clock import Clock


class Changes:
    def __init__(self, clock: Clock) -> None:
        self._clock = clock
        self._waiters: set[asyncio.Future[bool]] = set()

    @property
    def waiting(self) -> int:
        """How many wait."""
        return len(self._waiters)

    def announce(self) -> None:
        """Wake whoever waits now."""
        for waiter in self._waiters:
            _settle(waiter, True)

    async def wait(self, timeout_s: float) -> bool:
        """Wait for the next change, at most `timeout_s` seconds of the clock. Whether there was one."""
        waiter: asyncio.Future[bool] = asyncio.get_running_loop().create_future()
        self._waiters.add(waiter)
        timer = self._clock.call_later(timeout_s, lambda: _settle(waiter, False))
        try:
            return await waiter
        finally:
            timer.cancel()
            self._waiters.discard(waiter)


def _settle(waiter: asyncio.Future[bool], has_changed: bool) -> None:
    if not waiter.done():
        waiter.set_result(has_changed)
