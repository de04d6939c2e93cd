"""The emulator: every function behind RunPod's API and as a plain HTTP worker, in one process.

`/v2/{endpoint}/…`: RunPod's client API. `/workers/{function}/…`: the HTTP worker. `/healthz`.
"""

from __future__ import annotations

import json
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import httpx
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Mount, Route
from starlette.types import ASGIApp

from emulator.engine.clock import Clock, RealClock
from emulator.engine.pool import PoolLimits, WorkerPool
from emulator.runpod.client_api import ClientApi
from emulator.runpod.endpoint import Endpoint
from emulator.runpod.worker import HandlerWorker, RunpodConfig
from yapit.errors import ConfigurationError, WorkerUnavailable
from yapit.function_spec import FunctionSpec, discover
from yapit.workers.handlers import local, runpod
from yapit.workers.loading import import_functions_from, load_runner
from yapit.workers.runner import Runner

DEFAULT_API_KEY = "emulator"


class Emulator:
    """The functions under `functions_dir`. `endpoints` maps RunPod endpoint ids to functions; each function also has an
    endpoint of its own name.

    Raises `ConfigurationError` for a function that cannot be read. One whose packages are missing is served, and
    answers that it cannot start.
    """

    def __init__(
        self,
        functions_dir: Path,
        *,
        endpoints: Mapping[str, str] | None = None,
        api_key: str = DEFAULT_API_KEY,
        clock: Clock | None = None,
        webhook_client: httpx.AsyncClient | None = None,
    ) -> None:
        self.clock = clock or RealClock()
        self.api_key = api_key
        self.specs = discover(functions_dir)
        import_functions_from(functions_dir)
        self.endpoints = {
            endpoint_id: self._endpoint(endpoint_id, function)
            for endpoint_id, function in {**{name: name for name in self.specs}, **(endpoints or {})}.items()
        }
        self.runners: dict[str, Runner] = {}
        webhook_client = webhook_client or httpx.AsyncClient(timeout=10.0)
        self._api = ClientApi(self.endpoints, api_key=api_key, clock=self.clock, webhook_client=webhook_client)
        mounts = [Mount(f"/workers/{name}", app=self._worker(spec)) for name, spec in self.specs.items()]
        routes = [Route("/healthz", self._healthz), *mounts, *self._api.routes()]
        self.app = Starlette(routes=routes, lifespan=self._lifespan)

    def open(self) -> None:
        """Start the workers that the endpoints always keep."""
        for endpoint in self.endpoints.values():
            endpoint.pool.open()

    async def close(self) -> None:
        """Stop every worker."""
        await self._api.webhooks.close()
        for endpoint in self.endpoints.values():
            await endpoint.pool.close()
        for runner in self.runners.values():
            await runner.close()

    def _endpoint(self, endpoint_id: str, function: str) -> Endpoint:
        spec = self.specs.get(function)
        if spec is None:
            known = ", ".join(self.specs)
            raise ConfigurationError(
                f"RunPod endpoint {endpoint_id}: there is no function {function!r}; there is {known}"
            )
        limits = PoolLimits(
            min_workers=spec.scaling.min_workers,
            max_workers=spec.scaling.max_workers,
            concurrency=max(runpod.MIN_CONCURRENCY, spec.scaling.concurrency),
            idle_timeout_s=spec.scaling.idle_timeout_s,
        )
        return Endpoint(endpoint_id, WorkerPool(lambda _: _worker(spec), limits, self.clock), self.clock)

    def _worker(self, spec: FunctionSpec) -> ASGIApp:
        try:
            runner = load_runner(spec.adapter_class)
        except ConfigurationError as error:
            return _unavailable(str(error))
        self.runners[spec.name] = runner
        return local.create_app(runner)

    async def _healthz(self, _: Request) -> Response:
        return JSONResponse({"status": "ok", "functions": list(self.specs), "endpoints": list(self.endpoints)})

    @asynccontextmanager
    async def _lifespan(self, _: Starlette) -> AsyncIterator[None]:
        self.open()
        yield
        await self.close()


def endpoints_from(routes_file: Path) -> dict[str, str]:
    """RunPod endpoint id → function, for the entries of `tts_processors.json` that name one."""
    if not routes_file.is_file():
        return {}
    try:
        entries: list[dict[str, Any]] = json.loads(routes_file.read_text(encoding="utf-8"))
        return {
            entry["runpod_endpoint_id"]: entry.get("function") or entry["slug"]
            for entry in entries
            if "runpod_endpoint_id" in entry
        }
    except (ValueError, TypeError, KeyError) as error:
        raise ConfigurationError(f"{routes_file}: not a list of routes: {error!r}") from None


def _worker(spec: FunctionSpec) -> HandlerWorker:
    """A worker with an adapter of its own: what one does another cannot see."""
    runners: list[Runner] = []

    async def load() -> RunpodConfig:
        # as in the process that RunPod starts: the adapter is initialised by the first job, on the loop that serves
        runners.append(load_runner(spec.adapter_class))
        return runpod.build_config(runners[0])

    async def unload() -> None:
        while runners:
            await runners.pop().close()

    return HandlerWorker(load, unload)


def _unavailable(reason: str) -> ASGIApp:
    """In place of a worker that cannot be loaded: it says why."""

    async def answer(_: Request) -> Response:
        return local.error_response(WorkerUnavailable(reason))

    return Starlette(routes=[Route("/{path:path}", answer, methods=["GET", "POST"])])
