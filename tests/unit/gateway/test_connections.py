from __future__ import annotations

import asyncio
from typing import Any

import httpx
import uvicorn

from tests.conftest import serve
from yapit.gateway.processors.tts.connections import CONNECTIONS_PER_POOL, PooledTransport


async def test_connections_are_kept_and_shared_out_over_small_pools() -> None:
    peers: list[tuple[str, int]] = []

    async def app(scope: dict[str, Any], receive: Any, send: Any) -> None:
        if scope["type"] != "http":
            return
        peers.append(tuple(scope["client"]))
        await send({"type": "http.response.start", "status": 200, "headers": [(b"content-length", b"2")]})
        await send({"type": "http.response.body", "body": b"ok"})

    with serve(lambda _: uvicorn.Server(uvicorn.Config(app, log_level="warning", lifespan="off"))) as (url, _):
        async with httpx.AsyncClient(transport=PooledTransport(2 * CONNECTIONS_PER_POOL)) as client:
            for _ in range(10):
                assert (await client.get(url)).text == "ok"
            assert len(set(peers)) == 2  # one in each of two pools, each used five times
            answers = await asyncio.gather(*(client.get(url) for _ in range(40)))
            assert {answer.status_code for answer in answers} == {200}
