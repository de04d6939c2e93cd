"""What generators yield, as it comes: `FunctionCallGetDataOut`."""

from __future__ import annotations

from collections.abc import AsyncIterator

from grpclib.const import Status
from grpclib.exceptions import GRPCError
from modal_proto import api_pb2

from emulator.modal import facts
from emulator.modal.call_store import CallStore
from emulator.modal.intake import Intake
from emulator.modal.rpc import Caller, Handlers


class Streams:
    def __init__(self, intake: Intake, store: CallStore) -> None:
        self._intake, self._store = intake, store

    def handlers(self) -> Handlers:
        return {"FunctionCallGetDataOut": self.data_out}

    async def data_out(
        self, request: api_pb2.FunctionCallGetDataRequest, _: Caller
    ) -> AsyncIterator[api_pb2.DataChunk]:
        """The chunks after `last_index`, then those that come, until the client leaves: it knows from the call's
        output how many there are. After the generator ran again on another container, they count from 1 again, and the
        client takes up where it was."""
        call = self._intake.kept_call(request.function_call_id)
        if 0 not in call.inputs:
            raise GRPCError(Status.FAILED_PRECONDITION, f"call {call.call_id} has no input")
        job, sent = call.inputs[0].job, request.last_index
        while self._store.get(call.call_id) is call:
            chunks = job.chunks_after(sent)
            for chunk in chunks:
                sent += 1
                yield chunk.message(sent)
            if not chunks:
                await job.changed(facts.OUTPUTS_WAIT_S)  # and see whether the call is still kept
