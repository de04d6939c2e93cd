"""The gRPC server: deadlines, answers in one write, and what it says of errors."""

from __future__ import annotations

import asyncio
import socket
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any
from urllib.parse import urlsplit

import pytest
from google.protobuf.empty_pb2 import Empty
from grpclib.client import Channel
from grpclib.const import Status
from grpclib.encoding.proto import ProtoCodec
from grpclib.exceptions import GRPCError, StreamTerminatedError
from modal_proto import api_grpc, api_pb2

from emulator.engine.clock import VirtualClock
from emulator.engine.faults import Effect, FaultRule, Faults
from emulator.modal.rpc import Caller, Once, RpcServer
from emulator.modal.server_connection import OneWriteTransport
from yapit.errors import ConfigurationError


@asynccontextmanager
async def serving(faults: Faults | None = None, **handlers: Any) -> AsyncIterator[api_grpc.ModalClientStub]:
    server = RpcServer(handlers, authorise=lambda _name, _caller: None, clock=VirtualClock(), faults=faults or Faults())
    address = urlsplit(await server.listen())
    channel = Channel(address.hostname, address.port, codec=ProtoCodec())
    yield api_grpc.ModalClientStub(channel)
    channel.close()
    await server.close()


async def test_an_rpc_that_takes_longer_than_its_deadline_is_cancelled() -> None:
    ended = asyncio.Event()

    async def hold(_request: Empty, _caller: Caller) -> None:
        try:
            await asyncio.Event().wait()
        finally:
            ended.set()

    async with serving(ClientHello=hold) as stub:
        with pytest.raises((GRPCError, asyncio.TimeoutError)):
            await stub.ClientHello(Empty(), timeout=0.05)
        await asyncio.wait_for(ended.wait(), 5)


async def test_rpcs_that_are_held_do_not_hold_up_others() -> None:
    release = asyncio.Event()

    async def hold(_request: api_pb2.FunctionGetOutputsRequest, _caller: Caller) -> api_pb2.FunctionGetOutputsResponse:
        await release.wait()
        return api_pb2.FunctionGetOutputsResponse()

    async with serving(FunctionGetOutputs=hold, ClientHello=_hello) as stub:
        await stub.ClientHello(Empty())  # the connection is there, and its settings known
        polls = [asyncio.create_task(stub.FunctionGetOutputs(api_pb2.FunctionGetOutputsRequest())) for _ in range(300)]
        await asyncio.wait_for(stub.ClientHello(Empty()), 10)
        release.set()
        assert len(await asyncio.gather(*polls)) == 300


async def test_a_client_that_leaves_ends_its_stream() -> None:
    ended = asyncio.Event()

    async def chunks(_request: Any, _caller: Caller) -> AsyncIterator[api_pb2.DataChunk]:
        try:
            yield api_pb2.DataChunk(index=1)
            await asyncio.Event().wait()
        finally:
            ended.set()

    async with serving(FunctionCallGetDataOut=chunks) as stub:
        async with stub.FunctionCallGetDataOut.open() as stream:
            await stream.send_message(api_pb2.FunctionCallGetDataRequest(), end=True)
            assert (await stream.recv_message()).index == 1  # type: ignore[union-attr]
            await stream.cancel()
        await asyncio.wait_for(ended.wait(), 5)


async def test_once_is_once_for_each_key() -> None:
    served: list[str] = []

    def create(request: api_pb2.BlobCreateRequest, _: Caller) -> api_pb2.BlobCreateResponse:
        served.append(request.content_md5)
        return api_pb2.BlobCreateResponse(blob_id=f"bl-{len(served)}")

    async with serving(BlobCreate=Once(create)) as stub:
        found = [
            (await stub.BlobCreate(api_pb2.BlobCreateRequest(), metadata=key)).blob_id
            for key in ({"x-idempotency-key": "a"}, {"x-idempotency-key": "a"}, {"x-idempotency-key": "b"}, {})
        ]
    assert found == ["bl-1", "bl-1", "bl-2", "bl-3"]


@pytest.mark.parametrize(
    ("rule", "status"),
    [
        (FaultRule(Effect.STATUS, match="RPC ClientHello", value=503), Status.UNAVAILABLE),
        (FaultRule(Effect.STATUS, match="RPC *", value=429), Status.RESOURCE_EXHAUSTED),
        (FaultRule(Effect.STATUS, value=418), Status.UNKNOWN),
    ],
)
async def test_rules_strike_rpcs_by_name(rule: FaultRule, status: Status) -> None:
    async with serving(Faults([rule]), ClientHello=_hello) as stub:
        with pytest.raises(GRPCError) as refused:
            await stub.ClientHello(Empty())
        assert refused.value.status is status


@pytest.mark.parametrize(("effect", "times_served"), [(Effect.DROP_BEFORE, 0), (Effect.DROP_AFTER, 1)])
async def test_an_rpc_may_be_dropped(effect: Effect, times_served: int) -> None:
    served: list[Empty] = []

    async def hello(request: Empty, _: Caller) -> api_pb2.ClientHelloResponse:
        served.append(request)
        return api_pb2.ClientHelloResponse()

    async with serving(Faults([FaultRule(effect, match="RPC ClientHello")]), ClientHello=hello) as stub:
        with pytest.raises(StreamTerminatedError):
            await stub.ClientHello(Empty())
        assert len(served) == times_served


async def _hello(_request: Empty, _: Caller) -> api_pb2.ClientHelloResponse:
    return api_pb2.ClientHelloResponse()


async def test_a_port_that_is_taken_is_told() -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        server = RpcServer({}, authorise=lambda _name, _caller: None, clock=VirtualClock(), faults=Faults())
        with pytest.raises(
            ConfigurationError, match=f"cannot listen at 127.0.0.1, port {port}: Address already in use"
        ):
            await server.listen(port=port)


async def test_a_server_that_listens_everywhere_is_reached_on_loopback() -> None:
    server = RpcServer({}, authorise=lambda _name, _caller: None, clock=VirtualClock(), faults=Faults())
    assert (await server.listen("0.0.0.0")).startswith("http://127.0.0.1:")
    await server.close()


async def test_a_server_that_closes_leaves_no_connection_open() -> None:
    server = RpcServer(
        {"ClientHello": _hello}, authorise=lambda _name, _caller: None, clock=VirtualClock(), faults=Faults()
    )
    address = urlsplit(await server.listen())
    channel = Channel(address.hostname, address.port, codec=ProtoCodec())
    stub = api_grpc.ModalClientStub(channel)
    await stub.ClientHello(Empty())
    await server.close()
    with pytest.raises(OSError, match="Connect call failed"):
        await stub.ClientHello(Empty())
    channel.close()


class Wire:
    """A transport that notes what is written."""

    def __init__(self) -> None:
        self.written: list[bytes] = []
        self.is_closed = False

    def write(self, data: bytes) -> None:
        self.written.append(data)

    def close(self) -> None:
        self.is_closed = True

    def is_closing(self) -> bool:
        return self.is_closed


async def test_what_is_written_in_one_turn_is_one_write() -> None:
    wire = Wire()
    transport = OneWriteTransport(wire)  # type: ignore[arg-type]
    for part in (b"headers", b"message", b"trailers"):
        transport.write(part)
    assert wire.written == []
    await asyncio.sleep(0)
    assert wire.written == [b"headersmessagetrailers"]
    transport.write(b"last")
    transport.close()
    assert (wire.written[1:], wire.is_closed) == ([b"last"], True)
    transport.write(b"too late")
    await asyncio.sleep(0)
    assert len(wire.written) == 2
