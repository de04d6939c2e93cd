"""The emulator on a real socket."""

from __future__ import annotations

import logging
import socket

import uvicorn

from emulator.app import Emulator
from emulator.fault_requests import DroppedConnection

SHUTDOWN_GRACE_S = 2


class Server(uvicorn.Server):
    """Stops the workers before it waits for open connections: worker processes hold some until they are stopped."""

    def __init__(
        self, emulator: Emulator, *, host: str = "127.0.0.1", port: int = 0, log_level: str = "warning"
    ) -> None:
        config = uvicorn.Config(
            emulator.app,
            host=host,
            port=port,
            log_level=log_level,
            access_log=False,
            timeout_graceful_shutdown=SHUTDOWN_GRACE_S,
        )
        super().__init__(config)
        logging.getLogger("uvicorn.error").addFilter(_is_no_drop)
        self._emulator = emulator

    async def shutdown(self, sockets: list[socket.socket] | None = None) -> None:
        await self._emulator.stop_workers()
        await super().shutdown(sockets)


def _is_no_drop(record: logging.LogRecord) -> bool:
    """Connections that a fault rule broke off are no errors of the server's."""
    return not (record.exc_info and isinstance(record.exc_info[1], DroppedConnection))
