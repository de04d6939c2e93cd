"""Where inputs come in, from the control plane, an input plane or the web: checked, counted, and put into a call."""

from __future__ import annotations

from collections.abc import Sequence

from grpclib.const import Status
from grpclib.exceptions import GRPCError
from modal_proto import api_pb2

from emulator.engine.clock import Clock
from emulator.modal.blobs import BlobStore
from emulator.modal.call import CallInput, FunctionCall, Invocation
from emulator.modal.call_store import CallsFull, CallStore
from emulator.modal.ids import Ids
from emulator.modal.limits import ModalLimits, OverLimit, RateLimiter
from emulator.modal.protocol import CBOR
from emulator.modal.registry import Function, Registry
from emulator.modal.web_exchange import WebExchange

ASYNC = api_pb2.FUNCTION_CALL_INVOCATION_TYPE_ASYNC
SYNC = api_pb2.FUNCTION_CALL_INVOCATION_TYPE_SYNC


class Intake:
    def __init__(
        self, registry: Registry, store: CallStore, blobs: BlobStore, ids: Ids, clock: Clock, limits: ModalLimits
    ) -> None:
        self._registry, self._store, self._blobs = registry, store, blobs
        self._ids, self._clock = ids, clock
        self._limits, self._rates = limits, RateLimiter(limits, clock)

    def function(self, function_id: str) -> Function:
        """Raises `GRPCError` if there is none."""
        function = self._registry.get(function_id)
        if function is None:
            raise GRPCError(Status.NOT_FOUND, f"there is no function {function_id!r}")
        return function

    def call(self, call_id: str) -> FunctionCall | None:
        """None for a call that is not kept any more. Raises `GRPCError` for one that never was."""
        call = self._store.get(call_id)
        if call is None and not self._ids.is_ours(call_id):
            raise GRPCError(Status.NOT_FOUND, f"there is no function call {call_id!r}")
        return call

    def kept_call(self, call_id: str) -> FunctionCall:
        """Raises `GRPCError` if there is none, or not any more."""
        call = self._store.get(call_id)
        if call is None:
            raise GRPCError(Status.NOT_FOUND, f"there is no function call {call_id!r}, or not any more")
        return call

    def admit(self, function: Function, inputs: Sequence[api_pb2.FunctionInput], invocation: Invocation) -> None:
        """Raises `GRPCError` for inputs that the function does not take, and for those over a limit."""
        for found in inputs:
            self._check(function, found)
        try:
            self.admit_count(function, len(inputs), invocation)
            self._store.make_room(size_bytes=sum(found.ByteSize() for found in inputs))
        except (OverLimit, CallsFull) as error:
            raise GRPCError(Status.RESOURCE_EXHAUSTED, str(error)) from None

    def admit_count(self, function: Function, count: int, invocation: Invocation = SYNC) -> None:
        """Raises `OverLimit`."""
        queued = function.pool.queued + count
        total = queued + function.pool.running
        if invocation == ASYNC:
            if total > self._limits.max_spawned:
                raise OverLimit(f"over {self._limits.max_spawned:,} spawned inputs of this function")
        elif count and queued > self._limits.max_queued:
            raise OverLimit(f"over {self._limits.max_queued:,} inputs of this function are waiting")
        elif count and total > self._limits.max_total:
            raise OverLimit(f"over {self._limits.max_total:,} inputs of this function are waiting or running")
        self._rates.take(function.function_id, count)

    def open(self, function: Function, *, is_map: bool, invocation: Invocation) -> FunctionCall:
        """A call without inputs yet. Raises `GRPCError` if no more calls can be kept."""
        call = FunctionCall(
            self._ids.new("fc"),
            function,
            self._clock,
            is_map=is_map,
            invocation=invocation,
            on_change=self._store.changed,
        )
        try:
            self._store.add(call)
        except CallsFull as error:
            raise GRPCError(Status.RESOURCE_EXHAUSTED, str(error)) from None
        return call

    def put(
        self, call: FunctionCall, idx: int, found: api_pb2.FunctionInput, web: WebExchange | None = None
    ) -> CallInput:
        return call.add(idx, self._ids.new("in"), found, web)

    def _check(self, function: Function, found: api_pb2.FunctionInput) -> None:
        if found.data_format != CBOR:  # a pickle could run code in this process
            name = api_pb2.DataFormat.Name(found.data_format)
            raise GRPCError(Status.INVALID_ARGUMENT, f"the emulator takes arguments in CBOR only, found {name}")
        definition = function.definition
        if found.method_name not in definition.methods:
            known = ", ".join(definition.methods)
            raise GRPCError(Status.NOT_FOUND, f"{definition.name} has no method {found.method_name!r}; it has {known}")
        if definition.methods[found.method_name].is_web:
            raise GRPCError(Status.INVALID_ARGUMENT, f"{found.method_name} is a web endpoint: ask for it over HTTP")
        if found.args_blob_id and self._blobs.get(found.args_blob_id) is None:
            raise GRPCError(Status.NOT_FOUND, f"there is no blob {found.args_blob_id!r}, or not any more")
