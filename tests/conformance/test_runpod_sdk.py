"""The vendor's own client, unmodified, against the emulator on a real socket.

Behind it are handlers in the emulator's process, or the vendor's own worker loop in processes.
"""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from typing import Any

import pytest

from tests.adapters import tone
from tests.conftest import API_KEY, Stack
from tests.unit.workers.test_runner import pcm_of
from yapit.contracts import parse_event

pytestmark = pytest.mark.filterwarnings("ignore::DeprecationWarning", "ignore::ResourceWarning")
JOB = {"text": "Hello there. How are you?", "voice": "sine"}
PCM = tone("Hello there.") + tone("How are you?")


@pytest.fixture(params=["tone_stack", "process_stack"], ids=["in-process", "process"])
def stack(request: pytest.FixtureRequest) -> Stack:
    return request.getfixturevalue(request.param)


@pytest.fixture
def runpod(stack: Stack) -> Iterator[Any]:
    import runpod

    runpod.api_key, runpod.endpoint_url_base = API_KEY, f"{stack.emulator_url}/v2"
    yield runpod
    runpod.api_key = None


def heard(output: Any) -> bytes:
    return pcm_of([parse_event(event) for event in output])


def test_run_sync(runpod: Any) -> None:
    assert heard(runpod.Endpoint("tone").run_sync(JOB)) == PCM


def test_run_then_output(runpod: Any) -> None:
    job = runpod.Endpoint("tone").run(JOB)
    assert heard(job.output(timeout=10)) == PCM
    assert job.status() == "COMPLETED"


def test_run_then_stream(runpod: Any) -> None:
    assert heard(list(runpod.Endpoint("tone").run(JOB).stream())) == PCM


def test_cancel_and_health(runpod: Any) -> None:
    endpoint = runpod.Endpoint("gated")
    job = endpoint.run({"text": "silent", "voice": "any"})
    assert job.cancel(timeout=30)["status"] == "CANCELLED"
    assert job.status() == "CANCELLED"
    counters = endpoint.health(timeout=30)["jobs"]
    while counters["inProgress"]:  # of tests whose clients have left a moment ago; the test's timeout is the limit
        counters = endpoint.health(timeout=30)["jobs"]
    assert counters["inQueue"] == 0


def test_purge_queue(runpod: Any) -> None:
    assert runpod.Endpoint("gated").purge_queue()["status"] == "completed"


def test_a_wrong_key_is_the_sdks_own_error(runpod: Any) -> None:
    runpod.api_key = "wrong"
    with pytest.raises(RuntimeError, match="401"):
        runpod.Endpoint("tone").run(JOB)


async def test_asyncio_client(runpod: Any) -> None:
    import aiohttp
    from runpod import AsyncioEndpoint

    async with aiohttp.ClientSession() as session:
        endpoint = AsyncioEndpoint("tone", session)
        job = await endpoint.run(JOB)
        assert heard(await job.output(timeout=10)) == PCM
        assert await job.status() == "COMPLETED"
        streamed = await endpoint.run(JOB)
        assert heard([chunk async for chunk in streamed.stream()]) == PCM
        assert (await endpoint.health())["jobs"]["completed"] >= 2
    await asyncio.sleep(0)  # lets aiohttp's transports close
