"""Load from a process of its own: `python -m tests.bench.load` reads a JSON plan on stdin and prints a JSON result."""

from __future__ import annotations

import asyncio
import json
import statistics
import sys
import time
from typing import Any

import aiohttp


async def run(
    url: str, bodies: list[dict[str, Any]], headers: dict[str, str], clients: int, requests: int
) -> dict[str, float]:
    """`requests` in all, `clients` at a time, over kept connections, the bodies in turn. Every answer must be 200.

    `first_ms` is the median until the first byte of the body, `p50_ms` and `p99_ms` until the last.
    """
    waiting = iter(range(requests))
    first_ms: list[float] = []
    whole_ms: list[float] = []
    received_bytes = 0
    payloads = [json.dumps(body).encode() for body in bodies]
    headers = {"content-type": "application/json", **headers}

    async def client(session: aiohttp.ClientSession) -> None:
        nonlocal received_bytes
        for number in waiting:
            started_at = time.perf_counter()
            async with session.post(url, data=payloads[number % len(payloads)], headers=headers) as response:
                first = await response.content.readany()
                first_at = time.perf_counter()
                size = len(first) + len(await response.read())
                if response.status != 200:
                    raise RuntimeError(f"{url} answered {response.status}: {first[:300]!r}")
            received_bytes += size
            first_ms.append((first_at - started_at) * 1000)
            whole_ms.append((time.perf_counter() - started_at) * 1000)

    async with aiohttp.ClientSession(connector=aiohttp.TCPConnector(limit=0)) as session:
        started_at = time.perf_counter()
        await asyncio.gather(*(client(session) for _ in range(clients)))
        spent_s = time.perf_counter() - started_at
    whole_ms.sort()
    return {
        "requests_per_s": requests / spent_s,
        "first_ms": statistics.median(first_ms),
        "p50_ms": statistics.median(whole_ms),
        "p99_ms": whole_ms[min(len(whole_ms) - 1, int(len(whole_ms) * 0.99))],
        "bytes": received_bytes,
        "seconds": spent_s,
    }


if __name__ == "__main__":
    plan = json.load(sys.stdin)
    import uvloop

    print(json.dumps(uvloop.run(run(**plan))))
