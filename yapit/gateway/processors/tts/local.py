"""Workers reached over HTTP: `handlers.local` on a machine of one's own, in a container, or in the emulator."""

from __future__ import annotations

from collections.abc import AsyncGenerator
from typing import Annotated

import httpx
import pydantic

from yapit.contracts import Event, SynthesisJob
from yapit.gateway.processors.tts import base
from yapit.gateway.processors.tts.connections import PooledTransport
from yapit.gateway.processors.tts.http_worker import HttpWorker
from yapit.gateway.routes import Route


class LocalOptions(base.Options):
    worker_url: Annotated[str, pydantic.Field(pattern=r"^https?://[^\s]+$")]


class LocalProcessor(base.BaseTTSProcessor):
    """Asks one worker for server-sent events. Closing the connection is how a job is cancelled."""

    Options = LocalOptions

    def __init__(self, route: Route, context: base.Context) -> None:
        super().__init__(route, context)
        self._url = self.options.worker_url.rstrip("/")
        self._client = httpx.AsyncClient(
            transport=context.transport or PooledTransport(route.max_parallel),
            timeout=httpx.Timeout(None, connect=5.0),  # the job's deadline bounds the rest
        )
        self._worker = HttpWorker(self._client, slug=self.slug)

    def _events(self, job: SynthesisJob) -> AsyncGenerator[Event, None]:
        return self._worker.events(self._url, job)

    async def is_ready(self) -> bool:
        return await self._worker.answers(self._url)

    async def close(self) -> None:
        await self._client.aclose()
