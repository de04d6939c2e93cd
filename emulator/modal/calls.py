"""Calling functions: `FunctionMap` and what follows it."""

from __future__ import annotations

from google.protobuf.empty_pb2 import Empty
from grpclib.const import Status
from grpclib.exceptions import GRPCError
from modal_proto import api_pb2

from emulator.engine.clock import Clock
from emulator.modal import facts
from emulator.modal.call import FunctionCall
from emulator.modal.call_store import CallsFull, CallStore
from emulator.modal.ids import Ids
from emulator.modal.protocol import CBOR
from emulator.modal.registry import Function, Registry
from emulator.modal.rpc import Caller, Handlers

MAP = api_pb2.FUNCTION_CALL_TYPE_MAP


class Calls:
    def __init__(self, registry: Registry, store: CallStore, ids: Ids, clock: Clock) -> None:
        self._registry, self._store, self._ids, self._clock = registry, store, ids, clock

    def handlers(self) -> Handlers:
        return {
            "FunctionMap": self.function_map,
            "FunctionGetOutputs": self.get_outputs,
            "FunctionCallCancel": self.cancel,
        }

    async def function_map(self, request: api_pb2.FunctionMapRequest, _: Caller) -> api_pb2.FunctionMapResponse:
        function = self._function(request.function_id)
        for item in request.pipelined_inputs:
            check_input(function, item.input)
        call = FunctionCall(
            self._ids.new("fc"),
            function,
            self._clock,
            is_map=request.function_call_type == MAP,
            invocation=request.function_call_invocation_type,
            on_change=self._store.changed,
        )
        try:
            self._store.add(call)
        except CallsFull as error:
            raise GRPCError(Status.RESOURCE_EXHAUSTED, str(error)) from None
        return api_pb2.FunctionMapResponse(
            function_call_id=call.call_id,
            pipelined_inputs=[self._put(call, item) for item in request.pipelined_inputs],
            retry_policy=function.retry_policy,
            function_call_jwt=call.call_id,
            sync_client_retries_enabled=True,
            max_inputs_outstanding=facts.MAX_INPUTS_OUTSTANDING,
        )

    async def get_outputs(
        self, request: api_pb2.FunctionGetOutputsRequest, _: Caller
    ) -> api_pb2.FunctionGetOutputsResponse:
        call = self._kept(request.function_call_id)
        if call is None:
            return api_pb2.FunctionGetOutputsResponse()
        first, last = (request.start_idx, request.end_idx) if request.HasField("start_idx") else (0, 0)
        give_up_at = self._clock.now() + min(request.timeout, facts.OUTPUTS_WAIT_S)
        while not (outputs := call.outputs(first, last)) and call.unfinished:
            remaining_s = give_up_at - self._clock.now()
            if remaining_s <= 0:
                break
            await call.changed(remaining_s)
        if request.clear_on_success and outputs and not call.unfinished:
            self._store.fetched(call)
        return api_pb2.FunctionGetOutputsResponse(outputs=outputs, num_unfinished_inputs=call.unfinished)

    async def cancel(self, request: api_pb2.FunctionCallCancelRequest, _: Caller) -> Empty:
        if call := self._kept(request.function_call_id):
            call.cancel()
        return Empty()

    def _put(self, call: FunctionCall, item: api_pb2.FunctionPutInputsItem) -> api_pb2.FunctionPutInputsResponseItem:
        put = call.add(item.idx, self._ids.new("in"), item.input)
        return api_pb2.FunctionPutInputsResponseItem(idx=put.idx, input_id=put.input_id, input_jwt=put.input_id)

    def _function(self, function_id: str) -> Function:
        function = self._registry.get(function_id)
        if function is None:
            raise GRPCError(Status.NOT_FOUND, f"there is no function {function_id!r}")
        return function

    def _kept(self, call_id: str) -> FunctionCall | None:
        """None for a call that is not kept any more: to the SDK one without outputs, and none to come, has expired."""
        call = self._store.get(call_id)
        if call is None and not self._ids.is_ours(call_id):
            raise GRPCError(Status.NOT_FOUND, f"there is no function call {call_id!r}")
        return call


def check_input(function: Function, found: api_pb2.FunctionInput) -> None:
    """Raises `GRPCError` for an input that the function does not take. A pickle could run code in this process."""
    if found.data_format != CBOR:
        name = api_pb2.DataFormat.Name(found.data_format)
        raise GRPCError(Status.INVALID_ARGUMENT, f"the emulator takes arguments in CBOR only, found {name}")
    methods = function.definition.methods
    if found.method_name not in methods:
        raise GRPCError(
            Status.NOT_FOUND,
            f"{function.definition.name} has no method {found.method_name!r}; it has {', '.join(methods)}",
        )
