"""One HTTP request on its way through a load balancer to a worker, and the answer on its way back."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator

from starlette.types import Message, Scope, Send

from emulator.engine.jobs import Attempt
from emulator.runpod import facts

WAITING_PARTS = 16
"""Parts of a request's body, each at most what a server reads at a time, that wait for the worker to take them."""


class AnswerTooLarge(Exception):
    """The worker's answer is over RunPod's limit."""


class ExchangeOver(Exception):
    """Nobody waits for this answer any more."""


class Exchange:
    """`put` takes what the client sends, `receive` and `send` are the worker's side.

    `is_started`: the head of the answer is out. `is_complete`: all of it is. `is_abandoned`: the client left before.
    """

    def __init__(self, scope: Scope, send: Send) -> None:
        self.scope = scope
        self.is_started = self.is_complete = self.is_abandoned = False
        self._send = send
        self._parts: asyncio.Queue[Message] = asyncio.Queue(WAITING_PARTS)
        self._is_read = False
        self._over = asyncio.Event()
        self._sent_bytes = 0

    async def put(self, message: Message) -> None:
        """A part of the request's body; waits while the worker has enough to take."""
        await self._parts.put(message)

    def close(self) -> None:
        """Nothing is sent to the client after this."""
        self._over.set()

    async def receive(self) -> Message:
        if not self._is_read:
            message = await self._parts.get()
            self._is_read = not message.get("more_body", False)
            return message
        await self._over.wait()
        return {"type": "http.disconnect"}

    async def body(self) -> AsyncGenerator[bytes, None]:
        """The request's body as it comes."""
        while not self._is_read:
            yield (await self.receive()).get("body", b"")

    async def send(self, message: Message, attempt: Attempt) -> None:
        """Raises `AnswerTooLarge` and `ExchangeOver`."""
        if self._over.is_set():
            raise ExchangeOver
        if message["type"] == "http.response.start":
            worker = (facts.LB_WORKER_HEADER.encode(), str(attempt.job.worker_id).encode())
            message = {**message, "headers": [*message.get("headers", ()), worker]}
            self.is_started = True
        else:
            self._sent_bytes += len(message.get("body", b""))
            if self._sent_bytes > facts.LB_PAYLOAD_BYTES:
                raise AnswerTooLarge(f"the worker's answer is over {facts.LB_PAYLOAD_BYTES:,} bytes")
            if not attempt.job.has_chunks:
                attempt.add_chunk(None)  # what fault rules wait for
        await self._send(message)
        self.is_complete = message["type"] == "http.response.body" and not message.get("more_body", False)
