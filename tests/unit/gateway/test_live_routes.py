"""A changed routes file is served from the next request on; jobs that run end where they began."""

from __future__ import annotations

import asyncio
import json
import logging
from collections.abc import AsyncGenerator
from pathlib import Path

import httpx
import pytest

from tests.conftest import TEST_FUNCTIONS
from tests.unit.gateway.test_processors import DONE, audio, job
from tests.waiting import until
from yapit.contracts import Event, SynthesisJob, parse_event
from yapit.errors import ConfigurationError, UnknownModel
from yapit.gateway.app import create_app
from yapit.gateway.processors.tts.base import BaseTTSProcessor, Context
from yapit.gateway.processors.tts.manager import ProcessorManager
from yapit.gateway.routes import Route
from yapit.gateway.settings import Settings

PATH = f"{__name__}.Slow"


class Slow(BaseTTSProcessor):
    """One piece of audio, then it waits for the test."""

    made: list[Slow]

    def __init__(self, route: Route, context: Context) -> None:
        super().__init__(route, context)
        self.go_on, self.is_closed = asyncio.Event(), False
        self.made.append(self)

    async def _events(self, job: SynthesisJob) -> AsyncGenerator[Event, None]:
        yield parse_event(audio(0))
        await self.go_on.wait()
        yield parse_event(DONE)

    async def is_ready(self) -> bool:
        return True

    async def close(self) -> None:
        self.is_closed = True


@pytest.fixture(autouse=True)
def made() -> list[Slow]:
    Slow.made = []
    return Slow.made


def routes(*slugs: str, **changes: object) -> list[Route]:
    return [Route(slug=slug, processor=PATH, **changes) for slug in slugs]


def a_job(slug: str) -> SynthesisJob:
    return SynthesisJob("1", slug, job().parameters, 5.0)


async def test_a_job_ends_on_the_processor_it_began_on_which_is_then_closed(made: list[Slow]) -> None:
    manager = ProcessorManager(routes("a"), Context(Settings(_env_file=None)))
    events = manager.stream(a_job("a"))
    await anext(events)
    manager.replace(routes("a", max_parallel=5))
    old, new = made
    assert manager.processor("a") is new
    await asyncio.sleep(0)
    assert not old.is_closed
    old.go_on.set()
    assert [event.type async for event in events] == ["done"]
    await until(lambda: old.is_closed)
    assert not new.is_closed
    await manager.close()
    assert new.is_closed


async def test_a_route_that_stays_keeps_its_processor(made: list[Slow]) -> None:
    manager = ProcessorManager(routes("a", "b"), Context(Settings(_env_file=None)))
    manager.replace(routes("a", "c"))
    manager.replace(routes("a"))
    assert len(made) == 3
    a, b, c = made
    assert manager.processor("a") is a
    await until(lambda: b.is_closed and c.is_closed)
    assert not a.is_closed
    await manager.close()


async def test_a_processor_is_not_closed_under_a_job_of_an_earlier_version(made: list[Slow]) -> None:
    manager = ProcessorManager(routes("a", "b"), Context(Settings(_env_file=None)))
    events = manager.stream(a_job("a"))
    await anext(events)
    manager.replace(routes("a"))
    manager.replace(routes("b"))
    a, b, _ = made
    assert not a.is_closed
    a.go_on.set()
    assert [event.type async for event in events] == ["done"]
    await until(lambda: a.is_closed and b.is_closed)
    await manager.close()


async def test_one_that_cannot_be_made_changes_nothing(made: list[Slow]) -> None:
    manager = ProcessorManager(routes("a"), Context(Settings(_env_file=None)))
    with pytest.raises(ConfigurationError):
        manager.replace([*routes("b"), Route(slug="c", processor="pathlib.Path")])
    assert manager.processor("a") is made[0]
    with pytest.raises(UnknownModel):
        manager.processor("b")
    await manager.close()


async def test_the_gateway_reads_a_changed_file_at_the_next_request(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    path = tmp_path / "routes.json"
    entry = {"processor": PATH, "function": "tone"}

    def write(content: object) -> None:
        (tmp_path / "new").write_text(json.dumps(content))
        (tmp_path / "new").replace(path)

    write([{"slug": "one", **entry}])
    settings = Settings(_env_file=None, tts_processors_file=path, functions_dir=TEST_FUNCTIONS)
    transport = httpx.ASGITransport(create_app(settings))
    async with httpx.AsyncClient(transport=transport, base_url="http://gateway") as client:

        async def models() -> list[str]:
            return [model["id"] for model in (await client.get("/v1/models")).json()["data"]]

        assert await models() == ["one"]
        write([{"slug": "one", **entry}, {"slug": "two", **entry}])
        assert await models() == ["one", "two"]
        assert (await client.get("/readyz")).json()["models"] == {"one": True, "two": True}
        with caplog.at_level(logging.ERROR):
            write([{"slug": "three", **entry, "processor": "no.where"}])
            assert await models() == ["one", "two"]
            assert await models() == ["one", "two"]
            path.unlink()
            assert await models() == ["one", "two"]
        assert len(caplog.messages) == 2  # each problem once
        assert "no.where" in caplog.messages[0]
        write([{"slug": "four", **entry}])
        assert await models() == ["four"]
