"""Connections of the gRPC server, as grpclib does not let one set them up.

What a connection sends in one turn of the event loop is one write: grpclib writes headers, message and trailers of each
answer by themselves, and each write wakes the client. And a client may have as many RPCs open as it likes: each call
that it waits for holds one, and with h2's limit of 100 the next, such as a cancellation, would wait for one of them.
"""

from __future__ import annotations

import asyncio
from typing import Any

from grpclib.protocol import H2Protocol
from h2.settings import SettingCodes

MAX_STREAMS = 10_000


class OneWriteTransport:
    """In front of `transport`, which does all the rest."""

    def __init__(self, transport: asyncio.Transport) -> None:
        self._transport, self._loop = transport, asyncio.get_running_loop()
        self._waiting: list[bytes] = []

    def write(self, data: bytes) -> None:
        if not self._waiting:
            self._loop.call_soon(self._flush)
        self._waiting.append(data)

    def close(self) -> None:
        self._flush()
        self._transport.close()

    def __getattr__(self, name: str) -> Any:
        return getattr(self._transport, name)

    def _flush(self) -> None:
        data, self._waiting = b"".join(self._waiting), []
        if data and not self._transport.is_closing():
            self._transport.write(data)


class ServerConnection(asyncio.Protocol):
    """In front of grpclib's own. While it is connected it is among `connections`."""

    def __init__(self, protocol: H2Protocol, connections: set[ServerConnection]) -> None:
        self._protocol, self._connections = protocol, connections
        self.data_received = protocol.data_received  # type: ignore[method-assign]
        self.eof_received = protocol.eof_received  # type: ignore[method-assign]
        self.pause_writing = protocol.pause_writing  # type: ignore[method-assign]
        self.resume_writing = protocol.resume_writing  # type: ignore[method-assign]
        self._transport: OneWriteTransport | None = None

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = OneWriteTransport(transport)  # type: ignore[arg-type]
        self._connections.add(self)
        self._protocol.connection_made(self._transport)  # type: ignore[arg-type]
        self._protocol.connection._connection.update_settings({SettingCodes.MAX_CONCURRENT_STREAMS: MAX_STREAMS})
        self._protocol.connection.flush()

    def connection_lost(self, error: Exception | None) -> None:
        self._connections.discard(self)
        self._protocol.connection_lost(error)

    def close(self) -> None:
        if self._transport is not None:
            self._transport.close()
