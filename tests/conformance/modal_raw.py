"""Modal's RPCs as they are, for what the SDK never sends: over the public messages, without the SDK."""

from __future__ import annotations

from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from typing import Any
from urllib.parse import urlsplit

import cbor2
from grpclib.client import Channel
from grpclib.encoding.proto import ProtoCodec
from modal_proto import api_grpc, api_pb2

from tests.conformance.modal_cloud import APP, Cloud


class Raw:
    """`metadata` carries the account's token."""

    def __init__(self, channel: Channel, metadata: Mapping[str, str]) -> None:
        self.stub, self.metadata = api_grpc.ModalClientStub(channel), dict(metadata)

    async def call(self, rpc: str, request: Any, **metadata: str) -> Any:
        headers = {name.replace("_", "-"): value for name, value in metadata.items()}
        return await getattr(self.stub, rpc)(request, metadata={**self.metadata, **headers})

    async def function_id(self, name: str = "Served.*") -> str:
        request = api_pb2.FunctionGetRequest(app_name=APP, object_tag=name)
        function_id: str = (await self.call("FunctionGet", request)).function_id
        return function_id

    async def map(self, method: str, *args: Any, name: str = "Served.*", inputs: int = 1, **metadata: str) -> Any:
        """`FunctionMap` with the same input so many times."""
        found = api_pb2.FunctionInput(
            args=cbor2.dumps([args, {}]), data_format=api_pb2.DATA_FORMAT_CBOR, method_name=method
        )
        request = api_pb2.FunctionMapRequest(
            function_id=await self.function_id(name),
            function_call_type=api_pb2.FUNCTION_CALL_TYPE_MAP if inputs > 1 else api_pb2.FUNCTION_CALL_TYPE_UNARY,
            function_call_invocation_type=api_pb2.FUNCTION_CALL_INVOCATION_TYPE_SYNC,
            pipelined_inputs=[api_pb2.FunctionPutInputsItem(idx=idx, input=found) for idx in range(inputs)],
        )
        return await self.call("FunctionMap", request, **metadata)

    async def chunks(self, call_id: str, last_index: int, count: int) -> list[tuple[int, Any]]:
        """So many chunks after `last_index`; then the stream is closed, as by a client whose connection broke."""
        request = api_pb2.FunctionCallGetDataRequest(function_call_id=call_id, last_index=last_index)
        found: list[tuple[int, Any]] = []
        async with self.stub.FunctionCallGetDataOut.open(metadata=self.metadata) as stream:
            await stream.send_message(request, end=True)
            while len(found) < count:
                chunk = await stream.recv_message()
                assert chunk is not None
                found.append((chunk.index, cbor2.loads(chunk.data)))
            await stream.cancel()
        return found


@asynccontextmanager
async def raw(cloud: Cloud) -> AsyncIterator[Raw]:
    address = urlsplit(cloud.control_plane.server_url)
    channel = Channel(address.hostname, address.port, codec=ProtoCodec())
    token = cloud.control_plane.token
    try:
        yield Raw(channel, {"x-modal-token-id": token.token_id, "x-modal-token-secret": token.token_secret})
    finally:
        channel.close()
