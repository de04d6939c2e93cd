"""Kept connections to a provider, in several small pools.

httpcore looks at every idle connection of a pool, with a system call each, whenever a request begins or ends: one pool
of 64 connections served a third of the requests per second that eight of 8 do (`make bench`, 64 clients).
"""

from __future__ import annotations

import itertools

import httpx

CONNECTIONS_PER_POOL = 8


class PooledTransport(httpx.AsyncBaseTransport):
    """Keeps up to `max_kept` connections open; requests take the pools in turn."""

    def __init__(self, max_kept: int) -> None:
        context = httpx.create_ssl_context()  # takes 10 ms and more: one for all
        limits = httpx.Limits(max_connections=None, max_keepalive_connections=CONNECTIONS_PER_POOL)
        count = -(-max_kept // CONNECTIONS_PER_POOL)
        self._pools = [httpx.AsyncHTTPTransport(verify=context, limits=limits) for _ in range(count)]
        self._turns = itertools.cycle(self._pools)

    async def handle_async_request(self, request: httpx.Request) -> httpx.Response:
        return await next(self._turns).handle_async_request(request)

    async def aclose(self) -> None:
        for pool in self._pools:
            await pool.aclose()
