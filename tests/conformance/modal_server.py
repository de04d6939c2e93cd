"""Modal's API of the emulator as a process of its own: `python -m tests.conformance.modal_server [virtual] [defined]`.

Prints where it is, as JSON, and serves until its input ends. Over HTTP, besides what Modal has: what RPCs were called,
fault rules, and with a `virtual` clock moving that. With `defined` the tests' app is there without a deploy, in this
process.
"""

from __future__ import annotations

import asyncio
import json
import sys
from typing import Any

from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import BaseRoute, Route

from emulator import fault_requests
from emulator.engine.clock import RealClock, VirtualClock
from emulator.engine.faults import Faults
from tests.conformance.modal_in_process import define
from tests.conformance.modal_serving import serving

RPCS_PATH, CLOCK_PATH = "/_test/rpcs", "/_test/clock"


class Server:
    def __init__(self, clock: RealClock | VirtualClock) -> None:
        self._clock, self._faults = clock, Faults()
        self._rpcs: Any = None

    async def serve(self, *, is_defined: bool) -> None:
        async with serving(self._clock, self._faults, routes=self._routes()) as control_plane:
            self._rpcs = control_plane.rpc.log
            if is_defined:
                define(control_plane)
            where = {"server_url": control_plane.server_url, "http_url": control_plane.addresses.http}
            print(json.dumps(where), flush=True)
            await asyncio.to_thread(sys.stdin.read)

    def _routes(self) -> list[BaseRoute]:
        return [
            Route(RPCS_PATH, self._serve_rpcs, methods=["GET", "DELETE"]),
            Route(CLOCK_PATH, self._advance, methods=["POST"]),
            Route(fault_requests.PATH, self._serve_faults, methods=["PUT"]),
        ]

    async def _serve_rpcs(self, request: Request) -> Response:
        if request.method == "DELETE":
            self._rpcs.clear()
        return JSONResponse(list(self._rpcs))

    async def _advance(self, request: Request) -> Response:
        assert isinstance(self._clock, VirtualClock)
        await self._clock.advance(float(await request.body()))
        return Response()

    async def _serve_faults(self, request: Request) -> Response:
        return await fault_requests.serve_rules(request, self._faults)


if __name__ == "__main__":
    clock = VirtualClock(starts_at=1_700_000_000.0) if "virtual" in sys.argv else RealClock()
    asyncio.run(Server(clock).serve(is_defined="defined" in sys.argv))
