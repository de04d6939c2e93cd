"""A function as Modal runs it, without Modal: `modal_app` wraps this into the class that is deployed.

Payloads are plain dicts, lists and strings, so that CBOR carries them. What goes wrong in a job is its last event,
because CBOR would lose the type of an exception.
"""

from __future__ import annotations

from collections.abc import AsyncGenerator
from contextlib import aclosing
from typing import Any

from starlette.applications import Starlette

from yapit.contracts import event_dict
from yapit.workers.handlers import local
from yapit.workers.loading import load_runner
from yapit.workers.runner import Runner


class ModalWorker:
    """One container: one adapter, its jobs as calls, as streams, and over HTTP. Takes `"package.module.Class"`."""

    def __init__(self, adapter: str | Runner) -> None:
        self._runner = load_runner(adapter) if isinstance(adapter, str) else adapter

    async def load(self) -> None:
        """Before a snapshot of memory: weights to host memory. Raises `WorkerUnavailable` or `ConfigurationError`."""
        await self._runner.load()

    async def start(self) -> None:
        """After it: weights to the GPU, or all of it where `load` was not called. Raises as `load` does."""
        await self._runner.start()

    async def stop(self) -> None:
        await self._runner.close()

    async def synthesize(self, job_input: object) -> list[dict[str, Any]]:
        """All events of one job."""
        async with aclosing(self._events(job_input)) as events:
            return [event async for event in events]

    async def stream(self, job_input: object, call_id: str) -> AsyncGenerator[dict[str, Any], None]:
        """The events of one job as they come, after `{"type": "call", "call_id": …}`.

        The SDK tells the caller of a generator no call id (modal 1.6.4), and without it the call cannot be cancelled.
        """
        yield {"type": "call", "call_id": call_id}
        async with aclosing(self._events(job_input)) as events:
            async for event in events:
                yield event

    def web(self) -> Starlette:
        """The HTTP worker of `handlers.local`, over the same adapter."""
        return local.create_app(self._runner)

    async def _events(self, job_input: object) -> AsyncGenerator[dict[str, Any], None]:
        async with aclosing(self._runner.run(job_input)) as events:
            async for event in events:
                yield event_dict(event)
