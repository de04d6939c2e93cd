"""What the tests' app does, as plain code: the same for every back end that serves it.

Gates are files, so that a test can hold a method that runs in another process.
"""

from __future__ import annotations

import asyncio
import time
import uuid
from collections.abc import AsyncGenerator, AsyncIterator
from pathlib import Path
from typing import Any

from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import JSONResponse, Response, StreamingResponse
from starlette.routing import Route

APP = "conformance"
POLL_S, MAX_WAIT_S = 0.005, 30.0


class Served:
    """The class `Served`, and with a `voice` the class `Voiced`."""

    def __init__(self, voice: str = "") -> None:
        self.instance, self.voice = str(uuid.uuid4()), voice
        self.notes: list[str] = []

    async def echo(self, *args: Any, **kwargs: Any) -> dict[str, Any]:
        return {"args": list(args), "kwargs": kwargs}

    async def who(self) -> dict[str, str]:
        return {"instance": self.instance, "voice": self.voice}

    async def fail(self, message: str) -> None:
        raise ValueError(message, 42)

    async def hold(self, gate: str) -> str:
        """Says in files that it started, and that it was cancelled; goes on when the gate's file is there."""
        mark(gate, "started")
        try:
            await opened(gate)
        except asyncio.CancelledError:
            mark(gate, "cancelled")
            raise
        return "held"

    def hold_blocking(self, gate: str) -> str:
        mark(gate, "started")
        while not Path(gate).exists():
            time.sleep(POLL_S)
        return "held"

    async def answer_of(self, size: int) -> bytes:
        return b"\1" * size

    async def size_of(self, data: bytes) -> int:
        return len(data)

    async def try_again(self, tries: str, failures: int, retry_count: int) -> int:
        """Fails so many times; each try leaves its retry count in a file."""
        if note(tries, retry_count) <= failures:
            raise ValueError(f"try {retry_count} failed")
        return retry_count

    async def note_leave(self, note: str) -> None:
        """`leave` is to say so there."""
        self.notes.append(note)

    def leave(self) -> None:
        for note in self.notes:
            mark(note, "left")

    async def count(self, items: int) -> AsyncGenerator[int, None]:
        for item in range(items):
            yield item

    async def chunks_of(self, size: int, items: int) -> AsyncGenerator[bytes, None]:
        for item in range(items):
            yield bytes([item]) * size

    async def gated(self, gate: str, call_id: str) -> AsyncGenerator[Any, None]:
        """The call's id, then what comes when the gate opens."""
        try:
            yield call_id
            await opened(gate)
            yield "opened"
        finally:
            mark(gate, "closed")

    async def fail_after(self, items: int) -> AsyncGenerator[int, None]:
        for item in range(items):
            yield item
        raise ValueError("broke off")

    def web(self) -> Starlette:
        async def echo(request: Request) -> Response:
            return JSONResponse({"path": request.url.path, "body": (await request.body()).decode(), "who": self.voice})

        async def held(request: Request) -> Response:
            await self.hold(request.query_params["gate"])
            return JSONResponse({"held": True})

        async def streamed(request: Request) -> Response:
            return StreamingResponse(gated_lines(request.query_params["gate"]), media_type="text/event-stream")

        async def broken(_: Request) -> Response:
            raise ValueError("web broke")

        return Starlette(
            routes=[
                Route("/echo", echo, methods=["GET", "POST"]),
                Route("/held", held, methods=["GET", "POST"]),
                Route("/streamed", streamed),
                Route("/broken", broken),
            ]
        )


async def gated_lines(gate: str) -> AsyncIterator[bytes]:
    try:
        yield b"first\n"
        await opened(gate)
        yield b"last\n"
    finally:
        mark(gate, "closed")


def note(tries: str, retry_count: int) -> int:
    """How many tries there were, this one included."""
    with Path(tries).open("a") as file:
        file.write(f"{retry_count}\n")
    count = len(Path(tries).read_text().split())
    mark(tries, str(count))
    return count


def is_there(file: str) -> bool:
    return Path(file).exists()


def mark(gate: str, what: str) -> None:
    Path(f"{gate}.{what}").touch()


def unmark(gate: str, what: str) -> None:
    Path(f"{gate}.{what}").unlink()


async def opened(gate: str) -> None:
    while not Path(gate).exists():  # noqa: ASYNC110, ASYNC240 - nothing but the file is shared with the test
        await asyncio.sleep(POLL_S)


async def appeared(file: str) -> None:
    """For tests: wait until a method has left that mark."""
    async with asyncio.timeout(MAX_WAIT_S):
        await opened(file)
