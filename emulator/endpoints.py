"""RunPod endpoints over the functions of a folder. They may come and go while the emulator serves."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from types import MappingProxyType
from typing import Literal

from emulator.engine.clock import Clock
from emulator.engine.faults import Faults
from emulator.engine.policy import PoolLimits
from emulator.engine.pool import WorkerPool
from emulator.engine.worker import Worker
from emulator.runpod.endpoint import Endpoint, EndpointType, QueueEndpoint
from emulator.runpod.load_balancer import LoadBalancedEndpoint
from emulator.runpod.management.rules import RESERVED_IDS
from emulator.runpod.policy import POLICIES
from emulator.runpod.process import ProcessWorker, ServerProcessWorker, function_environment, worker_environment
from emulator.runpod.served import AppWorker
from emulator.runpod.worker import HandlerWorker, RunpodConfig
from yapit.errors import ConfigurationError
from yapit.function_spec import FunctionSpec
from yapit.workers.handlers import local, runpod
from yapit.workers.loading import load_runner
from yapit.workers.runner import Runner

WorkerKind = Literal["in-process", "process"]


class Endpoints(Mapping[str, Endpoint]):
    """Endpoint id → endpoint.

    `workers` says what serves them: handlers in this process, or processes, of which those of queue endpoints ask for
    their jobs at `base_url`.
    """

    def __init__(
        self,
        functions_dir: Path,
        specs: Mapping[str, FunctionSpec],
        *,
        clock: Clock,
        faults: Faults,
        api_key: str,
        workers: WorkerKind = "in-process",
        base_url: str = "",
    ) -> None:
        self._functions_dir, self._specs = functions_dir, specs
        self._clock, self._faults = clock, faults
        self.workers: WorkerKind = workers
        self._api_key, self._base_url = api_key, base_url
        self._endpoints: dict[str, Endpoint] = {}
        self._is_open = False
        self._ending: set[asyncio.Task[None]] = set()

    def __getitem__(self, endpoint_id: str) -> Endpoint:
        return self._endpoints[endpoint_id]

    def __iter__(self) -> Iterator[str]:
        return iter(self._endpoints)

    def __len__(self) -> int:
        return len(self._endpoints)

    def add(
        self,
        endpoint_id: str,
        function: str,
        endpoint_type: EndpointType = EndpointType.QUEUE,
        *,
        limits: PoolLimits | None = None,
    ) -> Endpoint:
        """A new endpoint, callable at once; `limits` replaces what the function's own spec says.

        Raises `ConfigurationError` where the id is taken or there is no such function.
        """
        spec = self.spec(endpoint_id, function)
        make_worker = self.worker_maker(endpoint_id, spec, endpoint_type)
        return self.put(endpoint_id, endpoint_type, limits or limits_of(spec, endpoint_type), make_worker)

    def spec(self, endpoint_id: str, function: str) -> FunctionSpec:
        """What the endpoint is to run. Raises `ConfigurationError` where there is no such function."""
        try:
            return self._specs[function]
        except KeyError:
            known = ", ".join(self._specs)
            raise ConfigurationError(
                f"RunPod endpoint {endpoint_id}: there is no function {function!r}; there is {known}"
            ) from None

    def put(
        self,
        endpoint_id: str,
        endpoint_type: EndpointType,
        limits: PoolLimits,
        make_worker: Callable[[str], Worker],
    ) -> Endpoint:
        """A new endpoint over workers of one's own. Raises `ConfigurationError` where the id is taken."""
        if endpoint_id in self._endpoints:
            raise ConfigurationError(f"RunPod endpoint {endpoint_id}: there is one of that id already")
        if endpoint_id in RESERVED_IDS:
            raise ConfigurationError(f"RunPod endpoint {endpoint_id}: that is a path of the management API; rename it")
        pool = WorkerPool(
            *(make_worker, limits, self._clock),
            name=endpoint_id,
            policy=POLICIES[endpoint_type],
            faults=self._faults,
        )
        of_type = QueueEndpoint if endpoint_type is EndpointType.QUEUE else LoadBalancedEndpoint
        self._endpoints[endpoint_id] = endpoint = of_type(endpoint_id, pool, self._clock)
        if self._is_open:
            pool.open()
        return endpoint

    def take(self, endpoint_id: str) -> Endpoint:
        """The endpoint, callable no longer; whoever takes it has it ended. Raises `KeyError`."""
        return self._endpoints.pop(endpoint_id)

    async def remove(self, endpoint_id: str) -> None:
        """Cancel what an endpoint runs and stop its workers. Raises `KeyError`."""
        await self.end(self.take(endpoint_id))

    def end(self, endpoint: Endpoint) -> asyncio.Task[None]:
        """Stop its workers; `close` waits for that, too."""
        task = asyncio.create_task(endpoint.pool.close())
        self._ending.add(task)
        task.add_done_callback(self._ending.discard)
        return task

    def open(self) -> None:
        """Start the workers that the endpoints always keep."""
        self._is_open = True
        for endpoint in self._endpoints.values():
            endpoint.pool.open()

    async def close(self) -> None:
        """Stop every worker; running jobs end as cancelled."""
        await asyncio.gather(*(endpoint.pool.close() for endpoint in self._endpoints.values()), *self._ending)

    def worker_maker(
        self,
        endpoint_id: str,
        spec: FunctionSpec,
        endpoint_type: EndpointType,
        variables: Mapping[str, str] = MappingProxyType({}),
    ) -> Callable[[str], Worker]:
        """What makes workers for an endpoint of that function, by their ids. `variables` are the endpoint's own, for
        workers that are processes."""

        def in_process(worker_id: str) -> Worker:
            if endpoint_type is EndpointType.QUEUE:
                return _in_process(spec)
            return AppWorker(worker_id, self._clock, lambda: local.create_app(spec.adapter_class))

        def process(worker_id: str) -> Worker:
            if endpoint_type is EndpointType.LOAD_BALANCER:
                environment = function_environment(spec.adapter_class, self._functions_dir, variables)
                return ServerProcessWorker(worker_id, self._clock, environment)
            environment = worker_environment(
                *(self._base_url, endpoint_id, worker_id),
                api_key=self._api_key,
                adapter_class=spec.adapter_class,
                functions_dir=self._functions_dir,
                variables=variables,
            )
            return ProcessWorker(worker_id, self._clock, environment)

        return process if self.workers == "process" else in_process


def limits_of(spec: FunctionSpec, endpoint_type: EndpointType) -> PoolLimits:
    """How the spec wants an endpoint of that type to scale."""
    is_queue, concurrency = endpoint_type is EndpointType.QUEUE, spec.scaling.concurrency
    return PoolLimits(
        min_workers=spec.scaling.min_workers,
        max_workers=spec.scaling.max_workers,
        concurrency=max(runpod.MIN_CONCURRENCY, concurrency) if is_queue else concurrency,
        idle_timeout_s=spec.scaling.idle_timeout_s,
    )


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
