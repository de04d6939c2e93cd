"""A bounded number of places with a bounded queue in front."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from yapit.errors import Overloaded


class Places:
    """`limit` jobs at a time, `max_waiting` more in line, first come first served; whoever comes beyond is refused."""

    def __init__(self, owner: str, *, limit: int, max_waiting: int) -> None:
        self._owner, self._max_waiting = owner, max_waiting
        self._semaphore = asyncio.Semaphore(limit)
        self.running = self.waiting = 0

    @asynccontextmanager
    async def hold(self) -> AsyncIterator[None]:
        """Raises `Overloaded`."""
        if self._semaphore.locked() and self.waiting >= self._max_waiting:
            raise Overloaded(f"{self._owner} has {self.running} jobs running and {self.waiting} waiting")
        self.waiting += 1
        try:
            await self._semaphore.acquire()
        finally:
            self.waiting -= 1
        self.running += 1
        try:
            yield
        finally:
            self.running -= 1
            self._semaphore.release()
