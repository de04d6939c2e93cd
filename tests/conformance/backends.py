"""What the client conformance tests run against: RunPod's API over workers in this process, over worker processes that
run the vendor's own loop, or in the cloud. Behind each is `function/handler.py`.
"""

from __future__ import annotations

import asyncio
import os
import socket
import sys
from collections import deque
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import httpx
import pytest
import uvicorn
from starlette.applications import Starlette
from starlette.types import ASGIApp, Receive, Scope, Send

from emulator.engine.clock import RealClock
from emulator.engine.policy import PoolLimits
from emulator.engine.pool import WorkerPool
from emulator.engine.worker import Worker
from emulator.runpod.client_api import ClientApi
from emulator.runpod.endpoint import QueueEndpoint
from emulator.runpod.limits import RunpodLimits
from emulator.runpod.policy import JOB_POLICY
from emulator.runpod.process import ProcessWorker, worker_environment
from emulator.runpod.worker import HandlerWorker, RunpodConfig, progress_update
from emulator.runpod.worker_api import WorkerApi
from tests.conformance.function.handler import CONCURRENCY, build_config
from tests.conftest import API_KEY, serve

HANDLER = Path(__file__).parent / "function" / "handler.py"
EMULATED = ("in-process", "process")
KINDS = ("generator", "plain", "function")
UNFIT = "unfit"  # a worker process whose own check fails
CLOUD_BASE = os.environ.get("RUNPOD_API_BASE", "https://api.runpod.ai/v2")
CLOUD_ENDPOINTS = {
    "generator": "RUNPOD_CONFORMANCE_ENDPOINT",
    "plain": "RUNPOD_CONFORMANCE_PLAIN_ENDPOINT",
    "function": "RUNPOD_CONFORMANCE_FUNCTION_ENDPOINT",
}
"""The environment variable that has the id of the endpoint of each kind."""


@dataclass(frozen=True)
class Backend:
    """`base_url` ends in `/v2`. `patience_s`: how long a job may take that does nothing, cold start included."""

    name: str
    base_url: str
    key: str
    patience_s: float
    worker_calls: deque[WorkerCall]

    @property
    def is_cloud(self) -> bool:
        return self.name == "cloud"

    def endpoint(self, kind: str) -> str:
        if not self.is_cloud:
            return f"{self.name}-{kind}"
        found = os.environ.get(CLOUD_ENDPOINTS[kind])
        return found or pytest.skip(f"{CLOUD_ENDPOINTS[kind]} is not set")

    def http(self, kind: str = "generator") -> httpx.Client:
        """Plain HTTP to an endpoint."""
        return httpx.Client(
            base_url=f"{self.base_url}/{self.endpoint(kind)}",
            headers={"Authorization": f"Bearer {self.key}"},
            timeout=self.patience_s + 30,
        )


@dataclass(frozen=True)
class WorkerCall:
    """A request that a worker process has made."""

    method: str
    path: str
    query: str
    headers: dict[str, str]


def cloud_backend() -> Backend:
    key = os.environ.get("RUNPOD_API_KEY", "")
    if not key:
        pytest.skip("RUNPOD_API_KEY is not set")
    return Backend("cloud", CLOUD_BASE, key, 300, deque())


@contextmanager
def emulated() -> Iterator[dict[str, Backend]]:
    """Both kinds of worker behind one address, so that the SDK, whose address is global, can use both at once."""
    calls: deque[WorkerCall] = deque(maxlen=10_000)
    with serve(lambda url: _Server(url, calls)) as (url, _):
        yield {name: Backend(name, f"{url}/v2", API_KEY, 30, calls) for name in EMULATED}


class _Server(uvicorn.Server):
    def __init__(self, url: str, calls: deque[WorkerCall]) -> None:
        clock = RealClock()
        served = [*((name, kind) for name in EMULATED for kind in KINDS), ("process", UNFIT)]
        self._endpoints = {
            f"{name}-{kind}": QueueEndpoint(f"{name}-{kind}", _pool(url, name, kind, clock), clock)
            for name, kind in served
        }
        arguments = {"api_key": API_KEY, "clock": clock}
        client_api = ClientApi(self._endpoints, webhook_client=httpx.AsyncClient(), limits=RunpodLimits(), **arguments)
        self._webhooks = client_api.webhooks
        routes = [*WorkerApi(self._endpoints, **arguments).routes(), *client_api.routes()]
        app = _Recorder(Starlette(routes=routes), calls)
        super().__init__(uvicorn.Config(app, log_level="warning", access_log=False, timeout_graceful_shutdown=2))

    async def shutdown(self, sockets: list[socket.socket] | None = None) -> None:
        await self._webhooks.close()
        await asyncio.gather(*(endpoint.pool.close() for endpoint in self._endpoints.values()))
        await super().shutdown(sockets)


class _Recorder:
    """Keeps what worker processes ask."""

    def __init__(self, app: ASGIApp, calls: deque[WorkerCall]) -> None:
        self._app, self._calls = app, calls

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] == "http" and ("/job-" in scope["path"] or "/ping/" in scope["path"]):
            headers = {name.decode(): value.decode() for name, value in scope["headers"]}
            self._calls.append(WorkerCall(scope["method"], scope["path"], scope["query_string"].decode(), headers))
        await self._app(scope, receive, send)


def _pool(url: str, name: str, kind: str, clock: RealClock) -> WorkerPool:
    async def load() -> RunpodConfig:
        return build_config(kind, progress_update)

    def process(worker_id: str) -> Worker:
        environment = worker_environment(
            *(url, f"{name}-{kind}", worker_id), api_key=API_KEY, adapter_class="", functions_dir=Path()
        )
        return ProcessWorker(
            worker_id, clock, {**environment, "CONFORMANCE_KIND": kind}, (sys.executable, "-u", str(HANDLER))
        )

    limits = PoolLimits(max_workers=2 if kind == "plain" else 1, concurrency=CONCURRENCY, idle_timeout_s=600)
    make = process if name == "process" else (lambda _: HandlerWorker(load))
    return WorkerPool(make, limits, clock, name=f"{name}-{kind}", policy=JOB_POLICY)
