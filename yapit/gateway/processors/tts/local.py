"""Workers reached over HTTP: `handlers.local` on a machine of one's own, in a container, or in the emulator."""

from __future__ import annotations

from collections.abc import AsyncGenerator, AsyncIterator
from contextlib import aclosing
from typing import Annotated

import httpx
import pydantic

from yapit.contracts import AudioEvent, ErrorEvent, Event, SynthesisJob, parse_event
from yapit.errors import Overloaded, TruncatedStream, UpstreamFailed, UpstreamRefused, WorkerUnavailable, from_code
from yapit.gateway.processors.tts import base
from yapit.gateway.processors.tts.connections import PooledTransport
from yapit.gateway.routes import Route

MAX_EVENT_BYTES = 4 * 1024 * 1024
_DATA = b"data:"


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

    async def _events(self, job: SynthesisJob) -> AsyncGenerator[Event, None]:
        request = self._client.build_request(
            "POST",
            f"{self._url}/synthesize",
            json=job.parameters.payload(),
            headers={"Accept": "text/event-stream", "X-Request-ID": job.job_id},
        )
        try:
            response = await self._client.send(request, stream=True)
        except httpx.TransportError as error:
            raise WorkerUnavailable(
                f"{self.slug}: no worker answers at its worker_url ({type(error).__name__})"
            ) from error
        try:
            if response.status_code != 200:
                raise await self._refusal(response)
            if "text/event-stream" not in response.headers.get("content-type", ""):
                raise UpstreamFailed(f"{self.slug}: the worker sent no event stream")
            last: Event | None = None
            async with aclosing(self._parsed(response)) as events:
                async for event in events:
                    if isinstance(event, AudioEvent):
                        yield event
                    else:
                        last = event  # told when the answer is read to its end: only then is the connection kept
            if last is not None:
                yield last
        except httpx.TransportError as error:
            raise TruncatedStream(f"{self.slug}: the worker's connection broke ({type(error).__name__})") from error
        finally:
            await response.aclose()

    async def _parsed(self, response: httpx.Response) -> AsyncGenerator[Event, None]:
        async for block in _blocks(response.aiter_bytes()):
            for line in block.split(b"\n"):
                if line.startswith(_DATA):
                    yield parse_event(line[len(_DATA) :])

    async def _refusal(self, response: httpx.Response) -> Exception:
        await response.aread()
        status = response.status_code
        data = base.json_object(response, sender=f"{self.slug}: the worker")
        if data.get("type") == "error":
            event = parse_event(data)
            assert isinstance(event, ErrorEvent)  # noqa: S101 - the discriminator says so
            return from_code(event.code, event.message, retryable=event.retryable)
        if status == 429:
            return Overloaded(f"{self.slug}: the worker is busy", retry_after_s=base.retry_after_s(response))
        if status >= 500:
            return UpstreamFailed(f"{self.slug}: the worker answered {status}")
        return UpstreamRefused(f"{self.slug}: the worker answered {status}; is worker_url right?")

    async def is_ready(self) -> bool:
        try:
            return (await self._client.get(f"{self._url}/health", timeout=2.0)).status_code == 200
        except httpx.HTTPError:
            return False

    async def close(self) -> None:
        await self._client.aclose()


async def _blocks(parts: AsyncIterator[bytes]) -> AsyncIterator[bytes]:
    """Server-sent events as blocks of lines, whatever pieces the network cut them into."""
    waiting = bytearray()
    searched = 0
    async for part in parts:
        waiting += part
        while (end := waiting.find(b"\n\n", searched)) >= 0:
            yield bytes(waiting[:end])
            del waiting[: end + 2]
            searched = 0
        searched = max(0, len(waiting) - 1)
        if len(waiting) > MAX_EVENT_BYTES:
            raise UpstreamFailed(f"the worker sent an event larger than {MAX_EVENT_BYTES:,} bytes")
