"""Workers of load-balancing endpoints: HTTP servers whose health RunPod asks for at `/ping`."""

from __future__ import annotations

import asyncio
import logging
from abc import abstractmethod
from collections.abc import Callable
from contextlib import AsyncExitStack

import httpx
from starlette.applications import Starlette
from starlette.types import Message

from emulator.engine.clock import Clock, sleep
from emulator.engine.jobs import Attempt
from emulator.engine.worker import WatchedWorker
from emulator.runpod import facts
from emulator.runpod.exchange import AnswerTooLarge, Exchange, ExchangeOver

logger = logging.getLogger(__name__)


class Unhealthy(Exception):
    """The worker did not become healthy; the message says what it answered."""


class ServedWorker(WatchedWorker):
    """Ready when its health check first answers 200; lost when it answers anything else after that [DOCS]."""

    def __init__(self, worker_id: str, clock: Clock) -> None:
        super().__init__(worker_id)
        self._clock = clock
        self._watching: asyncio.Task[None] | None = None

    @property
    def is_ready(self) -> bool:
        return self._watching is not None and not self._watching.done()

    async def start(self) -> None:
        """Raises `Unhealthy`."""
        await self.launch()
        while (answer := await self.ping()) is None or answer.status_code != 200:
            if answer is not None and answer.status_code != 204:
                raise Unhealthy(f"{facts.LB_HEALTH_PATH} answered {answer.status_code}: {answer.text[:300]}")
            await sleep(self._clock, facts.LB_HEALTH_STARTING_S)
        self._watching = asyncio.create_task(self._watch())

    async def stop(self) -> None:
        watching, self._watching = self._watching, None
        if watching:
            watching.cancel()
            await asyncio.gather(watching, return_exceptions=True)

    async def run(self, attempt: Attempt) -> None:
        exchange: Exchange = attempt.input
        try:
            await self.serve(exchange, attempt)
        except (AnswerTooLarge, ExchangeOver) as error:
            attempt.fail(str(error))
        if exchange.is_complete:
            attempt.complete(None)
        else:
            attempt.fail("the worker did not finish its answer")

    @abstractmethod
    async def launch(self) -> None:
        """Start what serves; `stop` ends it."""

    @abstractmethod
    async def ping(self) -> httpx.Response | None:
        """What the health check answers; None while nothing listens yet."""

    @abstractmethod
    async def serve(self, exchange: Exchange, attempt: Attempt) -> None:
        """Have the request answered. Cancelled when nobody waits for it any more."""

    async def _watch(self) -> None:
        answer: httpx.Response | None
        while True:
            await sleep(self._clock, facts.LB_HEALTH_S)
            answer = await self.ping()
            if answer is None or answer.status_code != 200:
                break
        self.on_lost(f"{facts.LB_HEALTH_PATH} answered {answer.status_code if answer is not None else 'nothing'}")


class AppWorker(ServedWorker):
    """An application in this process, with its own lifespan."""

    def __init__(self, worker_id: str, clock: Clock, load: Callable[[], Starlette]) -> None:
        super().__init__(worker_id, clock)
        self._load = load
        self._lifespan = AsyncExitStack()

    async def launch(self) -> None:
        self._app = self._load()
        await self._lifespan.enter_async_context(self._app.router.lifespan_context(self._app))

    async def stop(self) -> None:
        await super().stop()
        await self._lifespan.aclose()

    async def ping(self) -> httpx.Response:
        async with httpx.AsyncClient(transport=httpx.ASGITransport(self._app), trust_env=False) as client:
            return await client.get(f"http://worker{facts.LB_HEALTH_PATH}")

    async def serve(self, exchange: Exchange, attempt: Attempt) -> None:
        async def send(message: Message) -> None:
            await exchange.send(message, attempt)

        try:
            await self._app(exchange.scope, exchange.receive, send)
        except (AnswerTooLarge, ExchangeOver):
            raise
        except Exception:  # the framework has answered 500 before it raises
            logger.exception("worker %s: its application raised", self.worker_id)
