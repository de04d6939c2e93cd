"""The emulator: every function behind RunPod's and Modal's APIs and as a plain HTTP worker, in one process.

`/v2/{endpoint}/…`: RunPod's client API and worker API. `/lb/{endpoint}/…`, or a host that names the endpoint: its
load-balancing endpoints. `/modal/…`: Modal's web endpoints and blobs; its control plane is gRPC, on a port of its own.
`/workers/{function}/…`: the HTTP worker. `/healthz`. `/_emulator/faults`: fault rules.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from pathlib import Path

import httpx
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Mount, Route
from starlette.types import ASGIApp

from emulator import fault_requests
from emulator.endpoints import Endpoints, WorkerKind
from emulator.engine.clock import Clock, RealClock
from emulator.engine.faults import Faults
from emulator.modal import functions as modal_functions
from emulator.modal.control_plane import ControlPlane, default_tokens
from emulator.modal.stored import Secrets
from emulator.routed import Refreshing, RoutedEndpoints
from emulator.runpod import facts
from emulator.runpod.auth import is_authorised
from emulator.runpod.client_api import ClientApi
from emulator.runpod.endpoint import EndpointType
from emulator.runpod.load_balancer import LoadBalancers
from emulator.runpod.management.account import Account
from emulator.runpod.management.api import ManagementApi
from emulator.runpod.management.fleet import EndpointFleet
from emulator.runpod.management.state import StateFile
from emulator.runpod.worker_api import WorkerApi
from yapit.errors import ConfigurationError, WorkerUnavailable
from yapit.function_spec import FunctionSpec, discover
from yapit.workers.handlers import local
from yapit.workers.loading import import_functions_from, load_runner
from yapit.workers.runner import Runner

DEFAULT_API_KEY = "emulator"
LOAD_BALANCER_SUFFIX = "-lb"


class Emulator:
    """The functions under `functions_dir`. `endpoints` and `load_balancers` map RunPod endpoint ids to functions; each
    function also has a queue endpoint of its own name, and a load-balancing one of its name with `-lb` behind it.

    `workers` says what serves those endpoints: handlers in this process, or processes, of which those of queue
    endpoints run the vendor's own loop and ask for their jobs at `base_url`. Both are started when jobs wait and
    stopped when idle.

    The endpoints that `routes_file` names are there as well, while it names them, and those that the management API
    makes; they are kept in `state_file`. `max_workers_quota` bounds the sum of their `workers.max`, as an account does.

    Modal's API is served at `modal_address` while the lifespan runs, or from `modal.listen()` on. There the functions
    are deployed already: in this process, or, where `workers` are processes, by Modal's own CLI as soon as the emulator
    is up. `modal_secrets` are the account's.

    Raises `ConfigurationError` for a function that cannot be read. One whose packages are missing is served, and
    answers that it cannot start.
    """

    def __init__(
        self,
        functions_dir: Path,
        *,
        endpoints: Mapping[str, str] | None = None,
        load_balancers: Mapping[str, str] | None = None,
        api_key: str = DEFAULT_API_KEY,
        clock: Clock | None = None,
        webhook_client: httpx.AsyncClient | None = None,
        workers: WorkerKind = "in-process",
        base_url: str | None = None,
        modal_address: tuple[str, int] | None = None,
        routes_file: Path | None = None,
        state_file: Path | None = None,
        max_workers_quota: int | None = None,
        modal_secrets: Secrets | None = None,
    ) -> None:
        if workers == "process" and base_url is None:
            raise ConfigurationError("worker processes need the emulator's base_url, to ask it for their jobs")
        self.clock = clock or RealClock()
        self.faults = Faults()
        self.api_key, self.workers = api_key, workers
        self.functions_dir, self.specs = functions_dir, discover(functions_dir)
        import_functions_from(functions_dir)
        self.endpoints = self._endpoints(endpoints or {}, load_balancers or {}, workers, base_url or "")
        fleet = EndpointFleet(self.endpoints, self.specs, self.clock)
        account = Account(fleet, self.clock, StateFile(state_file), max_workers_quota=max_workers_quota)
        management = ManagementApi(account, fleet, api_key=api_key, clock=self.clock)
        self.modal, self._modal_address = self._modal(base_url or "", workers, modal_secrets or {}), modal_address
        self.runners: dict[str, Runner] = {}
        webhook_client = webhook_client or httpx.AsyncClient(timeout=10.0)
        self._api = ClientApi(self.endpoints, api_key=api_key, clock=self.clock, webhook_client=webhook_client)
        worker_api = WorkerApi(self.endpoints, api_key=api_key, clock=self.clock)
        mounts = [Mount(f"/workers/{name}", app=self._worker(spec)) for name, spec in self.specs.items()]
        faults = Route(fault_requests.PATH, self._serve_faults, methods=["GET", "PUT", "DELETE"])
        runpod = [*management.routes(), *worker_api.routes(), *self._api.routes()]
        routes = [Route("/healthz", self._healthz), faults, *mounts, *self.modal.routes(), *runpod]
        served = Starlette(routes=routes, lifespan=self._lifespan)
        balanced: ASGIApp = LoadBalancers(served, self.endpoints, api_key=api_key)
        if routes_file is not None:
            balanced = Refreshing(balanced, RoutedEndpoints(self.endpoints, routes_file).refresh)
        self.app: ASGIApp = fault_requests.FaultyRequests(balanced, self.faults, self.clock)

    def open(self) -> None:
        """Start the workers that the endpoints always keep."""
        self.endpoints.open()

    async def close(self) -> None:
        """Stop every worker, and what else runs."""
        await self._api.webhooks.close()
        await self.stop_workers()
        await self.modal.close()
        for runner in self.runners.values():
            await runner.close()

    async def stop_workers(self) -> None:
        """Stop RunPod's and Modal's workers; their jobs end as cancelled."""
        await asyncio.gather(self.modal.stop_workers(), self.endpoints.close())

    def _modal(self, base_url: str, workers: WorkerKind, secrets: Secrets) -> ControlPlane:
        token, proxy_token = default_tokens(self.api_key)
        is_in_process = workers == "in-process"
        modal = ControlPlane(
            token=token,
            proxy_token=proxy_token,
            clock=self.clock,
            faults=self.faults,
            http_url=base_url,
            own=modal_functions.own(self.specs) if is_in_process else None,
        )
        for name, values in secrets.items():
            modal.deployment.stored.set_secret(name, values)
        if is_in_process:
            for spec in self.specs.values():
                modal.define(modal_functions.define(spec, modal.blobs))
        return modal

    async def deploy_to_modal(self) -> None:
        """Deploy every function to the emulated Modal, as one would to the cloud, for containers to serve it."""
        deploys = (modal_functions.deploy(spec, self.functions_dir, self.modal) for spec in self.specs.values())
        await asyncio.gather(*deploys)

    def _endpoints(
        self, queues: Mapping[str, str], load_balancers: Mapping[str, str], workers: WorkerKind, base_url: str
    ) -> Endpoints:
        endpoints = Endpoints(
            *(self.functions_dir, self.specs),
            clock=self.clock,
            faults=self.faults,
            api_key=self.api_key,
            workers=workers,
            base_url=base_url,
        )
        for endpoint_id, function in {**{name: name for name in self.specs}, **queues}.items():
            endpoints.add(endpoint_id, function)
        balanced = {f"{name}{LOAD_BALANCER_SUFFIX}": name for name in self.specs}
        for endpoint_id, function in {**balanced, **load_balancers}.items():
            endpoints.add(endpoint_id, function, EndpointType.LOAD_BALANCER)
        return endpoints

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
        there = {
            "functions": list(self.specs),
            "endpoints": list(self.endpoints),
            "modal_apps": self.modal.registry.deployed_apps(),
        }
        return JSONResponse({"status": "ok", **there})

    @asynccontextmanager
    async def _lifespan(self, _: Starlette) -> AsyncIterator[None]:
        self.open()
        deploying: asyncio.Task[None] | None = None
        if self._modal_address:
            await self.modal.listen(*self._modal_address)
            if self.workers == "process":
                deploying = asyncio.create_task(self.deploy_to_modal())
        yield
        if deploying:
            deploying.cancel()
            await asyncio.gather(deploying, return_exceptions=True)
        await self.close()


def _unavailable(reason: str) -> ASGIApp:
    """In place of a worker that cannot be loaded: it says why."""

    async def answer(_: Request) -> Response:
        return local.error_response(WorkerUnavailable(reason))

    return Starlette(routes=[Route("/{path:path}", answer, methods=["GET", "POST"])])
