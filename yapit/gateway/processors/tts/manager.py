"""The processors of all routes, made from `tts_processors.json` by dotted class path."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, Iterable
from contextlib import aclosing

from yapit.contracts import AudioEvent, DoneEvent, SynthesisJob
from yapit.errors import ConfigurationError, UnknownModel, YapitError
from yapit.gateway.processors.tts.base import BaseTTSProcessor, Context
from yapit.gateway.routes import Route, import_class


class ProcessorManager:
    def __init__(self, routes: Iterable[Route], context: Context) -> None:
        self._routes = {route.slug: route for route in routes}
        self._processors = {slug: _create(route, context) for slug, route in self._routes.items()}

    def processor(self, slug: str) -> BaseTTSProcessor:
        try:
            return self._processors[slug]
        except KeyError:
            raise UnknownModel(f"no processor serves {slug!r}; there is {', '.join(self._processors)}") from None

    async def stream(self, job: SynthesisJob) -> AsyncGenerator[AudioEvent | DoneEvent, None]:
        """The job through its model's processor, or, while no audio has left, through the first fallback that works.

        Raises the first processor's error where all fail.
        """
        first_error: YapitError | None = None
        for slug in (job.model, *self._routes[job.model].fallback):
            has_left = False
            try:
                async with aclosing(self.processor(slug).stream(job)) as events:
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

    async def ready(self) -> dict[str, bool]:
        """Which routes' providers answer, by slug."""
        answers = await asyncio.gather(*(processor.is_ready() for processor in self._processors.values()))
        return dict(zip(self._processors, answers, strict=True))

    async def close(self) -> None:
        await asyncio.gather(*(processor.close() for processor in self._processors.values()))


def _create(route: Route, context: Context) -> BaseTTSProcessor:
    cls = import_class(route.processor)
    if not (isinstance(cls, type) and issubclass(cls, BaseTTSProcessor)):
        raise ConfigurationError(f"route {route.slug}: {route.processor} is no BaseTTSProcessor")
    return cls(route, context)
