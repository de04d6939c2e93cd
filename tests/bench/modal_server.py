"""The emulator with, beside the functions, a class that does nothing but answer the same bytes:
`python -m tests.bench.modal_server HTTP_PORT GRPC_PORT`."""

from __future__ import annotations

import sys
from collections.abc import AsyncGenerator, Callable, Mapping
from pathlib import Path
from typing import Any

from emulator.app import Emulator
from emulator.modal.definitions import Definition, Method
from emulator.modal.worker import InstanceWorker
from emulator.server import Server
from tests.bench.adapter import PCM

FUNCTIONS = Path(__file__).parent / "functions"


class Raw:
    methods: Mapping[str, Callable[..., Any]]

    def __init__(self) -> None:
        self.methods = {"whole": self._whole, "stream": self._stream}

    async def start(self) -> None: ...

    async def stop(self) -> None: ...

    async def _whole(self, _context: object, _payload: object) -> bytes:
        return PCM

    async def _stream(self, _context: object, _payload: object) -> AsyncGenerator[bytes, None]:
        yield PCM


def main(http_port: int, grpc_port: int) -> None:
    emulator = Emulator(FUNCTIONS, api_key="bench", modal_address=("127.0.0.1", grpc_port))
    emulator.modal.define(
        Definition(
            app_name="bench",
            name="Raw",
            is_class=True,
            methods={"whole": Method("whole"), "stream": Method("stream", is_generator=True)},
            make_worker=lambda _id, _parameters: InstanceWorker(Raw),
        )
    )
    Server(emulator, port=http_port, log_level="error").run()


if __name__ == "__main__":
    main(int(sys.argv[1]), int(sys.argv[2]))
