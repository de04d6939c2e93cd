"""The emulator with, beside the functions, a class that does nothing but answer the same bytes:
`python -m tests.bench.modal_server HTTP_PORT GRPC_PORT`."""

from __future__ import annotations

import sys
from collections.abc import AsyncGenerator, Callable, Mapping
from pathlib import Path
from typing import Any

from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route
from starlette.types import ASGIApp

from emulator.app import Emulator
from emulator.modal.definitions import Definition, Method
from emulator.modal.worker import InstanceWorker
from emulator.server import Server
from tests.bench.adapter import PCM

FUNCTIONS = Path(__file__).parent / "functions"


class Raw:
    methods: Mapping[str, Callable[..., Any]]
    web_apps: Mapping[str, ASGIApp]

    def __init__(self) -> None:
        self.methods = {"whole": self._whole, "stream": self._stream}
        self.web_apps = {"web": Starlette(routes=[Route("/", _answer, methods=["POST"])])}

    async def start(self) -> None: ...

    async def stop(self) -> None: ...

    async def _whole(self, _context: object, _payload: object) -> bytes:
        return PCM

    async def _stream(self, _context: object, _payload: object) -> AsyncGenerator[bytes, None]:
        yield PCM


async def _answer(request: Request) -> Response:
    await request.body()
    return Response(PCM, media_type="audio/pcm")


def main(http_port: int, grpc_port: int) -> None:
    url = f"http://127.0.0.1:{http_port}"
    emulator = Emulator(FUNCTIONS, api_key="bench", base_url=url, modal_address=("127.0.0.1", grpc_port))
    methods = [
        Method("whole"),
        Method("stream", is_generator=True),
        Method("web", is_web=True, requires_proxy_auth=True),
    ]
    emulator.modal.define(
        Definition(
            app_name="bench",
            name="Raw",
            is_class=True,
            methods={method.name: method for method in methods},
            make_worker=lambda _id, _binding: InstanceWorker(Raw, emulator.modal.blobs),
        )
    )
    Server(emulator, port=http_port, log_level="error").run()


if __name__ == "__main__":
    main(int(sys.argv[1]), int(sys.argv[2]))
