"""What the tests' app does, as plain code: the same for every back end that serves it.

Gates are files, so that a test can hold a method that runs in another process.
"""

from __future__ import annotations

import asyncio
import uuid
from collections.abc import AsyncGenerator
from pathlib import Path
from typing import Any

POLL_S = 0.005


class Served:
    """A class without parameters."""

    def __init__(self) -> None:
        self.instance = str(uuid.uuid4())

    async def echo(self, *args: Any, **kwargs: Any) -> dict[str, Any]:
        return {"args": list(args), "kwargs": kwargs}

    async def who(self) -> str:
        return self.instance

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

    async def count(self, items: int) -> AsyncGenerator[int, None]:
        for item in range(items):
            yield item

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


def mark(gate: str, what: str) -> None:
    Path(f"{gate}.{what}").touch()


async def opened(gate: str) -> None:
    while not Path(gate).exists():  # noqa: ASYNC110, ASYNC240 - nothing but the file is shared with the test
        await asyncio.sleep(POLL_S)
