"""Looking up functions and classes by name."""

from __future__ import annotations

from grpclib.const import Status
from grpclib.exceptions import GRPCError
from modal_proto import api_pb2

from emulator.modal.definitions import Definition, Method
from emulator.modal.protocol import CBOR, GENERATOR_DONE
from emulator.modal.registry import Function, Registry
from emulator.modal.rpc import Caller, Handlers

FunctionType = api_pb2.Function


class Lookup:
    def __init__(self, registry: Registry) -> None:
        self._registry = registry

    def handlers(self) -> Handlers:
        return {"FunctionGet": self.function_get, "ClassGet": self.class_get}

    async def function_get(self, request: api_pb2.FunctionGetRequest, _: Caller) -> api_pb2.FunctionGetResponse:
        function = self._registry.find(request.app_name, request.object_tag)
        if function is None:
            raise self._not_found(request.app_name, request.object_tag)
        definition = function.definition
        data = api_pb2.FunctionData(
            module_name=definition.app_name,
            function_name=definition.tag,
            function_type=_type_of(definition.methods.get("", Method())),
            is_class=definition.is_class,
            timeout_secs=round(function.timeout_s),
            ranked_functions=[api_pb2.FunctionData.RankedFunction(rank=0, function=_proto(function))],
        )
        return api_pb2.FunctionGetResponse(
            function_id=function.function_id, handle_metadata=self.metadata(function), function=data
        )

    async def class_get(self, request: api_pb2.ClassGetRequest, _: Caller) -> api_pb2.ClassGetResponse:
        class_id = self._registry.class_id(request.app_name, request.object_tag)
        if class_id is None:
            raise self._not_found(request.app_name, request.object_tag)
        return api_pb2.ClassGetResponse(class_id=class_id, handle_metadata=api_pb2.ClassHandleMetadata())

    def metadata(self, function: Function) -> api_pb2.FunctionHandleMetadata:
        """What the SDK keeps of a function. Only CBOR is offered, so that it sends no pickles."""
        definition = function.definition
        if not definition.is_class:
            return _method_metadata(definition, definition.methods[""])
        return api_pb2.FunctionHandleMetadata(
            function_name=definition.tag,
            function_type=FunctionType.FUNCTION_TYPE_FUNCTION,
            method_handle_metadata={
                name: _method_metadata(definition, method) for name, method in definition.methods.items()
            },
            supported_input_formats=[CBOR],
            supported_output_formats=[CBOR, GENERATOR_DONE],
        )

    def _not_found(self, app_name: str, tag: str) -> GRPCError:
        if self._registry.class_id(app_name, tag):
            reason = api_pb2.FunctionLookupError(reason=api_pb2.FunctionLookupError.REASON_CLASS_NAME_USED)
            return GRPCError(Status.NOT_FOUND, f"{tag!r} of app {app_name!r} is a class", [reason])
        apps = self._registry.apps()
        if app_name not in apps:
            return GRPCError(Status.NOT_FOUND, f"there is no app {app_name!r}; there is {', '.join(sorted(apps))}")
        return GRPCError(Status.NOT_FOUND, f"app {app_name!r} has no {tag!r}")


def _method_metadata(definition: Definition, method: Method) -> api_pb2.FunctionHandleMetadata:
    return api_pb2.FunctionHandleMetadata(
        function_name=f"{definition.name}.{method.name}" if definition.is_class else definition.name,
        function_type=_type_of(method),
        is_method=definition.is_class,
        use_method_name=method.name,
        supported_input_formats=[CBOR],
        supported_output_formats=[CBOR, GENERATOR_DONE] if method.is_generator else [CBOR],
    )


def _type_of(method: Method) -> api_pb2.Function.FunctionType.ValueType:
    return FunctionType.FUNCTION_TYPE_GENERATOR if method.is_generator else FunctionType.FUNCTION_TYPE_FUNCTION


def _proto(function: Function) -> api_pb2.Function:
    return api_pb2.Function(function_name=function.definition.tag, timeout_secs=round(function.timeout_s))
