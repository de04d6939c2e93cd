"""Fallbacks: tried while no audio has left, and only where another provider could do better."""

from __future__ import annotations

from collections.abc import AsyncGenerator

import pytest

from tests.unit.gateway.test_processors import DONE, audio, job
from yapit.contracts import AudioEvent, Event, SynthesisJob, parse_event
from yapit.errors import NothingToSay, UnknownModel, WorkerUnavailable
from yapit.gateway.processors.tts.base import BaseTTSProcessor, Context
from yapit.gateway.processors.tts.manager import ProcessorManager
from yapit.gateway.routes import Route
from yapit.gateway.settings import Settings


class Scripted(BaseTTSProcessor):
    """Sends what its slug's script says; an exception in it is raised."""

    scripts: dict[str, list[object]]

    async def _events(self, job: SynthesisJob) -> AsyncGenerator[Event, None]:
        for step in self.scripts[self.slug]:
            if isinstance(step, Exception):
                raise step
            yield parse_event(step)

    async def is_ready(self) -> bool:
        return self.slug != "b"


def manager(**scripts: list[object]) -> ProcessorManager:
    Scripted.scripts = scripts
    path = f"{__name__}.Scripted"
    slugs = list(scripts)
    routes = [Route(slug=slug, processor=path, fallback=slugs[1:] if slug == slugs[0] else []) for slug in slugs]
    return ProcessorManager(routes, Context(Settings(_env_file=None)))


async def heard(manager: ProcessorManager) -> list[bytes]:
    events = [event async for event in manager.stream(SynthesisJob("1", "a", job().parameters, 5.0))]
    return [event.decoded() for event in events if isinstance(event, AudioEvent)]


DOWN = WorkerUnavailable("a is down")
ALSO_DOWN = WorkerUnavailable("b is down")


async def test_the_first_that_works_speaks() -> None:
    assert await heard(manager(a=[DOWN], b=[ALSO_DOWN], c=[audio(0), DONE])) == [b"\0\0"]


async def test_where_all_fail_the_first_error_is_told() -> None:
    with pytest.raises(WorkerUnavailable, match="a is down"):
        await heard(manager(a=[DOWN], b=[ALSO_DOWN]))


async def test_after_audio_has_left_there_is_no_fallback() -> None:
    with pytest.raises(WorkerUnavailable, match="a is down"):
        await heard(manager(a=[audio(0), DOWN], b=[audio(0), DONE]))


async def test_what_is_the_requests_fault_is_not_tried_elsewhere() -> None:
    with pytest.raises(NothingToSay):
        await heard(manager(a=[NothingToSay("nothing")], b=[audio(0), DONE]))


async def test_readiness_is_told_by_slug() -> None:
    assert await manager(a=[], b=[]).ready() == {"a": True, "b": False}


def test_an_unknown_slug_is_refused() -> None:
    with pytest.raises(UnknownModel, match="no processor serves 'x'; there is a"):
        manager(a=[]).processor("x")
