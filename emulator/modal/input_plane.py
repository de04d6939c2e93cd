"""A region's input plane: calls of functions with a `routing_region` outside us-east. Here it is the same server.

[SDK] There is no spawning there, and no generator.
"""

from __future__ import annotations

from typing import Any

from grpclib.const import Status
from grpclib.exceptions import GRPCError
from modal_proto import api_pb2

from emulator.engine.clock import Clock
from emulator.modal import facts
from emulator.modal.call import CallInput, FunctionCall
from emulator.modal.call_store import CallStore
from emulator.modal.intake import SYNC, Intake
from emulator.modal.registry import Function
from emulator.modal.rpc import Caller, Handlers, Once
from emulator.modal.tokens import BadToken, Signer

AUTH_TOKEN = "x-modal-auth-token"  # noqa: S105 - the name of a header


class InputPlane:
    def __init__(self, intake: Intake, store: CallStore, signer: Signer, clock: Clock) -> None:
        self._intake, self._store, self._signer, self._clock = intake, store, signer, clock

    def handlers(self) -> Handlers:
        return {
            "AuthTokenGet": self.auth_token,
            "AttemptStart": Once(self.start),
            "AttemptAwait": self.wait,
            "AttemptRetry": Once(self.retry),
            "MapStartOrContinue": Once(self.map_start_or_continue),
            "MapAwait": self.map_wait,
            "MapCheckInputs": self.map_check_inputs,
        }

    async def auth_token(self, _request: api_pb2.AuthTokenGetRequest, _: Caller) -> api_pb2.AuthTokenGetResponse:
        expires_at = self._clock.time() + facts.AUTH_TOKEN_LIFETIME_S
        return api_pb2.AuthTokenGetResponse(token=self._signer.sign({"for": "input plane", "exp": expires_at}))

    def start(self, request: api_pb2.AttemptStartRequest, caller: Caller) -> api_pb2.AttemptStartResponse:
        self._authorise(caller)
        function = self._intake.function(request.function_id)
        call = self._open(function, [request.input], is_map=False)
        item = self._intake.put(call, request.input.idx, request.input.input)
        return api_pb2.AttemptStartResponse(
            attempt_token=self._token(call, item), retry_policy=function.settings.retry_policy
        )

    async def wait(self, request: api_pb2.AttemptAwaitRequest, caller: Caller) -> api_pb2.AttemptAwaitResponse:
        self._authorise(caller)
        call, item = self._attempt(request.attempt_token)
        give_up_at = self._clock.now() + min(request.timeout_secs, facts.OUTPUTS_WAIT_S)
        while item.output is None and (remaining_s := give_up_at - self._clock.now()) > 0:
            await call.changed(remaining_s)
        if item.output is not None:
            self._store.fetched(call)
        return api_pb2.AttemptAwaitResponse(output=item.output)

    def retry(self, request: api_pb2.AttemptRetryRequest, caller: Caller) -> api_pb2.AttemptRetryResponse:
        self._authorise(caller)
        call, item = self._attempt(request.attempt_token)
        self._intake.admit(call.function, [request.input.input], SYNC)
        call.retry(item, request.input.input, item.retry_count + 1)
        return api_pb2.AttemptRetryResponse(attempt_token=self._token(call, item))

    def map_start_or_continue(
        self, request: api_pb2.MapStartOrContinueRequest, caller: Caller
    ) -> api_pb2.MapStartOrContinueResponse:
        self._authorise(caller)
        function = self._intake.function(request.function_id)
        inputs = [item.input for item in request.items]
        if request.map_token:
            call = self._intake.kept_call(self._read(request.map_token)["call"])
            self._intake.admit(function, [put.input for put in inputs], SYNC)
        else:
            call = self._open(function, inputs, is_map=True)
        return api_pb2.MapStartOrContinueResponse(
            map_token=self._signer.sign({"call": call.call_id}),
            function_id=function.function_id,
            function_call_id=call.call_id,
            max_inputs_outstanding=facts.MAX_INPUTS_OUTSTANDING,
            attempt_tokens=[self._put(call, item) for item in request.items],
            retry_policy=function.settings.retry_policy,
        )

    async def map_wait(self, request: api_pb2.MapAwaitRequest, caller: Caller) -> api_pb2.MapAwaitResponse:
        self._authorise(caller)
        call = self._intake.kept_call(self._read(request.map_token)["call"])
        seen = int((request.last_entry_id or "0").partition("-")[0])
        give_up_at = self._clock.now() + min(request.timeout, facts.OUTPUTS_WAIT_S)
        while len(call.ended) <= seen and (remaining_s := give_up_at - self._clock.now()) > 0:
            await call.changed(remaining_s)
        outputs = call.ended[seen : seen + facts.MAX_OUTPUTS]
        if not call.unfinished and seen + len(outputs) == len(call.ended):
            self._store.fetched(call)
        return api_pb2.MapAwaitResponse(outputs=outputs, last_entry_id=f"{seen + len(outputs)}-0")

    async def map_check_inputs(
        self, request: api_pb2.MapCheckInputsRequest, caller: Caller
    ) -> api_pb2.MapCheckInputsResponse:
        """None is ever lost: inputs whose container dies run again without the client's help."""
        self._authorise(caller)
        return api_pb2.MapCheckInputsResponse(lost=[False for _ in request.attempt_tokens])

    def _open(self, function: Function, inputs: list[api_pb2.FunctionPutInputsItem], *, is_map: bool) -> FunctionCall:
        self._intake.admit(function, [put.input for put in inputs], SYNC)
        methods = function.definition.methods
        if any(methods[put.input.method_name].is_generator for put in inputs):
            region = function.settings.routing_region
            raise GRPCError(Status.INVALID_ARGUMENT, f"a generator cannot be called with routing_region {region!r}")
        return self._intake.open(function, is_map=is_map, invocation=SYNC)

    def _put(self, call: FunctionCall, item: api_pb2.MapStartOrContinueItem) -> str:
        if item.attempt_token:
            _, known = self._attempt(item.attempt_token)
            call.retry(known, item.input.input, known.retry_count + 1)
            return self._token(call, known)
        return self._token(call, self._intake.put(call, item.input.idx, item.input.input))

    def _token(self, call: FunctionCall, item: CallInput) -> str:
        return self._signer.sign({"call": call.call_id, "idx": item.idx, "retry_count": item.retry_count})

    def _attempt(self, token: str) -> tuple[FunctionCall, CallInput]:
        claims = self._read(token)
        call = self._intake.kept_call(claims["call"])
        return call, call.inputs[claims["idx"]]

    def _read(self, token: str) -> dict[str, Any]:
        try:
            return self._signer.read(token)
        except BadToken as error:
            raise GRPCError(Status.INVALID_ARGUMENT, str(error)) from None

    def _authorise(self, caller: Caller) -> None:
        """Beside the account's token, the short-lived one of `AuthTokenGet`."""
        try:
            claims = self._signer.read(caller.get(AUTH_TOKEN))
        except BadToken as error:
            raise GRPCError(Status.UNAUTHENTICATED, str(error)) from None
        if claims.get("for") != "input plane" or claims["exp"] < self._clock.time():
            raise GRPCError(Status.UNAUTHENTICATED, "the token has expired, or is for something else")
