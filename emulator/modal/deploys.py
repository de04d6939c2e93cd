"""Deploying: apps, their functions and classes, and publishing them (modal 1.6.4, `runner`, `_functions`, `cls`)."""

from __future__ import annotations

import logging
from collections.abc import Callable

from google.protobuf.empty_pb2 import Empty
from grpclib.const import Status
from grpclib.exceptions import GRPCError
from modal_proto import api_pb2

from emulator.engine.clock import Clock
from emulator.engine.worker import Worker
from emulator.modal import facts
from emulator.modal.apps import DEPLOYED, STOPPED, App
from emulator.modal.blobs import BlobStore
from emulator.modal.containers import Containers
from emulator.modal.definitions import Binding, Definition, MakeWorker
from emulator.modal.deployed import created, definition_of, precreated, unsupported
from emulator.modal.ids import Ids
from emulator.modal.lookup import Lookup
from emulator.modal.registry import Function, Registry
from emulator.modal.rpc import Caller, Handlers

logger = logging.getLogger(__name__)

MAX_APPS = 1_000
OwnDefinition = Callable[[str, api_pb2.Function, BlobStore], Definition | None]
"""The definition in this process of a function that is deployed under an app's name, if that is ours."""


class Deploys:
    def __init__(
        self,
        registry: Registry,
        lookup: Lookup,
        ids: Ids,
        clock: Clock,
        *,
        containers: Containers,
        blobs: BlobStore,
        own: OwnDefinition,
    ) -> None:
        self._registry, self._lookup, self._ids, self._clock = registry, lookup, ids, clock
        self._containers, self._blobs, self._own = containers, blobs, own
        self._apps: dict[str, App] = {}

    def handlers(self) -> Handlers:
        return {
            "AppClientDisconnect": self.app_client_disconnect,
            "AppCreate": self.app_create,
            "AppGetByDeploymentName": self.app_get_by_deployment_name,
            "AppGetLayout": self.app_get_layout,
            "AppGetLifecycle": self.app_get_lifecycle,
            "AppGetOrCreate": self.app_get_or_create,
            "AppHeartbeat": self.app_heartbeat,
            "AppList": self.app_list,
            "AppPublish": self.app_publish,
            "AppStop": self.app_stop,
            "ClassCreate": self.class_create,
            "FunctionCreate": self.function_create,
            "FunctionPrecreate": self.function_precreate,
        }

    def adopt(self, function: Function) -> None:
        """A function that was defined here without a deploy: the first deploy of its app takes over its ids."""
        definition, now_s = function.definition, self._clock.time()
        app_id = self._registry.reserve_app(definition.app_name)
        app = self._apps.setdefault(app_id, App(app_id, definition.app_name, now_s, DEPLOYED, deployed_at=now_s))
        app.function_ids[definition.tag] = function.function_id
        if class_id := self._registry.class_id(definition.app_name, definition.name):
            app.class_ids[definition.name] = class_id

    def layout(self, app: App) -> api_pb2.AppLayout:
        """The functions and classes of an app, as the SDK hydrates them."""
        published = [(function_id, self._registry.get(function_id)) for function_id in app.function_ids.values()]
        objects = [
            api_pb2.Object(object_id=function_id, function_handle_metadata=self._lookup.metadata(function))
            for function_id, function in published
            if function is not None
        ]
        objects += [
            api_pb2.Object(object_id=class_id, class_handle_metadata=api_pb2.ClassHandleMetadata())
            for class_id in app.class_ids.values()
        ]
        return api_pb2.AppLayout(objects=objects, function_ids=app.function_ids, class_ids=app.class_ids)

    async def app_create(self, request: api_pb2.AppCreateRequest, _: Caller) -> api_pb2.AppCreateResponse:
        if request.app_state != api_pb2.APP_STATE_INITIALIZING:
            raise GRPCError(Status.UNIMPLEMENTED, "the emulator runs deployed apps: `modal deploy`, not `modal run`")
        if len(self._apps) >= MAX_APPS:
            raise GRPCError(Status.RESOURCE_EXHAUSTED, f"the emulator keeps at most {MAX_APPS:,} apps")
        app = App(self._registry.reserve_app(request.description), request.description, self._clock.time())
        self._apps[app.app_id] = app
        return api_pb2.AppCreateResponse(app_id=app.app_id, app_page_url=_page(app), app_logs_url=_page(app))

    async def app_get_by_deployment_name(
        self, request: api_pb2.AppGetByDeploymentNameRequest, _: Caller
    ) -> api_pb2.AppGetByDeploymentNameResponse:
        app = self._latest(request.name)
        if app is None:
            return api_pb2.AppGetByDeploymentNameResponse(environment_name=facts.ENVIRONMENT)
        where = {"app_id": app.app_id} if app.is_deployed else {"previous_app_id": app.app_id}
        return api_pb2.AppGetByDeploymentNameResponse(
            **where, environment_name=facts.ENVIRONMENT, lifecycle=app.lifecycle
        )

    async def app_get_or_create(
        self, request: api_pb2.AppGetOrCreateRequest, _: Caller
    ) -> api_pb2.AppGetOrCreateResponse:
        """An app that is deployed. One to be created is for sandboxes, which are not here."""
        app = self._latest(request.app_name)
        if app is None or not app.is_deployed:
            raise GRPCError(Status.NOT_FOUND, f"there is no app {request.app_name!r}")
        return api_pb2.AppGetOrCreateResponse(app_id=app.app_id)

    async def app_get_layout(self, request: api_pb2.AppGetLayoutRequest, _: Caller) -> api_pb2.AppGetLayoutResponse:
        return api_pb2.AppGetLayoutResponse(app_layout=self.layout(self._app(request.app_id)))

    async def app_get_lifecycle(
        self, request: api_pb2.AppGetLifecycleRequest, _: Caller
    ) -> api_pb2.AppGetLifecycleResponse:
        return api_pb2.AppGetLifecycleResponse(lifecycle=self._known(request.app_id).lifecycle)

    async def app_heartbeat(self, request: api_pb2.AppHeartbeatRequest, _: Caller) -> Empty:
        self._app(request.app_id)
        return Empty()

    async def app_client_disconnect(self, request: api_pb2.AppClientDisconnectRequest, _: Caller) -> Empty:
        """A deploy broke off: an app that was never published is gone, one that was stays as it is."""
        if not self._known(request.app_id).deployed_at:
            del self._apps[request.app_id]
        return Empty()

    async def app_list(self, _: api_pb2.AppListRequest, __: Caller) -> api_pb2.AppListResponse:
        return api_pb2.AppListResponse(
            apps=[
                api_pb2.AppListResponse.AppListItem(
                    app_id=app.app_id,
                    name=app.name,
                    description=app.name,
                    state=app.state,
                    created_at=app.created_at,
                    n_running_tasks=self._containers.running(app.app_id),
                )
                for app in self._apps.values()
                if app.deployed_at
            ]
        )

    async def function_precreate(
        self, request: api_pb2.FunctionPrecreateRequest, _: Caller
    ) -> api_pb2.FunctionPrecreateResponse:
        app = self._app(request.app_id)
        function_id = request.existing_function_id or self._ids.new("fu")
        return api_pb2.FunctionPrecreateResponse(
            function_id=function_id, handle_metadata=self._describe(app, precreated(request))
        )

    async def function_create(
        self, request: api_pb2.FunctionCreateRequest, _: Caller
    ) -> api_pb2.FunctionCreateResponse:
        app, function = self._app(request.app_id), created(request)
        function_id = request.existing_function_id or self._ids.new("fu")
        app.created[function_id] = function
        metadata = self._describe(app, function)
        function.web_url = metadata.web_url
        for name, method in function.method_definitions.items():
            method.web_url = metadata.method_handle_metadata[name].web_url
        data = request.function_data
        if not request.HasField("function_data"):
            data.ranked_functions.add(rank=0, function=function)
        return api_pb2.FunctionCreateResponse(
            function_id=function_id,
            function=function,
            function_data=data,
            handle_metadata=metadata,
            server_warnings=[_warning(words) for words in unsupported(function)],
        )

    async def class_create(self, request: api_pb2.ClassCreateRequest, _: Caller) -> api_pb2.ClassCreateResponse:
        self._app(request.app_id)
        return api_pb2.ClassCreateResponse(
            class_id=request.existing_class_id or self._ids.new("cs"), handle_metadata=api_pb2.ClassHandleMetadata()
        )

    async def app_publish(self, request: api_pb2.AppPublishRequest, _: Caller) -> api_pb2.AppPublishResponse:
        """What was created becomes callable, and what is no longer in the app is not any more."""
        app = self._app(request.app_id)
        if request.staged or request.rollback_version:
            raise GRPCError(Status.UNIMPLEMENTED, "the emulator does not implement staged deployments and rollbacks")
        for function_id in request.function_ids.values():
            if function_id not in app.created:
                raise GRPCError(Status.FAILED_PRECONDITION, f"function {function_id} was not created in this app")
        app.state, app.version, app.deployed_at = request.app_state, app.version + 1, self._clock.time()
        app.function_ids, app.class_ids = dict(request.function_ids), dict(request.class_ids)
        app.created = {function_id: app.created[function_id] for function_id in app.function_ids.values()}
        warnings = self._register(app)
        logger.info("app %s is deployed, version %d", app.name, app.version)
        return api_pb2.AppPublishResponse(
            url=_page(app), deployed_at=app.deployed_at, server_warnings=[_warning(words) for words in warnings]
        )

    async def app_stop(self, request: api_pb2.AppStopRequest, _: Caller) -> Empty:
        app = self._app(request.app_id)
        app.state, app.stopped_at = STOPPED, self._clock.time()
        self._registry.remove_app(app.name)
        return Empty()

    def _register(self, app: App) -> list[str]:
        """Make the app's functions known; what the person deploying should be told."""
        told = []
        self._registry.keep_only(app.name, app.function_ids.keys())
        for tag, function_id in app.function_ids.items():
            function = app.created[function_id]
            own = self._own(app.name, function, self._blobs)
            if own is not None:
                told.append(f"{tag} is served by the emulator's own process, from this project's code")
            definition = own or definition_of(app.name, function, self._make_worker(app, function))
            class_id = app.class_ids.get(tag.removesuffix(".*"), "")
            self._registry.define(definition, function_id=function_id, class_id=class_id).pool.open()
        return told

    def _make_worker(self, app: App, function: api_pb2.Function) -> MakeWorker:
        def make(worker_id: str, binding: Binding) -> Worker:
            return self._containers.make(worker_id, app.app_id, function, lambda: self.layout(app), binding)

        return make

    def _app(self, app_id: str) -> App:
        """Raises `GRPCError` for one that is not there, or has been stopped."""
        app = self._known(app_id)
        if app.state == STOPPED:
            raise GRPCError(Status.FAILED_PRECONDITION, f"app {app_id!r} has been stopped")
        return app

    def _latest(self, name: str) -> App | None:
        """The app of that name that was deployed last, even if it has been stopped."""
        named = [app for app in self._apps.values() if app.name == name and app.deployed_at]
        return named[-1] if named else None

    def _known(self, app_id: str) -> App:
        if app_id not in self._apps:
            raise GRPCError(Status.NOT_FOUND, f"there is no app {app_id!r}")
        return self._apps[app_id]

    def _describe(self, app: App, function: api_pb2.Function) -> api_pb2.FunctionHandleMetadata:
        definition = definition_of(app.name, function, _no_containers)
        return self._lookup.describe(definition, definition.settings)


def _page(app: App) -> str:
    return f"https://modal.com/apps/{app.app_id}"  # [SDK] it shows an address like this one


def _warning(words: str) -> api_pb2.Warning:
    kind = api_pb2.Warning.WARNING_TYPE_FUNCTION_CONFIGURATION
    return api_pb2.Warning(type=kind, message=f"emulator: {words}")


def _no_containers(_worker_id: str, _binding: Binding) -> Worker:
    raise RuntimeError("a function that is not published has no containers")
