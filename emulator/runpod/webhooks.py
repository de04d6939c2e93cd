"""Webhooks: the whole job, its input and the address, at most three times [LIVE 16]. A failure never fails the job."""

from __future__ import annotations

import asyncio
import logging

import httpx

from emulator.engine.clock import Clock, sleep
from emulator.runpod import facts

logger = logging.getLogger(__name__)

MAX_PENDING = 1_000


class Webhooks:
    """At most `MAX_PENDING` are under way; what comes above that is dropped, and the log says so."""

    def __init__(self, client: httpx.AsyncClient, clock: Clock) -> None:
        self._client, self._clock = client, clock
        self._tasks: set[asyncio.Task[None]] = set()
        self._is_closed = False

    def send(self, url: str, body: bytes) -> None:
        if self._is_closed:
            return
        if len(self._tasks) >= MAX_PENDING:
            logger.warning("webhook %s: dropped, %d are under way", url, len(self._tasks))
            return
        task = asyncio.create_task(self._deliver(url, body))
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    async def close(self) -> None:
        """Give up what is under way; nothing is sent after this."""
        self._is_closed = True
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)
        await self._client.aclose()

    async def _deliver(self, url: str, body: bytes) -> None:
        started_at = self._clock.now()
        headers = {"Content-Type": "application/json"}
        for delay_s in facts.WEBHOOK_DELAYS_S:
            await sleep(self._clock, started_at + delay_s - self._clock.now())
            try:
                response = await self._client.post(url, content=body, headers=headers)
            except (httpx.HTTPError, httpx.InvalidURL) as error:
                logger.warning("webhook %s: %s", url, error)
            else:
                if response.is_success:
                    return
        logger.warning("webhook %s: given up", url)


def is_address(url: object) -> bool:
    """Whether a webhook can be sent there."""
    try:
        return isinstance(url, str) and httpx.URL(url).scheme in ("http", "https") and bool(httpx.URL(url).host)
    except httpx.InvalidURL:
        return False
