"""Looking up functions and classes by name, and binding classes to parameters."""

from __future__ import annotations

from grpclib.const import Status
from grpclib.exceptions import GRPCError
from modal_proto import api_pb2

from emulator.modal import facts
from emulator.modal.addresses import Addresses
from emulator.modal.definitions import Definition, Method, Settings
from emulator.modal.parameters import BadParameters
from emulator.modal.protocol import CBOR, GENERATOR_DONE
from emulator.modal.registry import Function, Registry, TooManyVariants, web_label
from emulator.modal.rpc import Caller, Handlers
from emulator.modal.web import PATH

GENERATOR = api_pb2.Function.FUNCTION_TYPE_GENERATOR
FUNCTION = api_pb2.Function.FUNCTION_TYPE_FUNCTION
PROTO = api_pb2.ClassParameterInfo.PARAM_SERIALIZATION_FORMAT_PROTO


class Lookup:
    def __init__(self, registry: Registry, addresses: Addresses) -> None:
        self._registry, self._addresses = registry, addresses

    def handlers(self) -> Handlers:
        return {
            "ClientHello": self.hello,
            "FunctionGet": self.function_get,
            "FunctionGetById": self.function_get_by_id,
            "ClassGet": self.class_get,
            "FunctionBindParams": self.bind,
        }

    async def hello(self, _request: object, _: Caller) -> api_pb2.ClientHelloResponse:
        return api_pb2.ClientHelloResponse()

    async def function_get(self, request: api_pb2.FunctionGetRequest, _: Caller) -> api_pb2.FunctionGetResponse:
        _check_environment(request.environment_name)
        function = self._registry.find(request.app_name, request.object_tag)
        if function is None:
            raise self._not_found(request.app_name, request.object_tag)
        return api_pb2.FunctionGetResponse(
            function_id=function.function_id, handle_metadata=self.metadata(function), function=_data(function)
        )

    async def function_get_by_id(
        self, request: api_pb2.FunctionGetByIdRequest, _: Caller
    ) -> api_pb2.FunctionGetByIdResponse:
        function = self._by_id(request.function_id)
        return api_pb2.FunctionGetByIdResponse(function=_data(function), handle_metadata=self.metadata(function))

    async def class_get(self, request: api_pb2.ClassGetRequest, _: Caller) -> api_pb2.ClassGetResponse:
        _check_environment(request.environment_name)
        class_id = self._registry.class_id(request.app_name, request.object_tag)
        if class_id is None:
            raise self._not_found(request.app_name, request.object_tag)
        return api_pb2.ClassGetResponse(class_id=class_id, handle_metadata=api_pb2.ClassHandleMetadata())

    async def bind(self, request: api_pb2.FunctionBindParamsRequest, _: Caller) -> api_pb2.FunctionBindParamsResponse:
        function = self._by_id(request.function_id)
        try:
            bound = self._registry.bind(function, request.serialized_params, request.function_options)
        except BadParameters as error:
            raise GRPCError(Status.INVALID_ARGUMENT, f"{function.definition.name}: {error}") from None
        except TooManyVariants as error:
            raise GRPCError(Status.RESOURCE_EXHAUSTED, str(error)) from None
        return api_pb2.FunctionBindParamsResponse(
            bound_function_id=bound.function_id, handle_metadata=self.metadata(bound)
        )

    def metadata(self, function: Function) -> api_pb2.FunctionHandleMetadata:
        """What the SDK keeps of a function."""
        return self.describe(function.definition, function.settings)

    def describe(self, definition: Definition, settings: Settings) -> api_pb2.FunctionHandleMetadata:
        """The same of one that is not bound, and may not be known yet. Only CBOR is offered, so that the SDK sends no
        pickles."""
        if not definition.is_class:
            return self._method_metadata(definition, settings, definition.methods[""])
        methods = {
            name: self._method_metadata(definition, settings, method) for name, method in definition.methods.items()
        }
        metadata = api_pb2.FunctionHandleMetadata(
            app_id=self._registry.app_id(definition.app_name),
            function_name=definition.tag,
            function_type=FUNCTION,
            method_handle_metadata=methods,
            supported_input_formats=[CBOR],
            supported_output_formats=[CBOR, GENERATOR_DONE],
        )
        if definition.parameters:
            schema = api_pb2.ClassParameterInfo(format=PROTO, schema=definition.parameters)
            metadata.class_parameter_info.CopyFrom(schema)
        self._add_input_plane(settings, metadata)
        return metadata

    def _method_metadata(
        self, definition: Definition, settings: Settings, method: Method
    ) -> api_pb2.FunctionHandleMetadata:
        metadata = api_pb2.FunctionHandleMetadata(
            app_id=self._registry.app_id(definition.app_name),
            function_name=f"{definition.name}.{method.name}" if definition.is_class else definition.name,
            function_type=GENERATOR if method.is_generator else FUNCTION,
            is_method=definition.is_class,
            use_method_name=method.name,
            supported_input_formats=[CBOR],
            supported_output_formats=[CBOR, GENERATOR_DONE] if method.is_generator else [CBOR],
        )
        if method.is_web:
            metadata.web_url = f"{self._addresses.http}{PATH}/{web_label(definition, method)}"
        self._add_input_plane(settings, metadata)
        return metadata

    def _add_input_plane(self, settings: Settings, metadata: api_pb2.FunctionHandleMetadata) -> None:
        if settings.has_input_plane:
            metadata.input_plane_url = self._addresses.rpc
            metadata.input_plane_region = settings.routing_region

    def _by_id(self, function_id: str) -> Function:
        function = self._registry.get(function_id)
        if function is None:
            raise GRPCError(Status.NOT_FOUND, f"there is no function {function_id!r}")
        return function

    def _not_found(self, app_name: str, tag: str) -> GRPCError:
        if self._registry.class_id(app_name, tag):
            reason = api_pb2.FunctionLookupError(reason=api_pb2.FunctionLookupError.REASON_CLASS_NAME_USED)
            return GRPCError(Status.NOT_FOUND, f"{tag!r} of app {app_name!r} is a class", [reason])
        apps = self._registry.apps()
        if app_name not in apps:
            return GRPCError(Status.NOT_FOUND, f"there is no app {app_name!r}; there is {', '.join(apps)}")
        return GRPCError(Status.NOT_FOUND, f"app {app_name!r} has no {tag!r}")


def _check_environment(name: str) -> None:
    if name not in ("", facts.ENVIRONMENT):
        found = f"there is no environment {name!r}; the emulator has one, {facts.ENVIRONMENT!r}"
        raise GRPCError(Status.NOT_FOUND, found)


def _data(function: Function) -> api_pb2.FunctionData:
    definition, settings = function.definition, function.settings
    single = definition.methods.get("", Method())
    proto = api_pb2.Function(
        function_name=definition.tag,
        timeout_secs=round(settings.timeout_s),
        max_concurrent_inputs=settings.limits.concurrency,
        routing_region=settings.routing_region or facts.CONTROL_PLANE_REGION,
    )
    return api_pb2.FunctionData(
        module_name=definition.app_name,
        function_name=definition.tag,
        function_type=GENERATOR if single.is_generator else FUNCTION,
        is_class=definition.is_class,
        timeout_secs=round(settings.timeout_s),
        ranked_functions=[api_pb2.FunctionData.RankedFunction(rank=0, function=proto)],
    )
