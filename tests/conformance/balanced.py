"""A load-balancing endpoint of the emulated RunPod for tests: the worker's application and the clock in hand."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Mapping

import httpx
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import JSONResponse, Response, StreamingResponse
from starlette.routing import BaseRoute, Mount, Route
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from emulator.engine.clock import VirtualClock
from emulator.engine.faults import Faults
from emulator.engine.pool import PoolLimits, WorkerPool
from emulator.runpod.client_api import ClientApi
from emulator.runpod.endpoint import Endpoint, QueueEndpoint
from emulator.runpod.load_balancer import LoadBalancedEndpoint, LoadBalancers
from emulator.runpod.policy import REQUEST_POLICY
from emulator.runpod.served import AppWorker

KEY = "rp-key"
HOST = "ep.api.runpod.localhost"


class Balanced:
    """Load-balancing endpoint `ep` and queue endpoint `queue`. `health` is what the worker's `/ping` answers."""

    def __init__(self, *, max_workers: int = 1, concurrency: int = 2, health: int = 200, max_queue: int = 100) -> None:
        self.clock, self.health, self.faults = VirtualClock(), health, Faults()
        self.gate = asyncio.Event()
        self.stopped: list[str] = []
        limits = PoolLimits(max_workers=max_workers, concurrency=concurrency, idle_timeout_s=60)
        self.pool = WorkerPool(
            lambda worker_id: AppWorker(worker_id, self.clock, self._application),
            *(limits, self.clock),
            policy=REQUEST_POLICY,
            max_queue=max_queue,
            faults=self.faults,
        )
        never = WorkerPool(lambda _: NotImplemented, PoolLimits(max_workers=0), self.clock)
        endpoints: dict[str, Endpoint] = {
            "ep": LoadBalancedEndpoint("ep", self.pool, self.clock),
            "queue": QueueEndpoint("queue", never, self.clock),
        }
        api = ClientApi(endpoints, api_key=KEY, clock=self.clock, webhook_client=httpx.AsyncClient())
        self._webhooks = api.webhooks
        self.app: ASGIApp = LoadBalancers(Starlette(routes=api.routes()), endpoints, api_key=KEY)
        self.http = httpx.AsyncClient(
            transport=httpx.ASGITransport(self.app),
            base_url=f"http://{HOST}",
            headers={"Authorization": f"Bearer {KEY}"},
        )

    async def close(self) -> None:
        await self.pool.close()
        await self._webhooks.close()
        await self.http.aclose()

    def _application(self) -> Starlette:
        routes: list[BaseRoute] = [
            Route("/ping", self._ping),
            Route("/echo/{rest:path}", _echo, methods=["GET", "POST", "PUT", "DELETE"]),
            Route("/held", self._held),
            Mount("/parrot", _parrot),
            Route("/large", _large),
            Route("/raises", _raise),
        ]
        return Starlette(routes=routes)

    async def _ping(self, _: Request) -> Response:
        return Response(status_code=self.health)

    async def _held(self, request: Request) -> Response:
        """Says "first", then waits for the gate, then says "second"."""

        async def parts() -> AsyncIterator[bytes]:
            yield b"first"
            try:
                await self.gate.wait()
            except asyncio.CancelledError:
                self.stopped.append(request.query_params.get("name", ""))
                raise
            yield b"second"

        return StreamingResponse(parts())


class Call:
    """One request, made by hand so that the test sees each part of the answer as it comes, and can leave."""

    def __init__(
        self,
        app: ASGIApp,
        path: str,
        *,
        method: str = "GET",
        query: str = "",
        headers: Mapping[str, str] | None = None,
        body: bytes = b"",
        has_more: bool = False,
    ) -> None:
        self.sent: list[Message] = []
        self._inbox: asyncio.Queue[Message] = asyncio.Queue()
        self.upload(body, has_more=has_more)
        given = {"host": HOST, "authorization": f"Bearer {KEY}", **(headers or {})}
        scope = {
            "type": "http",
            "method": method,
            "path": path,
            "raw_path": path.encode(),
            "query_string": query.encode(),
            "root_path": "",
            "http_version": "1.1",
            "headers": [(name.encode(), value.encode()) for name, value in given.items()],
        }
        self.task = asyncio.create_task(app(scope, self._inbox.get, self._send))

    async def _send(self, message: Message) -> None:
        self.sent.append(message)

    def upload(self, body: bytes, *, has_more: bool = False) -> None:
        self._inbox.put_nowait({"type": "http.request", "body": body, "more_body": has_more})

    def leave(self) -> None:
        self._inbox.put_nowait({"type": "http.disconnect"})

    @property
    def status(self) -> int | None:
        return self.sent[0]["status"] if self.sent else None

    @property
    def body(self) -> bytes:
        return b"".join(message.get("body", b"") for message in self.sent[1:])

    @property
    def is_complete(self) -> bool:
        return len(self.sent) > 1 and not self.sent[-1].get("more_body", False)


async def _echo(request: Request) -> Response:
    return JSONResponse(
        {
            "method": request.method,
            "raw_path": request.scope["raw_path"].decode(),
            "query": str(request.query_params),
            "x": request.headers.get("x-custom"),
            "body_bytes": len(await request.body()),
        },
        status_code=201,
        headers={"X-Custom": "back"},
    )


async def _parrot(_: Scope, receive: Receive, send: Send) -> None:
    """Says each part of the body as it comes."""
    await send({"type": "http.response.start", "status": 200, "headers": []})
    has_more = True
    while has_more:
        part = await receive()
        has_more = part["more_body"]
        await send({"type": "http.response.body", "body": part["body"], "more_body": has_more})


async def _large(_: Request) -> Response:
    async def parts() -> AsyncIterator[bytes]:
        for _ in range(31):
            yield b"x" * 1024 * 1024

    return StreamingResponse(parts())


async def _raise(_: Request) -> Response:
    raise RuntimeError("out of memory")
