"""What every HTTP server here needs and the framework leaves out: bounded bodies and noticing who leaves."""

from __future__ import annotations

import asyncio
import json
import logging
from collections.abc import AsyncGenerator, AsyncIterator, Awaitable, Mapping
from contextlib import aclosing, suppress
from typing import Any, TypeVar

from starlette.requests import Request
from starlette.responses import Response
from starlette.types import Receive, Scope, Send

from yapit.errors import InvalidRequest, PayloadTooLarge, YapitError

logger = logging.getLogger(__name__)

T = TypeVar("T")


class ClientLeft(Exception):
    """The client closed the connection; there is nobody to answer."""


async def read_json(request: Request, *, max_bytes: int) -> Any:
    """The request's JSON body, of at most `max_bytes`, refused while it arrives.

    Raises `PayloadTooLarge`, or `InvalidRequest` where it is no JSON.
    """
    declared = request.headers.get("content-length", "0")
    if not declared.isdecimal() or int(declared) > max_bytes:
        raise PayloadTooLarge(f"the body is larger than {max_bytes:,} bytes")
    body = bytearray()
    async for part in request.stream():
        body += part
        if len(body) > max_bytes:
            raise PayloadTooLarge(f"the body is larger than {max_bytes:,} bytes")
    try:
        return json.loads(body)
    except (ValueError, RecursionError) as error:
        raise InvalidRequest(f"the body is not JSON: {error}") from None


async def until_disconnect(receive: Receive, work: Awaitable[T]) -> T:
    """Await `work`, but cancel it and raise `ClientLeft` as soon as the client closes the connection.

    The request's body must have been read.
    """
    task = asyncio.ensure_future(work)
    watcher = asyncio.create_task(_disconnected(receive))
    try:
        await asyncio.wait((task, watcher), return_when=asyncio.FIRST_COMPLETED)
        if not task.done():
            raise ClientLeft
        return task.result()
    finally:
        for pending in (task, watcher):
            if not pending.done():
                pending.cancel()
        await asyncio.gather(task, watcher, return_exceptions=True)


async def _disconnected(receive: Receive) -> None:
    while (await receive())["type"] != "http.disconnect":
        pass


class StreamedResponse(Response):
    """Sends `chunks` as they come and closes their generator at once when the client leaves, even between chunks.

    If the generator raises a `YapitError`, the response breaks off without its terminating chunk, so that the client
    sees that it is not whole.
    """

    def __init__(
        self, chunks: AsyncGenerator[bytes, None], *, media_type: str, headers: Mapping[str, str] | None = None
    ) -> None:
        self._chunks = chunks
        self.status_code = 200
        self.media_type = media_type
        self.background = None
        self.body = b""
        self.init_headers(headers)
        del self.headers["content-length"]

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        try:
            with suppress(ClientLeft, OSError):
                await until_disconnect(receive, self._send(send))
        except YapitError as error:
            logger.warning("%s: broken off after headers: %s: %s", scope["path"], error.code, error)

    async def _send(self, send: Send) -> None:
        await send({"type": "http.response.start", "status": self.status_code, "headers": self.raw_headers})
        async with aclosing(self._chunks) as chunks:
            async for chunk in chunks:
                await send({"type": "http.response.body", "body": chunk, "more_body": True})
        await send({"type": "http.response.body", "body": b"", "more_body": False})


def event_stream_data(data: str | Mapping[str, Any], *, event: str | None = None) -> bytes:
    """One server-sent event with `data`: JSON text, or what is to become it."""
    text = data if isinstance(data, str) else json.dumps(data, ensure_ascii=False, separators=(",", ":"))
    name = f"event: {event}\n" if event else ""
    return f"{name}data: {text}\n\n".encode()


async def prepend(first: T, rest: AsyncIterator[T]) -> AsyncGenerator[T, None]:
    """`first`, then the rest; closing it closes `rest`."""
    async with aclosing(rest) as remaining:  # type: ignore[type-var]
        yield first
        async for item in remaining:
            yield item
