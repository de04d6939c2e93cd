"""Calling functions through the control plane: `FunctionMap` and what follows it."""

from __future__ import annotations

from google.protobuf.empty_pb2 import Empty
from grpclib.const import Status
from grpclib.exceptions import GRPCError
from modal_proto import api_pb2

from emulator.engine.clock import Clock
from emulator.modal import facts
from emulator.modal.call import CallInput, FunctionCall
from emulator.modal.call_store import CallStore
from emulator.modal.intake import ASYNC, Intake
from emulator.modal.registry import Function
from emulator.modal.rpc import Caller, Handlers, Once
from emulator.modal.tokens import BadToken, Signer

MAP = api_pb2.FUNCTION_CALL_TYPE_MAP


class Calls:
    def __init__(self, intake: Intake, store: CallStore, signer: Signer, clock: Clock) -> None:
        self._intake, self._store, self._signer, self._clock = intake, store, signer, clock

    def handlers(self) -> Handlers:
        return {
            "FunctionMap": Once(self.function_map),
            "FunctionPutInputs": Once(self.put_inputs),
            "FunctionRetryInputs": Once(self.retry_inputs),
            "FunctionFinishInputs": self.finish_inputs,
            "FunctionGetOutputs": self.get_outputs,
            "FunctionCallFromId": self.from_id,
            "FunctionCallCancel": self.cancel,
        }

    def function_map(self, request: api_pb2.FunctionMapRequest, _: Caller) -> api_pb2.FunctionMapResponse:
        function, invocation = self._intake.function(request.function_id), request.function_call_invocation_type
        _check_region(function, request)
        self._intake.admit(function, [item.input for item in request.pipelined_inputs], invocation)
        is_map = request.function_call_type == MAP
        call = self._intake.open(function, is_map=is_map, invocation=invocation)
        return api_pb2.FunctionMapResponse(
            function_call_id=call.call_id,
            pipelined_inputs=[self._put(call, item) for item in request.pipelined_inputs],
            retry_policy=function.settings.retry_policy,
            function_call_jwt=self._signer.sign({"call": call.call_id}),
            sync_client_retries_enabled=True,
            max_inputs_outstanding=facts.MAX_INPUTS_OUTSTANDING,
        )

    def put_inputs(self, request: api_pb2.FunctionPutInputsRequest, _: Caller) -> api_pb2.FunctionPutInputsResponse:
        call = self._intake.kept_call(request.function_call_id)
        self._intake.admit(call.function, [item.input for item in request.inputs], call.invocation)
        return api_pb2.FunctionPutInputsResponse(inputs=[self._put(call, item) for item in request.inputs])

    def retry_inputs(
        self, request: api_pb2.FunctionRetryInputsRequest, _: Caller
    ) -> api_pb2.FunctionRetryInputsResponse:
        try:
            call = self._intake.kept_call(self._signer.read(request.function_call_jwt)["call"])
            indices = [self._signer.read(item.input_jwt)["idx"] for item in request.inputs]
        except (BadToken, KeyError) as error:
            raise GRPCError(Status.INVALID_ARGUMENT, f"not a call's and its inputs' tokens: {error}") from None
        self._intake.admit(call.function, [item.input for item in request.inputs], call.invocation)
        retried = []
        for idx, item in zip(indices, request.inputs, strict=True):
            known = call.inputs[idx]
            call.retry(known, item.input, item.retry_count or known.retry_count + 1)
            retried.append(self._token(known))
        return api_pb2.FunctionRetryInputsResponse(input_jwts=retried)

    async def finish_inputs(self, request: api_pb2.FunctionFinishInputsRequest, _: Caller) -> Empty:
        self._intake.kept_call(request.function_call_id)
        return Empty()

    async def get_outputs(
        self, request: api_pb2.FunctionGetOutputsRequest, _: Caller
    ) -> api_pb2.FunctionGetOutputsResponse:
        """With indices the outputs of those inputs; without, of a map, those that ended after `last_entry_id`."""
        call = self._intake.call(request.function_call_id)
        if call is None:  # no output and none to come: to the SDK the call has expired
            return api_pb2.FunctionGetOutputsResponse()
        give_up_at = self._clock.now() + min(request.timeout, facts.OUTPUTS_WAIT_S)
        if call.is_map and not request.HasField("start_idx"):
            return await self._ended(call, request, give_up_at)
        first, last = (request.start_idx, request.end_idx) if request.HasField("start_idx") else (0, 0)
        last = min(last, first + facts.MAX_OUTPUTS - 1)
        while not (outputs := call.outputs(first, last)) and call.is_pending(first, last):
            remaining_s = give_up_at - self._clock.now()
            if remaining_s <= 0:
                break
            await call.changed(remaining_s)
        if request.clear_on_success and outputs:
            self._store.fetched(call)
        return api_pb2.FunctionGetOutputsResponse(outputs=outputs, num_unfinished_inputs=call.unfinished)

    async def from_id(
        self, request: api_pb2.FunctionCallFromIdRequest, _: Caller
    ) -> api_pb2.FunctionCallFromIdResponse:
        call = self._intake.kept_call(request.function_call_id)
        return api_pb2.FunctionCallFromIdResponse(
            function_call_id=call.call_id,
            num_inputs=len(call.inputs),
            metadata=api_pb2.FunctionCallHandleMetadata(function_id=call.function.function_id),
        )

    async def cancel(self, request: api_pb2.FunctionCallCancelRequest, _: Caller) -> Empty:
        if call := self._intake.call(request.function_call_id):
            call.cancel(kill_containers=request.terminate_containers)
        return Empty()

    async def _ended(
        self, call: FunctionCall, request: api_pb2.FunctionGetOutputsRequest, give_up_at: float
    ) -> api_pb2.FunctionGetOutputsResponse:
        if request.clear_on_success and not request.timeout:  # the map is over for the client: it reads no answer
            self._store.fetched(call)
            return api_pb2.FunctionGetOutputsResponse(num_unfinished_inputs=call.unfinished)
        seen = int((request.last_entry_id or "0").partition("-")[0])
        while len(call.ended) <= seen and (remaining_s := give_up_at - self._clock.now()) > 0:
            await call.changed(remaining_s)
        outputs = call.ended[seen : seen + facts.MAX_OUTPUTS]
        return api_pb2.FunctionGetOutputsResponse(
            outputs=outputs, last_entry_id=f"{seen + len(outputs)}-0", num_unfinished_inputs=call.unfinished
        )

    def _put(self, call: FunctionCall, item: api_pb2.FunctionPutInputsItem) -> api_pb2.FunctionPutInputsResponseItem:
        put = self._intake.put(call, item.idx, item.input)
        return api_pb2.FunctionPutInputsResponseItem(idx=put.idx, input_id=put.input_id, input_jwt=self._token(put))

    def _token(self, item: CallInput) -> str:
        return self._signer.sign({"idx": item.idx, "input": item.input_id, "retry_count": item.retry_count})


def _check_region(function: Function, request: api_pb2.FunctionMapRequest) -> None:
    """Functions with an input plane of their own cannot be spawned [SDK: changelog of 1.4.3]."""
    if function.settings.has_input_plane and request.function_call_invocation_type == ASYNC:
        region = function.settings.routing_region
        raise GRPCError(Status.INVALID_ARGUMENT, f"a function with routing_region {region!r} cannot be spawned")
