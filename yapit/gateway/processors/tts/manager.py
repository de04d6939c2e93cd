"""The processors of all routes, made from `tts_processors.json` by dotted class path."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import AsyncGenerator, Iterable, Mapping
from contextlib import aclosing
from dataclasses import dataclass, field

from yapit.contracts import AudioEvent, DoneEvent, SynthesisJob
from yapit.errors import ConfigurationError, NotConfigured, UnknownModel, YapitError
from yapit.gateway.processors.tts.base import BaseTTSProcessor, Context
from yapit.gateway.processors.tts.unconfigured import UnconfiguredProcessor
from yapit.gateway.routes import Route, import_class

logger = logging.getLogger(__name__)

READY_TIMEOUT_S = 5.0
"""A provider that takes longer to answer whether it is there is not."""


@dataclass(eq=False)
class _Table:
    """The routes of one version of the file. A job ends on the table that it began on."""

    routes: Mapping[str, Route] = field(default_factory=dict)
    processors: Mapping[str, BaseTTSProcessor] = field(default_factory=dict)
    jobs: int = 0
    idle: asyncio.Event = field(default_factory=asyncio.Event)

    def processor(self, slug: str) -> BaseTTSProcessor:
        try:
            return self.processors[slug]
        except KeyError:
            raise UnknownModel(f"no processor serves {slug!r}; there is {', '.join(self.processors)}") from None

    def candidates(self, slug: str) -> list[BaseTTSProcessor]:
        """The slug's processor, then its fallbacks. Raises `UnknownModel`."""
        return [self.processor(slug), *(self.processor(other) for other in self.routes[slug].fallback)]


class ProcessorManager:
    def __init__(self, routes: Iterable[Route], context: Context) -> None:
        self._context, self._table = context, _Table()
        self._closing: asyncio.Task[None] | None = None
        self.replace(routes)

    def replace(self, routes: Iterable[Route]) -> None:
        """Serve these from now on. A route that stays as it was keeps its processor, with its jobs and connections;
        what is no longer used is closed when its last job is over.

        Raises `ConfigurationError`, and changes nothing, where one cannot be made.
        """
        before, by_slug = self._table, {route.slug: route for route in routes}
        made = {
            slug: before.processors[slug] if before.routes.get(slug) == route else _create(route, self._context)
            for slug, route in by_slug.items()
        }
        self._table = _Table(by_slug, made)
        unused = [processor for processor in before.processors.values() if processor not in made.values()]
        if before.processors:
            self._closing = asyncio.create_task(_close_when_idle(before, unused, after=self._closing))

    def processor(self, slug: str) -> BaseTTSProcessor:
        """Raises `UnknownModel`."""
        return self._table.processor(slug)

    async def stream(self, job: SynthesisJob) -> AsyncGenerator[AudioEvent | DoneEvent, None]:
        """The job through its model's processor, or, while no audio has left, through the first fallback that works.

        Raises the first processor's error where all fail.
        """
        table = self._table
        table.jobs += 1
        try:
            async with aclosing(_first_that_works(table, job)) as events:
                async for event in events:
                    yield event
        finally:
            table.jobs -= 1
            if not table.jobs:
                table.idle.set()

    async def ready(self) -> dict[str, bool]:
        """Which routes' providers answer, by slug; without those in `unconfigured`."""
        processors = {
            slug: processor
            for slug, processor in self._table.processors.items()
            if not isinstance(processor, UnconfiguredProcessor)
        }
        answers = await asyncio.gather(*(_answers(processor) for processor in processors.values()))
        return dict(zip(processors, answers, strict=True))

    def unconfigured(self) -> dict[str, str]:
        """By slug, what the routes lack whose provider has no account here."""
        processors = self._table.processors
        return {slug: p.error.message for slug, p in processors.items() if isinstance(p, UnconfiguredProcessor)}

    async def close(self) -> None:
        if self._closing:
            await self._closing
        await asyncio.gather(*(processor.close() for processor in self._table.processors.values()))


async def _first_that_works(table: _Table, job: SynthesisJob) -> AsyncGenerator[AudioEvent | DoneEvent, None]:
    first_error: YapitError | None = None
    for processor in table.candidates(job.model):
        has_left = False
        try:
            async with aclosing(processor.stream(job)) as events:
                async for event in events:
                    has_left = True
                    yield event
                return
        except YapitError as error:
            first_error = first_error or error
            if has_left or error.http_status < 429:  # the request itself is wrong: so it would be elsewhere
                raise
    if first_error is not None:
        raise first_error


async def _answers(processor: BaseTTSProcessor) -> bool:
    try:
        async with asyncio.timeout(READY_TIMEOUT_S):
            return await processor.is_ready()
    except TimeoutError:
        return False


async def _close_when_idle(
    table: _Table, unused: Iterable[BaseTTSProcessor], *, after: asyncio.Task[None] | None
) -> None:
    """A table's processors may be in use by jobs that began on an earlier table: those are waited for first."""
    if after:
        await after
    while table.jobs:
        table.idle.clear()
        await table.idle.wait()
    await asyncio.gather(*(processor.close() for processor in unused))


def _create(route: Route, context: Context) -> BaseTTSProcessor:
    cls = import_class(route.processor)
    if not (isinstance(cls, type) and issubclass(cls, BaseTTSProcessor)):
        raise ConfigurationError(f"route {route.slug}: {route.processor} is no BaseTTSProcessor")
    try:
        return cls(route, context)
    except NotConfigured as error:
        logger.warning("%s: its jobs are refused", error)
        return UnconfiguredProcessor(route, context, error)
