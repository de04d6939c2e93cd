"""The gRPC server: every RPC that Modal has, from handlers by name. What has no handler answers UNIMPLEMENTED."""

from __future__ import annotations

import asyncio
import logging
import socket
from collections import deque
from collections.abc import AsyncIterator, Awaitable, Callable, Collection, Mapping
from contextlib import suppress
from dataclasses import dataclass
from typing import Any

from google.protobuf.descriptor import MethodDescriptor
from google.protobuf.message_factory import GetMessageClass
from grpclib.const import Cardinality, Handler, Status
from grpclib.encoding.proto import ProtoCodec
from grpclib.exceptions import GRPCError
from grpclib.server import Server, Stream
from multidict import MultiDict

from emulator.engine.clock import Clock, sleep
from emulator.engine.faults import Effect, Faults
from emulator.modal.idempotency import Answers
from emulator.modal.protocol import StatusDetails, rpcs, service
from emulator.modal.server_connection import ServerConnection
from yapit.errors import ConfigurationError

logger = logging.getLogger(__name__)

SHUTDOWN_GRACE_S = 2.0
EVERY_ADDRESS = ("", "0.0.0.0", "::")
MAX_LOG_ENTRIES = 10_000
STATUS_OF_HTTP = {
    400: Status.INVALID_ARGUMENT,
    401: Status.UNAUTHENTICATED,
    403: Status.PERMISSION_DENIED,
    404: Status.NOT_FOUND,
    409: Status.ABORTED,
    429: Status.RESOURCE_EXHAUSTED,
    500: Status.INTERNAL,
    501: Status.UNIMPLEMENTED,
    503: Status.UNAVAILABLE,
    504: Status.DEADLINE_EXCEEDED,
}
"""gRPC's status for the numbers of HTTP in which fault rules are written."""


@dataclass(frozen=True, slots=True)
class Caller:
    """Who calls, as the metadata says."""

    metadata: MultiDict[Any]

    def get(self, name: str) -> str:
        return str(self.metadata.get(name, ""))


Unary = Callable[[Any, Caller], Awaitable[Any]]
"""Answers one request with one message. Raises `GRPCError`."""
Streaming = Callable[[Any, Caller], AsyncIterator[Any]]
"""Answers one request with any number of messages. Closed when the client leaves."""


@dataclass(frozen=True, slots=True)
class Once:
    """Answers one request with one message, without awaiting anything. The same idempotency key gets the same answer:
    the SDK repeats an RPC under its key when it saw no answer, or UNAVAILABLE."""

    answer: Callable[[Any, Caller], Any]


Handlers = Mapping[str, Unary | Streaming | Once]
"""By the RPC's name."""


