"""Webhooks: the whole job, its input and the address, at most three times [LIVE 16]. A failure never fails the job."""

from __future__ import annotations

import asyncio
import logging
from typing import Any

import httpx

from emulator.engine.clock import Clock, sleep
from emulator.runpod import facts

logger = logging.getLogger(__name__)


class Webhooks:
    def __init__(self, client: httpx.AsyncClient, clock: Clock) -> None:
        self._client, self._clock = client, clock
        self._tasks: set[asyncio.Task[None]] = set()

    def send(self, url: str, body: dict[str, Any]) -> None:
        task = asyncio.create_task(self._deliver(url, body))
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    async def close(self) -> None:
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)
        await self._client.aclose()

    async def _deliver(self, url: str, body: dict[str, Any]) -> None:
        started_at = self._clock.now()
        for delay_s in facts.WEBHOOK_DELAYS_S:
            await sleep(self._clock, started_at + delay_s - self._clock.now())
            try:
                response = await self._client.post(url, json=body)
            except httpx.HTTPError as error:
                logger.warning("webhook %s: %s", url, error)
            else:
                if response.is_success:
                    return
        logger.warning("webhook %s: given up", url)
