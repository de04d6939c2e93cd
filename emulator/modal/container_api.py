"""What a container asks of Modal, and tells it (modal 1.6.4, `_runtime`): over its own unix socket, where everybody
else's RPCs are served too."""

from __future__ import annotations

import json
from collections.abc import AsyncIterator, Callable

from google.protobuf.empty_pb2 import Empty
from grpclib.const import Status
from grpclib.exceptions import GRPCError
from modal_proto import api_pb2

from emulator.engine.clock import Clock
from emulator.engine.jobs import Attempt
from emulator.modal import asgi, facts
from emulator.modal.blobs import BlobStore
from emulator.modal.container import Container
from emulator.modal.protocol import CBOR
from emulator.modal.results import Chunk, Output, Result, success
from emulator.modal.rpc import Caller, Handlers


class ContainerApi:
    """Of one container."""

    def __init__(self, container: Container, blobs: BlobStore, clock: Clock, *, is_pressed: Callable[[], bool]) -> None:
        self._container, self._blobs, self._clock, self._is_pressed = container, blobs, clock, is_pressed

    def handlers(self) -> Handlers:
        return {
            "ContainerCheckpoint": self.checkpoint,
            "ContainerHeartbeat": self.heartbeat,
            "ContainerHello": self.hello,
            "ContainerStop": self.stop,
            "FunctionCallGetDataIn": self.get_data_in,
            "FunctionCallPutDataOut": self.put_data_out,
            "FunctionGetDynamicConcurrency": self.get_dynamic_concurrency,
            "FunctionGetInputs": self.get_inputs,
            "FunctionPutOutputs": self.put_outputs,
            "TaskResult": self.task_result,
            "VolumeCommit": self.volume_commit,
        }

    async def hello(self, _: Empty, __: Caller) -> Empty:
        self._container.alive()
        return Empty()

    async def heartbeat(self, _: api_pb2.ContainerHeartbeatRequest, __: Caller) -> api_pb2.ContainerHeartbeatResponse:
        """Held until there is something to cancel: the runtime asks again only when it was answered."""
        self._container.alive()
        input_ids = await self._container.stopped_inputs(facts.HEARTBEAT_HOLD_S)
        if not input_ids:
            return api_pb2.ContainerHeartbeatResponse()
        return api_pb2.ContainerHeartbeatResponse(cancel_input_event=api_pb2.CancelInputEvent(input_ids=input_ids))

    async def checkpoint(self, _: api_pb2.ContainerCheckpointRequest, __: Caller) -> Empty:
        """There is no snapshot: the same process is told at once that it was restored."""
        self._container.alive()
        if self._container.files:
            self._container.files.restore_state.write_text(json.dumps({"task_id": self._container.task_id}))
        return Empty()

    async def get_inputs(
        self, request: api_pb2.FunctionGetInputsRequest, _: Caller
    ) -> api_pb2.FunctionGetInputsResponse:
        """Held until there is an input, and for a batch a while longer. The kill switch once it is to end."""
        container = self._container
        container.alive()
        attempts = await container.take(max(1, request.batch_max_size), facts.INPUTS_HOLD_S)
        if attempts and request.batch_max_size > len(attempts):
            await self._linger(attempts, request)
        if not attempts and container.is_over:
            return api_pb2.FunctionGetInputsResponse(inputs=[api_pb2.FunctionGetInputsItem(kill_switch=True)])
        return api_pb2.FunctionGetInputsResponse(inputs=[_item(attempt) for attempt in attempts])

    async def put_outputs(self, request: api_pb2.FunctionPutOutputsRequest, _: Caller) -> Empty:
        self._container.alive()
        for item in request.outputs:
            attempt = self._container.answered(item.input_id, item.retry_count)
            if attempt is None:
                continue
            if item.result.status == Result.GENERIC_STATUS_TERMINATED:
                # if it was not cancelled, the container is on its way out, and others are to take it over [SDK]
                self._container.take_back([attempt])
            else:
                self._container.report(attempt.job_id)
                _finish(attempt, item)
        return Empty()

    async def put_data_out(self, request: api_pb2.FunctionCallPutDataRequest, _: Caller) -> Empty:
        """What a generator yielded, or a web endpoint sends. Chunks come once more where the SDK saw no answer."""
        self._container.alive()
        held = self._container.of_call(request.function_call_id)
        if held is None:
            return Empty()
        for chunk in sorted(request.data_chunks, key=lambda chunk: chunk.index):
            if chunk.index > held.chunks:
                held.chunks = chunk.index
                self._add(held.attempt, chunk)
        return Empty()

    async def get_data_in(
        self, request: api_pb2.FunctionCallGetDataRequest, _: Caller
    ) -> AsyncIterator[api_pb2.DataChunk]:
        """The body of a web request as it comes, and that the client left."""
        held = self._container.of_call(request.function_call_id)
        if held is None or held.attempt.input.web is None:
            raise GRPCError(Status.NOT_FOUND, f"call {request.function_call_id!r} takes no data here")
        receive, index = held.attempt.input.web.reader(), 0
        while True:
            message = await receive()
            index += 1
            if index > request.last_index:
                yield api_pb2.DataChunk(data_format=asgi.ASGI, data=asgi.encode_message(message), index=index)

    async def get_dynamic_concurrency(
        self, request: api_pb2.FunctionGetDynamicConcurrencyRequest, _: Caller
    ) -> api_pb2.FunctionGetDynamicConcurrencyResponse:
        """Over its target only while inputs wait that no container is there for."""
        wanted = request.max_concurrency if self._is_pressed() else request.target_concurrency
        return api_pb2.FunctionGetDynamicConcurrencyResponse(concurrency=wanted)

    async def task_result(self, request: api_pb2.TaskResultRequest, _: Caller) -> Empty:
        """It could not start. The exception comes as a pickle, of which its words are kept."""
        result = api_pb2.GenericResult(
            status=request.result.status, exception=request.result.exception, traceback=request.result.traceback
        )
        self._container.failed(Output(result, CBOR))
        return Empty()

    async def stop(self, _: api_pb2.ContainerStopRequest, __: Caller) -> api_pb2.ContainerStopResponse:
        """It asks for no more inputs, and for an end (`stop_fetching_inputs`)."""
        self._container.on_spent()
        return api_pb2.ContainerStopResponse()

    async def volume_commit(self, _: api_pb2.VolumeCommitRequest, __: Caller) -> api_pb2.VolumeCommitResponse:
        return api_pb2.VolumeCommitResponse(skip_reload=True)

    async def _linger(self, attempts: list[Attempt], request: api_pb2.FunctionGetInputsRequest) -> None:
        """Wait for a batch to fill, `batch_linger_ms` from its first input on."""
        give_up_at = self._clock.now() + request.batch_linger_ms / 1000
        try:
            while (missing := request.batch_max_size - len(attempts)) > 0:
                remaining_s = give_up_at - self._clock.now()
                if remaining_s <= 0:
                    return
                attempts += await self._container.take(missing, remaining_s)
        except BaseException:
            self._container.take_back(attempts)
            raise

    def _add(self, attempt: Attempt, chunk: api_pb2.DataChunk) -> None:
        if chunk.data_format != asgi.ASGI:
            attempt.add_chunk(Chunk(chunk.data, chunk.data_blob_id, chunk.data_format))
            return
        data = self._blobs.get(chunk.data_blob_id) or b"" if chunk.data_blob_id else chunk.data
        if message := asgi.decode_message(data):
            attempt.add_chunk(message)


def _item(attempt: Attempt) -> api_pb2.FunctionGetInputsItem:
    given = attempt.input
    message = api_pb2.FunctionInput()
    message.CopyFrom(given.message)
    if given.web is not None:
        message.args = asgi.encode_scope(given.web.scope)
        message.data_format = CBOR
    return api_pb2.FunctionGetInputsItem(
        input_id=given.input_id,
        input=message,
        function_call_id=given.function_call_id,
        function_call_invocation_type=given.invocation,
        retry_count=given.retry_count,
        function_map_idx=given.idx,
    )


def _finish(attempt: Attempt, item: api_pb2.FunctionPutOutputsItem) -> None:
    result = item.result
    match result.status:
        case Result.GENERIC_STATUS_SUCCESS:
            attempt.complete(success(b"") if attempt.input.web is not None else Output(result, item.data_format))
        case _:
            attempt.fail(result.exception, Output(result, item.data_format))
