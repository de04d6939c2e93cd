"""An endpoint of the emulated RunPod for tests, over ASGI and with the clock in hand."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator, Callable
from typing import Any

import httpx

from emulator.engine.clock import VirtualClock
from emulator.engine.pool import PoolLimits, WorkerPool
from emulator.runpod.app import create_runpod_app
from emulator.runpod.endpoint import QueueEndpoint
from emulator.runpod.limits import RunpodLimits
from emulator.runpod.policy import JOB_POLICY
from emulator.runpod.worker import HandlerWorker

KEY = "rp-key"
Answer = dict[str, Any]


class Steps:
    """The handler's side: it yields what `put` gives it, in order; `None` ends the job."""

    def __init__(self) -> None:
        self.queues: dict[str, asyncio.Queue[Any]] = {}
        self.stopped: list[str] = []

    def queue(self, job_id: str) -> asyncio.Queue[Any]:
        return self.queues.setdefault(job_id, asyncio.Queue())

    async def handler(self, job: dict[str, Any]) -> AsyncIterator[Any]:
        try:
            while (step := await self.queue(job["id"]).get()) is not None:
                if isinstance(step, Exception):
                    raise step
                yield step
        except asyncio.CancelledError:
            self.stopped.append(job["id"])
            raise


class Cloud:
    """One endpoint, `ep`, with the handler's steps and the clock in the test's hands."""

    def __init__(
        self,
        *,
        aggregate: bool = True,
        max_workers: int = 1,
        concurrency: int = 1,
        limits: RunpodLimits | None = None,
        handler: Callable[..., Any] | None = None,
    ) -> None:
        self.clock, self.steps = VirtualClock(), Steps()
        self.webhooks: list[dict[str, Any]] = []
        self.webhook_answers: list[int] = []
        config = {"handler": handler or self.steps.handler, "return_aggregate_stream": aggregate}

        async def load() -> dict[str, Any]:
            return config

        scaling = PoolLimits(max_workers=max_workers, concurrency=concurrency, idle_timeout_s=60)
        self.pool = WorkerPool(lambda _: HandlerWorker(load), scaling, self.clock, policy=JOB_POLICY)
        self.endpoint = QueueEndpoint("ep", self.pool, self.clock)
        webhook_client = httpx.AsyncClient(transport=httpx.MockTransport(self._webhook))
        self.app = create_runpod_app(
            {"ep": self.endpoint}, api_key=KEY, clock=self.clock, webhook_client=webhook_client, limits=limits
        )
        transport = httpx.ASGITransport(self.app)
        headers = {"Authorization": f"Bearer {KEY}"}
        self.http = httpx.AsyncClient(transport=transport, base_url="http://api/v2/ep", headers=headers)

    def _webhook(self, request: httpx.Request) -> httpx.Response:
        self.webhooks.append({"at_s": self.clock.now(), **json.loads(request.content)})
        return httpx.Response(self.webhook_answers.pop(0) if self.webhook_answers else 200)

    async def close(self) -> None:
        await self.app.aclose()
        await self.http.aclose()

    async def run(self, **body: Any) -> str:
        answer = (await self.http.post("/run", json={"input": {"x": 1}, **body})).json()
        await self.clock.advance(0)
        return answer["id"]

    async def say(self, job_id: str, *steps: Any) -> None:
        for step in steps:
            self.steps.queue(job_id).put_nowait(step)
        await self.clock.advance(0)

    async def status(self, job_id: str) -> Answer:
        return (await self.http.get(f"/status/{job_id}")).json()

    async def waiting(self, method: str, path: str, **arguments: Any) -> asyncio.Task[httpx.Response]:
        """A call that the API holds."""
        task = asyncio.create_task(self.http.request(method, path, **arguments))
        await self.clock.advance(0)
        return task
