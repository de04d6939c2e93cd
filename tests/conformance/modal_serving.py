"""Modal's API of the emulator on sockets of its own, without any app."""

from __future__ import annotations

import asyncio
import socket
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager

import uvicorn
from starlette.applications import Starlette
from starlette.routing import BaseRoute
from starlette.types import ASGIApp

from emulator.engine.clock import Clock
from emulator.engine.faults import Faults
from emulator.fault_requests import FaultyRequests
from emulator.modal.control_plane import ControlPlane, Token
from emulator.modal.limits import ModalLimits
from emulator.modal.web import ProxyToken

TOKEN, PROXY_TOKEN = Token("ak-test", "as-test"), ProxyToken("wk-test", "ws-test")
PROXY_HEADERS = {"Modal-Key": PROXY_TOKEN.key, "Modal-Secret": PROXY_TOKEN.secret}


@asynccontextmanager
async def serving(
    clock: Clock, faults: Faults, limits: ModalLimits | None = None, *, routes: Sequence[BaseRoute] = ()
) -> AsyncIterator[ControlPlane]:
    """The control plane, and over HTTP its blobs and web endpoints, and `routes`."""
    listener = socket.socket(proto=socket.IPPROTO_TCP)
    listener.bind(("127.0.0.1", 0))
    http_url = f"http://127.0.0.1:{listener.getsockname()[1]}"
    control_plane = ControlPlane(
        token=TOKEN, proxy_token=PROXY_TOKEN, clock=clock, faults=faults, limits=limits, http_url=http_url
    )
    app = FaultyRequests(Starlette(routes=[*control_plane.routes(), *routes]), faults, clock)
    async with _on_socket(app, listener):
        await control_plane.listen()
        yield control_plane
        await control_plane.close()


@asynccontextmanager
async def _on_socket(app: ASGIApp, listener: socket.socket) -> AsyncIterator[None]:
    config = uvicorn.Config(app, log_level="critical", access_log=False, timeout_graceful_shutdown=1, lifespan="off")
    server = uvicorn.Server(config)
    serving = asyncio.create_task(server.serve(sockets=[listener]))
    try:
        yield
    finally:
        server.should_exit = True
        await serving
        listener.close()
