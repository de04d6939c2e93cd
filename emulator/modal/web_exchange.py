"""A request to a web method, on its way to a container: the ASGI scope, and the body as it comes."""

from __future__ import annotations

import asyncio
from collections.abc import MutableMapping
from typing import Any

from starlette.types import Message, Receive

MAX_BODY_BYTES = 64 * 1024 * 1024
"""Modal takes 4 GiB; here the body is kept, so that another container can begin again if one dies."""


class BodyTooLarge(Exception):
    """Over `MAX_BODY_BYTES`."""


class WebExchange:
    """Each attempt reads the body from its beginning."""

    def __init__(self, scope: MutableMapping[str, Any]) -> None:
        self.scope = scope
        self._messages: list[Message] = []
        self._size_bytes = 0
        self._has_more = asyncio.Event()

    def put(self, message: Message) -> None:
        """What the client sent. Raises `BodyTooLarge`."""
        self._size_bytes += len(message.get("body", b""))
        if self._size_bytes > MAX_BODY_BYTES:
            raise BodyTooLarge(f"the body has over {MAX_BODY_BYTES:,} bytes, more than the emulator keeps")
        self._messages.append(message)
        has_more, self._has_more = self._has_more, asyncio.Event()
        has_more.set()

    def reader(self) -> Receive:
        """An ASGI `receive`, from the first message on."""
        position = 0

        async def receive() -> Message:
            nonlocal position
            while position >= len(self._messages):
                await self._has_more.wait()
            position += 1
            return self._messages[position - 1]

        return receive