class RpcServer:
    """`authorise` is asked before each RPC and raises `GRPCError`; `faults` strike `"RPC <name>"`."""

    def __init__(
        self,
        handlers: Handlers,
        *,
        authorise: Callable[[str, Caller], None],
        clock: Clock,
        faults: Faults,
    ) -> None:
        self._handlers, self._authorise, self._clock, self._faults = dict(handlers), authorise, clock, faults
        self._answers = Answers(clock)
        self.log: deque[str] = deque(maxlen=MAX_LOG_ENTRIES)
        """The names of the RPCs that were called, in order."""
        self._server: _Server | None = None

    @property
    def implemented(self) -> set[str]:
        return set(self._handlers)

    async def listen(self, host: str = "127.0.0.1", port: int = 0) -> str:
        """Serve on a TCP socket, port 0 being any free one; its URL. Raises `ConfigurationError` for one that is taken.

        The SDK takes no URL with an IPv6 address in it (modal 1.6.4, `create_channel`).
        """
        family = socket.AF_INET6 if ":" in host else socket.AF_INET
        listener = socket.socket(family, proto=socket.IPPROTO_TCP)  # or asyncio leaves Nagle's delay on
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            listener.bind((host, port))
        except OSError as error:
            listener.close()
            raise ConfigurationError(f"Modal's API cannot listen at {host}, port {port}: {error.strerror}") from None
        await self._make().start(sock=listener)
        reached = "127.0.0.1" if host in EVERY_ADDRESS else f"[{host}]" if ":" in host else host
        return f"http://{reached}:{listener.getsockname()[1]}"

    async def listen_at(self, path: str) -> None:
        """Serve on a unix socket."""
        await self._make().start(path=path)

    async def close(self) -> None:
        """Stop; RPCs that are being served are cancelled."""
        if self._server is not None:
            server, self._server = self._server, None
            server.close()
            for connection in [*server.connections]:
                connection.close()
            with suppress(TimeoutError):  # from Python 3.12 on it waits for the connections to be closed
                await asyncio.wait_for(server.wait_closed(), SHUTDOWN_GRACE_S)

    def _make(self) -> Server:
        if self._server is not None:
            raise RuntimeError("this server listens already")
        self._server = _Server([self])
        return self._server

    def __mapping__(self) -> dict[str, Handler]:
        prefix = f"/{service().full_name}/"
        return {prefix + rpc.name: self._handler(rpc) for rpc in rpcs()}

    def _handler(self, rpc: MethodDescriptor) -> Handler:
        handler = self._handlers.get(rpc.name)

        async def serve(stream: Stream[Any, Any]) -> None:
            caller = Caller(stream.metadata or MultiDict())
            self.log.append(rpc.name)
            if handler is None:
                logger.error("Modal RPC %s was called and is not implemented", rpc.name)
                raise GRPCError(Status.UNIMPLEMENTED, f"the emulator does not implement {rpc.name}")
            self._authorise(rpc.name, caller)
            request = await stream.recv_message()
            if self._faults.rules and await self._is_dropped(stream, rpc.name):
                return
            if rpc.server_streaming:
                await _send_all(stream, handler(request, caller))  # type: ignore[operator,arg-type]
                return
            message = await self._answer(rpc.name, request, caller)
            if self._faults.rules and self._faults.strike(Effect.DROP_AFTER, f"RPC {rpc.name}"):
                await stream.cancel()
            else:
                await stream.send_message(message)

        cardinality = {
            (False, False): Cardinality.UNARY_UNARY,
            (False, True): Cardinality.UNARY_STREAM,
            (True, False): Cardinality.STREAM_UNARY,
            (True, True): Cardinality.STREAM_STREAM,
        }[rpc.client_streaming, rpc.server_streaming]
        return Handler(serve, cardinality, GetMessageClass(rpc.input_type), GetMessageClass(rpc.output_type))

    async def _answer(self, name: str, request: Any, caller: Caller) -> Any:
        handler = self._handlers[name]
        if not isinstance(handler, Once):
            return await handler(request, caller)  # type: ignore[misc]
        key = caller.get("x-idempotency-key")
        if key and (remembered := self._answers.get(name, key)):
            return remembered
        answer = handler.answer(request, caller)
        if key:
            self._answers.keep(name, key, answer)
        return answer

    async def _is_dropped(self, stream: Stream[Any, Any], name: str) -> bool:
        """Strike an RPC before it is served. Raises `GRPCError` where a rule says so."""
        subject = f"RPC {name}"
        if rule := self._faults.strike(Effect.LATENCY, subject):
            await sleep(self._clock, rule.value)
        if rule := self._faults.strike(Effect.STATUS, subject):
            raise GRPCError(STATUS_OF_HTTP.get(int(rule.value), Status.UNKNOWN), "a fault rule of the emulator")
        if self._faults.strike(Effect.DROP_BEFORE, subject):
            await stream.cancel()
            return True
        return False


class _Server(Server):
    """grpclib's, which closes no connection by itself: it leaves that to the clients."""

    def __init__(self, handlers: Collection[Any]) -> None:
        super().__init__(handlers, codec=ProtoCodec(), status_details_codec=StatusDetails())
        self.connections: set[ServerConnection] = set()

    def _protocol_factory(self) -> Any:
        return ServerConnection(super()._protocol_factory(), self.connections)


async def _send_all(stream: Stream[Any, Any], messages: AsyncIterator[Any]) -> None:
    await stream.send_initial_metadata()
    async for message in messages:
        await stream.send_message(message)
