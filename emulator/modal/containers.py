"""Makes the containers of deployed functions, each with an API of its own."""

from __future__ import annotations

from collections.abc import Callable

from grpclib.const import Status
from grpclib.exceptions import GRPCError
from modal_proto import api_pb2

from emulator.engine.clock import Clock
from emulator.engine.faults import Faults
from emulator.modal.blobs import BlobStore
from emulator.modal.container import Container
from emulator.modal.container_api import ContainerApi
from emulator.modal.container_files import ContainerFiles, Program
from emulator.modal.definitions import Binding
from emulator.modal.ids import Ids
from emulator.modal.images import Images
from emulator.modal.logs import Logs
from emulator.modal.mounts import Mounts
from emulator.modal.registry import Registry
from emulator.modal.rpc import Caller, Handlers, RpcServer
from emulator.modal.stored import Stored

Layout = Callable[[], api_pb2.AppLayout]


class Containers:
    """`handlers` are the RPCs that everybody has: code in a container may call functions, too."""

    def __init__(
        self,
        registry: Registry,
        *,
        images: Images,
        mounts: Mounts,
        stored: Stored,
        logs: Logs,
        blobs: BlobStore,
        ids: Ids,
        clock: Clock,
        faults: Faults,
        handlers: Callable[[], Handlers],
    ) -> None:
        self._registry, self._images, self._mounts, self._stored = registry, images, mounts, stored
        self._logs, self._blobs, self._ids, self._clock, self._faults = logs, blobs, ids, clock, faults
        self._handlers = handlers
        self._live: dict[str, Container] = {}

    def handlers(self) -> Handlers:
        return {"ContainerStop": self.stop, "TaskList": self.task_list}

    def running(self, app_id: str) -> int:
        return len(self._of(app_id))

    async def task_list(self, request: api_pb2.TaskListRequest, _: Caller) -> api_pb2.TaskListResponse:
        """Those of an app, which a deploy with the strategy `recreate` stops."""
        return api_pb2.TaskListResponse(
            tasks=[
                api_pb2.TaskStats(
                    task_id=container.task_id,
                    app_id=container.program.app_id,
                    enqueued_at=container.made_at,
                    started_at=container.made_at,
                )
                for container in self._of(request.app_id)
            ]
        )

    async def stop(self, request: api_pb2.ContainerStopRequest, _: Caller) -> api_pb2.ContainerStopResponse:
        container = self._live.get(request.task_id)
        if container is None:
            raise GRPCError(Status.NOT_FOUND, f"there is no container {request.task_id!r}")
        if request.graceful:
            container.on_spent()
        else:
            container.on_lost("it was told to stop")
        return api_pb2.ContainerStopResponse()

    def make(
        self, worker_id: str, app_id: str, function: api_pb2.Function, layout: Layout, binding: Binding
    ) -> Container:
        """A container, not started yet, for what the binding names."""
        program = self._program(app_id, function, layout(), binding)
        task_id = self._ids.new("ta")
        container = self._live[task_id] = Container(
            worker_id,
            task_id,
            self._clock,
            program,
            make_files=lambda: ContainerFiles(task_id, program, binding.serialized_parameters, self._mounts),
            serve=self._serve,
            say=lambda line: self._logs.add(app_id, program.function_id, task_id, line),
            on_end=lambda: self._live.pop(task_id, None),
        )
        return container

    def _program(self, app_id: str, function: api_pb2.Function, layout: api_pb2.AppLayout, binding: Binding) -> Program:
        bound = with_options(function, binding.options)
        variables: dict[str, str] = {}
        for secret_id in bound.secret_ids:
            variables |= self._stored.secret_values(secret_id)
        return Program(
            app_id=app_id,
            function_id=binding.function_id,
            function=bound,
            layout=layout,
            image=self._images.get(bound.image_id),
            variables=variables,
        )

    def _serve(self, container: Container) -> RpcServer:
        def pool_is_pressed() -> bool:
            function = self._registry.get(container.program.function_id)
            return function is not None and function.pool.queued > 0

        api = ContainerApi(container, self._blobs, self._clock, is_pressed=pool_is_pressed)
        handlers = {**self._handlers(), **api.handlers()}
        return RpcServer(handlers, authorise=_anybody, clock=self._clock, faults=self._faults)

    def _of(self, app_id: str) -> list[Container]:
        return [container for container in self._live.values() if app_id in ("", container.program.app_id)]


def with_options(function: api_pb2.Function, options: api_pb2.FunctionOptions) -> api_pb2.Function:
    """The function as `with_options`, `with_concurrency` and `with_batching` change it for its container."""
    bound = api_pb2.Function()
    bound.CopyFrom(function)
    for field in ("timeout_secs", "max_concurrent_inputs", "target_concurrent_inputs", "batch_max_size"):
        if value := getattr(options, field):
            setattr(bound, field, value)
    if options.batch_max_size:
        bound.batch_linger_ms = options.batch_linger_ms
    if options.max_concurrent_inputs and not options.target_concurrent_inputs:
        bound.target_concurrent_inputs = 0
    if options.replace_secret_ids:
        del bound.secret_ids[:]
    bound.secret_ids.extend(options.secret_ids)
    return bound


def _anybody(_rpc: str, _caller: Caller) -> None:
    """The socket lies in a folder of this user's, and is its container's identity."""
