"""An endpoint whose workers are the test itself: it asks for jobs and posts results as the vendor's loop does."""

from __future__ import annotations

import asyncio
import json
from typing import Any

import httpx
from starlette.applications import Starlette

from emulator.engine.clock import VirtualClock
from emulator.engine.pool import PoolLimits, WorkerPool
from emulator.engine.pulled import PulledWorker
from emulator.runpod import facts
from emulator.runpod.client_api import ClientApi
from emulator.runpod.endpoint import QueueEndpoint
from emulator.runpod.policy import JOB_POLICY
from emulator.runpod.worker_api import WorkerApi

KEY = "rp-key"
FORM = {"Content-Type": "application/x-www-form-urlencoded", "charset": "utf-8"}
"""The headers of the SDK's POSTs, whatever the body is (runpod 1.12.0, `rp_http`)."""


class Remote:
    """Endpoint `ep`, the clock, a client's calls and a worker's."""

    def __init__(self, *, max_workers: int = 1, concurrency: int = 1) -> None:
        self.clock = VirtualClock()
        limits = PoolLimits(max_workers=max_workers, concurrency=concurrency, idle_timeout_s=3_600)
        self.pool = WorkerPool(self._worker, limits, self.clock, policy=JOB_POLICY)
        endpoints = {"ep": QueueEndpoint("ep", self.pool, self.clock)}
        client_api = ClientApi(endpoints, api_key=KEY, clock=self.clock, webhook_client=httpx.AsyncClient())
        worker_api = WorkerApi(endpoints, api_key=KEY, clock=self.clock)
        app = Starlette(routes=[*worker_api.routes(), *client_api.routes()])
        self._webhooks = client_api.webhooks
        self.http = httpx.AsyncClient(
            transport=httpx.ASGITransport(app), base_url="http://api/v2/ep", headers={"Authorization": KEY}
        )
        self._calls: list[asyncio.Task[httpx.Response]] = []

    def _worker(self, worker_id: str) -> PulledWorker:
        return PulledWorker(worker_id, self.clock, silence_s=facts.SILENCE_S)

    async def close(self) -> None:
        await self.pool.close()
        await self._webhooks.close()
        await asyncio.gather(*self._calls, return_exceptions=True)
        await self.http.aclose()

    # a client

    async def run(self, **body: Any) -> str:
        answer = (await self.http.post("/run", json={"input": {"x": 1}, **body})).json()
        await self.clock.advance(0)
        return answer["id"]

    async def status(self, job_id: str) -> dict[str, Any]:
        return (await self.http.get(f"/status/{job_id}")).json()

    async def health(self) -> dict[str, dict[str, int]]:
        return (await self.http.get("/health")).json()

    # a worker

    async def get(self, path: str) -> asyncio.Task[httpx.Response]:
        """A call that the API may hold."""
        call = asyncio.create_task(self.http.get(path))
        self._calls.append(call)
        await self.clock.advance(0)
        return call

    async def take(self, worker: str = "worker-1") -> dict[str, Any]:
        """The next job, which must be there at once."""
        call = await self.get(f"/job-take/{worker}?gpu=none&job_in_progress=0")
        assert call.done()
        return call.result().json()

    async def take_new(self) -> dict[str, Any]:
        """Submit a job and take it."""
        await self.run()
        return await self.take()

    async def post(self, what: str, job_id: str, body: Any, *, worker: str = "worker-1", **headers: str) -> int:
        """The status of the answer to a result, chunk or progress."""
        content = body if isinstance(body, bytes) else json.dumps(body, ensure_ascii=False).encode()
        path = f"/{what}/{worker}/{job_id}?gpu=none&isStream=false"
        response = await self.http.post(path, content=content, headers={**FORM, **headers})
        await self.clock.advance(0)
        return response.status_code

    async def done(self, job_id: str, body: Any, **options: str) -> int:
        return await self.post("job-done", job_id, body, **options)

    async def ping(self, *job_ids: str, worker: str = "worker-1", **params: str) -> None:
        named = {"job_id": ",".join(job_ids)} if job_ids else {}
        response = await self.http.get(f"/ping/{worker}", params={"gpu": "none", **named, **params})
        assert response.status_code == 200
        await self.clock.advance(0)
