"""What every processor does alike: bounds, deadlines, and holding a worker to the contract."""

from __future__ import annotations

import asyncio
from abc import ABC, abstractmethod
from collections.abc import AsyncGenerator, Awaitable
from contextlib import AsyncExitStack, aclosing
from dataclasses import dataclass
from typing import Any, ClassVar, TypeVar

import httpx
import pydantic

from yapit.contracts import AudioEvent, DoneEvent, ErrorEvent, Event, SynthesisJob
from yapit.errors import (
    ConfigurationError,
    InvalidRequest,
    SynthesisTimeout,
    TruncatedStream,
    UpstreamFailed,
    from_code,
)
from yapit.gateway.routes import Route
from yapit.gateway.settings import Settings
from yapit.places import Places

T = TypeVar("T")

MAX_RETRY_AFTER_S = 3_600.0
"""A provider that asks for longer is taken to have meant this."""
MAX_WAITING_PER_PARALLEL = 4
"""Jobs that may wait for a place, per place; more are answered 429."""

MAX_MISSING_MS = 5.0
"""Between a job's duration and the sum of its pieces', which are rounded. More tells of pieces of two runs of the job,
cut differently: their numbers may still follow each other."""


class Options(pydantic.BaseModel):
    """A processor class's own fields in its `tts_processors.json` entry. Unknown ones are refused."""

    model_config = pydantic.ConfigDict(extra="forbid", frozen=True)


@dataclass(frozen=True, slots=True)
class Context:
    """What processors share: the settings, and the transport that reaches providers (None: the network)."""

    settings: Settings
    transport: httpx.AsyncBaseTransport | None = None


class BaseTTSProcessor(ABC):
    """Forwards synthesis jobs to workers through one provider's API.

    A subclass implements `_events`, `is_ready` and, where it needs fields of its own, `Options`. The only code that
    knows a provider's client API.
    """

    Options: ClassVar[type[Options]] = Options

    def __init__(self, route: Route, context: Context) -> None:
        self.slug = route.slug
        self.settings = context.settings
        self.options = self._parse(route)
        max_waiting = route.max_parallel * MAX_WAITING_PER_PARALLEL
        self.places = Places(route.slug, limit=route.max_parallel, max_waiting=max_waiting)

    async def stream(self, job: SynthesisJob) -> AsyncGenerator[AudioEvent | DoneEvent, None]:
        """The job's audio in order, then its `DoneEvent`. Close it to cancel the job at the provider.

        Raises whatever error the worker sent, `Overloaded`, `SynthesisTimeout` past the job's deadline (what comes
        before the first event is counted only beyond the cold start's budget, time spent by the reader not at all),
        `TruncatedStream` where audio is missing.
        """
        patience, next_seq, heard_ms = _Patience(job), 0, 0.0
        async with AsyncExitStack() as held:
            try:
                await patience.spend_on(held.enter_async_context(self.places.hold()))
            except TimeoutError:
                raise SynthesisTimeout(f"{self.slug} had no place for the job within {job.longest_s:g} s") from None
            events = await held.enter_async_context(aclosing(self._events(job)))
            while True:
                try:
                    event = await patience.next(events)
                except TimeoutError:
                    raise SynthesisTimeout(f"{self.slug} {patience.complaint}") from None
                if event is None:
                    raise TruncatedStream(f"{self.slug} stopped sending after {next_seq} pieces of audio")
                if isinstance(event, ErrorEvent):
                    raise from_code(event.code, event.message, retryable=event.retryable)
                if isinstance(event, AudioEvent):
                    if event.seq != next_seq:
                        raise TruncatedStream(f"{self.slug} sent piece {event.seq} of the audio instead of {next_seq}")
                    next_seq += 1
                    heard_ms += event.duration_ms
                elif abs(heard_ms - event.duration_ms) > MAX_MISSING_MS:
                    raise TruncatedStream(f"{self.slug} sent {heard_ms:.0f} ms of {event.duration_ms:.0f} ms of audio")
                yield event
                if isinstance(event, DoneEvent):
                    return

    @abstractmethod
    def _events(self, job: SynthesisJob) -> AsyncGenerator[Event, None]:
        """The events as the worker sent them. Closing it must stop the work at the provider."""

    @abstractmethod
    async def is_ready(self) -> bool:
        """Whether the provider answers for this endpoint; never raises for a provider that is down."""

    async def close(self) -> None:  # noqa: B027 - optional
        """Release connections, after the jobs that are being cancelled."""

    @classmethod
    def _parse(cls, route: Route) -> Any:
        try:
            return cls.Options.model_validate(route.options)
        except pydantic.ValidationError as error:
            raise ConfigurationError(
                f"route {route.slug} ({cls.__name__}): {InvalidRequest.from_validation(error)}"
            ) from None


class _Patience:
    """How long a job's next event may still take."""

    def __init__(self, job: SynthesisJob) -> None:
        self._job, self._remaining_s = job, job.longest_s
        self._has_begun = False

    async def next(self, events: AsyncGenerator[Event, None]) -> Event | None:
        """Raises `TimeoutError`."""
        event = await self.spend_on(anext(events, None))
        if not self._has_begun:
            self._remaining_s = min(self._remaining_s, self._job.deadline_s)
            self._has_begun = True
        return event

    async def spend_on(self, awaited: Awaitable[T]) -> T:
        """Raises `TimeoutError` once nothing is left."""
        clock = asyncio.get_running_loop().time
        asked_at = clock()
        async with asyncio.timeout(self._remaining_s):
            result = await awaited
        self._remaining_s -= clock() - asked_at
        return result

    @property
    def complaint(self) -> str:
        job = self._job
        if job.cold_start_s and not self._has_begun:
            return f"did not begin to speak within {job.longest_s:g} s ({job.cold_start_s:g} of them for a cold start)"
        return f"did not finish within {job.deadline_s:g} s"


def json_object(response: httpx.Response, *, sender: str) -> dict[str, Any]:
    """The JSON object that a provider answered with. Raises `UpstreamFailed` saying what came instead."""
    try:
        data = response.json()
    except ValueError:
        kind = response.headers.get("content-type", "no content type")
        raise UpstreamFailed(f"{sender} answered {response.status_code} with {kind} instead of JSON") from None
    if not isinstance(data, dict):
        raise UpstreamFailed(f"{sender} answered {response.status_code} with a JSON {type(data).__name__}")
    return data


def retry_after_s(response: httpx.Response) -> float | None:
    """`Retry-After` in seconds, where it is given as a number."""
    value = response.headers.get("retry-after", "")
    return min(float(value[:9]), MAX_RETRY_AFTER_S) if value.isdecimal() else None


def with_providers_queue(event: AudioEvent, waited_ms: float) -> AudioEvent:
    """The first audio, with the time that it took beyond what the worker accounts for added to the queue's."""
    assert event.timings is not None  # noqa: S101 - the caller has looked
    timings = event.timings
    known_ms = timings.queue_ms + timings.cold_start_ms + timings.synthesis_ms + timings.encode_ms
    queue_ms = round(timings.queue_ms + max(0.0, waited_ms - known_ms), 3)
    return event.model_copy(update={"timings": timings.model_copy(update={"queue_ms": queue_ms})})
