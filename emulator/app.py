"""The emulator: every function behind RunPod's and Modal's APIs and as a plain HTTP worker, in one process.

`/v2/{endpoint}/…`: RunPod's client API and worker API. `/workers/{function}/…`: the HTTP worker. `/healthz`.
`/_emulator/faults`: fault rules. Modal's control plane is gRPC, on a port of its own.
"""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any, Literal

import httpx
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Mount, Route
from starlette.types import ASGIApp

from emulator import fault_requests
from emulator.engine.clock import Clock, RealClock
from emulator.engine.faults import Faults
from emulator.engine.policy import PoolLimits
from emulator.engine.pool import WorkerPool
from emulator.engine.worker import Worker
from emulator.modal import functions as modal_functions
from emulator.modal.control_plane import ControlPlane, default_token
from emulator.runpod import facts
from emulator.runpod.auth import is_authorised
from emulator.runpod.client_api import ClientApi
from emulator.runpod.endpoint import Endpoint
from emulator.runpod.policy import JOB_POLICY
from emulator.runpod.process import ProcessWorker, worker_environment
from emulator.runpod.worker import HandlerWorker, RunpodConfig
from emulator.runpod.worker_api import WorkerApi
from yapit.errors import ConfigurationError, WorkerUnavailable
from yapit.function_spec import FunctionSpec, discover
from yapit.workers.handlers import local, runpod
from yapit.workers.loading import import_functions_from, load_runner
from yapit.workers.runner import Runner

DEFAULT_API_KEY = "emulator"
WorkerKind = Literal["in-process", "process"]


class Emulator:
    """The functions under `functions_dir`. `endpoints` maps RunPod endpoint ids to functions; each function also has an
    endpoint of its own name.

    `workers` says what serves those endpoints: handlers in this process, or processes that run the vendor's own loop
    and ask for their jobs at `base_url`. Both are started when jobs wait and stopped when idle.

    Modal's API is served at `modal_address` while the lifespan runs, or from `modal.listen()` on.

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
        workers: WorkerKind = "in-process",
        base_url: str | None = None,
        modal_address: tuple[str, int] | None = None,
    ) -> None:
        if workers == "process" and base_url is None:
            raise ConfigurationError("worker processes need the emulator's base_url, to ask it for their jobs")
        self.clock = clock or RealClock()
        self.faults = Faults()
        self.api_key = api_key
        self.workers, self.base_url, self.functions_dir = workers, base_url or "", functions_dir
        self.specs = discover(functions_dir)
        import_functions_from(functions_dir)
        self.endpoints = {
            endpoint_id: self._endpoint(endpoint_id, function)
            for endpoint_id, function in {**{name: name for name in self.specs}, **(endpoints or {})}.items()
        }
        self.modal, self._modal_address = self._modal(), modal_address
        self.runners: dict[str, Runner] = {}
        webhook_client = webhook_client or httpx.AsyncClient(timeout=10.0)
        self._api = ClientApi(self.endpoints, api_key=api_key, clock=self.clock, webhook_client=webhook_client)
        worker_api = WorkerApi(self.endpoints, api_key=api_key, clock=self.clock)
        mounts = [Mount(f"/workers/{name}", app=self._worker(spec)) for name, spec in self.specs.items()]
        faults = Route(fault_requests.PATH, self._serve_faults, methods=["GET", "PUT", "DELETE"])
        routes = [Route("/healthz", self._healthz), faults, *mounts, *worker_api.routes(), *self._api.routes()]
        served = Starlette(routes=routes, lifespan=self._lifespan)
        self.app: ASGIApp = fault_requests.FaultyRequests(served, self.faults, self.clock)

    def open(self) -> None:
        """Start the workers that the endpoints always keep."""
        for endpoint in self.endpoints.values():
            endpoint.pool.open()

    async def close(self) -> None:
        """Stop every worker, and what else runs."""
        await self._api.webhooks.close()
        await self.stop_workers()
        await self.modal.close()
        for runner in self.runners.values():
            await runner.close()

    async def stop_workers(self) -> None:
        """Stop RunPod's and Modal's workers; their jobs end as cancelled."""
        await asyncio.gather(
            self.modal.stop_workers(), *(endpoint.pool.close() for endpoint in self.endpoints.values())
        )

    def _modal(self) -> ControlPlane:
        modal = ControlPlane(token=default_token(self.api_key), clock=self.clock, faults=self.faults)
        for spec in self.specs.values():
            modal.define(modal_functions.define(spec))
        return modal

    def _endpoint(self, endpoint_id: str, function: str) -> Endpoint:
        spec = self.specs.get(function)
        if spec is None:
            known = ", ".join(self.specs)
            raise ConfigurationError(
                f"RunPod endpoint {endpoint_id}: there is no function {function!r}; there is {known}"
            )

        def make_worker(worker_id: str) -> Worker:
            return self._process(endpoint_id, worker_id, spec) if self.workers == "process" else _in_process(spec)

        limits = PoolLimits(
            min_workers=spec.scaling.min_workers,
            max_workers=spec.scaling.max_workers,
            concurrency=max(runpod.MIN_CONCURRENCY, spec.scaling.concurrency),
            idle_timeout_s=spec.scaling.idle_timeout_s,
        )
        pool = WorkerPool(make_worker, limits, self.clock, name=endpoint_id, policy=JOB_POLICY, faults=self.faults)
        return Endpoint(endpoint_id, pool, self.clock)

    def _process(self, endpoint_id: str, worker_id: str, spec: FunctionSpec) -> ProcessWorker:
        environment = worker_environment(
            *(self.base_url, endpoint_id, worker_id),
            api_key=self.api_key,
            adapter_class=spec.adapter_class,
            functions_dir=self.functions_dir,
        )
        return ProcessWorker(worker_id, self.clock, environment)

    def _worker(self, spec: FunctionSpec) -> ASGIApp:
        try:
            runner = load_runner(spec.adapter_class)
        except ConfigurationError as error:
            return _unavailable(str(error))
        self.runners[spec.name] = runner
        return local.create_app(runner)

    async def _serve_faults(self, request: Request) -> Response:
        if not is_authorised(request, self.api_key):
            return JSONResponse(facts.UNAUTHORIZED, status_code=401)
        return await fault_requests.serve_rules(request, self.faults)

    async def _healthz(self, _: Request) -> Response:
        return JSONResponse({"status": "ok", "functions": list(self.specs), "endpoints": list(self.endpoints)})

    @asynccontextmanager
    async def _lifespan(self, _: Starlette) -> AsyncIterator[None]:
        self.open()
        if self._modal_address:
            await self.modal.listen(*self._modal_address)
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


def _in_process(spec: FunctionSpec) -> HandlerWorker:
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
