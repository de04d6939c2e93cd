"""The client of our own HTTP worker (`handlers.local`), wherever it stands: on a machine of one's own, behind a load
balancer of RunPod's, or at Modal's edge.

One request is one job; its answer is the job's events as server-sent events. Closing the connection cancels the job.
"""

from __future__ import annotations

from collections.abc import AsyncGenerator, AsyncIterator, Callable, Mapping
from contextlib import aclosing

import httpx

from yapit.contracts import AudioEvent, ErrorEvent, Event, SynthesisJob, parse_event
from yapit.errors import (
    Overloaded,
    TruncatedStream,
    UpstreamFailed,
    UpstreamRefused,
    WorkerUnavailable,
    YapitError,
    from_code,
)
from yapit.gateway.processors.tts import base

MAX_EVENT_BYTES = 4 * 1024 * 1024
_DATA = b"data:"

Refusal = Callable[[httpx.Response], YapitError | None]
"""What a provider's edge means by an answer that is not the worker's own. `None`: nothing special, go by its status."""

Follow = Callable[[httpx.Response], httpx.Request | None]
"""The request that fetches the answer, where a provider's edge says that it is to be had elsewhere."""


def _nothing_special(_: httpx.Response) -> YapitError | None:
    return None


def _nowhere(_: httpx.Response) -> httpx.Request | None:
    return None


class HttpWorker:
    """`slug` names the route in messages; `where` says which setting holds the address."""

    def __init__(
        self,
        client: httpx.AsyncClient,
        *,
        slug: str,
        where: str = "worker_url",
        refusal: Refusal = _nothing_special,
    ) -> None:
        self._client, self._slug, self._where, self._refusal = client, slug, where, refusal

    async def events(
        self, url: str, job: SynthesisJob, headers: Mapping[str, str] | None = None, *, follow: Follow = _nowhere
    ) -> AsyncGenerator[Event, None]:
        """The events of `POST {url}/synthesize`.

        Raises the error that the worker sent, `WorkerUnavailable` if nothing answers, `TruncatedStream` if the
        connection breaks, `UpstreamFailed` or `UpstreamRefused` for an answer that is no worker's.
        """
        request = self._client.build_request(
            "POST",
            f"{url}/synthesize",
            json=job.parameters.payload(),
            headers={"Accept": "text/event-stream", "X-Request-ID": job.job_id, **(headers or {})},
        )
        try:
            response = await self._sent(request, follow)
        except httpx.RequestError as error:
            raise WorkerUnavailable(
                f"{self._slug}: no worker answers at its {self._where} ({type(error).__name__})"
            ) from error
        try:
            if response.status_code != 200:
                raise await self._refused(response)
            if "text/event-stream" not in response.headers.get("content-type", ""):
                raise UpstreamFailed(f"{self._slug}: the worker sent no event stream")
            last: Event | None = None
            async with aclosing(_parsed(response)) as events:
                async for event in events:
                    if isinstance(event, AudioEvent):
                        yield event
                    else:
                        last = event  # told when the answer is read to its end: only then is the connection kept
            if last is not None:
                yield last
        except httpx.RequestError as error:
            raise TruncatedStream(f"{self._slug}: the worker's connection broke ({type(error).__name__})") from error
        finally:
            await response.aclose()

    async def _sent(self, request: httpx.Request, follow: Follow) -> httpx.Response:
        response = await self._client.send(request, stream=True)
        try:
            while (further := follow(response)) is not None:
                await response.aclose()
                response = await self._client.send(further, stream=True)
        except BaseException:
            await response.aclose()
            raise
        return response

    async def answers(self, url: str, headers: Mapping[str, str] | None = None) -> bool:
        """Whether `GET {url}/health` is answered 200."""
        try:
            return (await self._client.get(f"{url}/health", headers=headers, timeout=2.0)).status_code == 200
        except httpx.HTTPError:
            return False

    async def _refused(self, response: httpx.Response) -> YapitError:
        await response.aread()
        if special := self._refusal(response):
            return special
        status = response.status_code
        data = base.json_object(response, sender=f"{self._slug}: the worker")
        if data.get("type") == "error":
            event = parse_event(data)
            assert isinstance(event, ErrorEvent)  # noqa: S101 - the discriminator says so
            return from_code(event.code, event.message, retryable=event.retryable)
        if status == 429:
            return Overloaded(f"{self._slug}: the worker is busy", retry_after_s=base.retry_after_s(response))
        if status >= 500:
            return UpstreamFailed(f"{self._slug}: the worker answered {status}")
        return UpstreamRefused(f"{self._slug}: the worker answered {status}; is its {self._where} right?")


async def _parsed(response: httpx.Response) -> AsyncGenerator[Event, None]:
    async for block in _blocks(response.aiter_bytes()):
        for line in block.split(b"\n"):
            if line.startswith(_DATA):
                yield parse_event(line[len(_DATA) :])


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
