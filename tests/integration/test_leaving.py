"""Whoever leaves stops the work: at the worker, and at RunPod."""

import asyncio
import json
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import httpx
import pytest

from emulator.engine.jobs import JobState
from emulator.engine.pool import WorkerPool
from tests import gated
from tests.conftest import TEST_FUNCTIONS, Stack, running_stack

GIVE_UP_S = 10.0
MODELS = ["gated", "gated-runpod", "gated-runpod-lb", "gated-modal"]


@pytest.fixture
def stack(tmp_path: Path) -> Iterator[Stack]:
    with running_stack(TEST_FUNCTIONS, tmp_path) as running:
        yield running


async def eventually(condition: Callable[[], bool]) -> None:
    """Polls what other threads do; fails when it has not come true in `GIVE_UP_S`."""
    give_up_at = time.monotonic() + GIVE_UP_S
    while not condition():
        assert time.monotonic() < give_up_at, "did not come true"
        await asyncio.sleep(0.005)


def in_progress(stack: Stack, endpoint_id: str) -> int:
    answer = httpx.get(f"{stack.emulator_url}/v2/{endpoint_id}/health", headers={"Authorization": "emulator"})
    return answer.json()["jobs"]["inProgress"]


def jobs_held(stack: Stack) -> int:
    local = stack.emulator.runners["gated"].places.running
    runpod = in_progress(stack, "gated") + in_progress(stack, "gated-lb")
    return local + runpod + modal_pool(stack).running


def modal_pool(stack: Stack) -> WorkerPool:
    function = stack.emulator.modal.registry.find("yapit-gated", "TTS.*")
    assert function is not None
    return function.pool


def text_of(word: str) -> str:
    """Long enough to be streamed on every way (`MAX_WHOLE_CHARACTERS`)."""
    return " again".join([word] + [""] * 40)


@pytest.mark.parametrize("model", MODELS)
@pytest.mark.parametrize("when", ["before audio", "after audio"])
async def test_a_client_that_hangs_up_leaves_an_idle_worker(stack: Stack, model: str, when: str) -> None:
    text = text_of("silent" if when == "before audio" else "speaks")
    body = {"model": model, "voice": "any", "input": text, "response_format": "pcm"}
    async with httpx.AsyncClient() as client:
        request = client.build_request("POST", f"{stack.url}/v1/audio/speech", json=body)
        sending = asyncio.create_task(client.send(request, stream=True))
        if when == "after audio":
            response = await sending
            await anext(response.aiter_raw())
        await eventually(lambda: gated.open_streams == 1)
        assert jobs_held(stack) == 1
        if when == "after audio":
            await response.aclose()
        else:
            sending.cancel()
            await asyncio.gather(sending, return_exceptions=True)
    await eventually(lambda: gated.open_streams == 0)
    await eventually(lambda: jobs_held(stack) == 0)
    if model == "gated-runpod":
        statuses = [job.state.name for job in stack.emulator.endpoints["gated"].jobs.jobs()]
        assert statuses == ["CANCELLED"]
    if model == "gated-modal":
        assert modal_pool(stack).finished == {JobState.CANCELLED: 1}


@pytest.mark.parametrize("model", MODELS)
async def test_speech_starts_before_it_is_all_made(stack: Stack, model: str) -> None:
    """The first half arrives while the adapter still waits for leave to make the second."""
    body = {"model": model, "voice": "any", "input": text_of("speaks"), "response_format": "pcm"}
    async with (
        httpx.AsyncClient() as client,
        client.stream("POST", f"{stack.url}/v1/audio/speech", json=body) as response,
    ):
        parts = response.aiter_raw()
        assert await anext(parts) == gated.FIRST
        assert gated.open_streams == 1
        gated.release()
        assert b"".join([part async for part in parts]) == gated.SECOND


@pytest.mark.parametrize("stream_format", ["audio", "sse"])
@pytest.mark.parametrize("model", MODELS)
async def test_a_failure_after_audio_breaks_the_stream_visibly(stack: Stack, model: str, stream_format: str) -> None:
    body = {"model": model, "voice": "any", "input": text_of("fails"), "response_format": "pcm"}
    body["stream_format"] = stream_format
    received = bytearray()

    async def listen() -> None:
        async with (
            httpx.AsyncClient() as client,
            client.stream("POST", f"{stack.url}/v1/audio/speech", json=body) as response,
        ):
            assert response.status_code == 200
            async for part in response.aiter_raw():
                received.extend(part)

    with pytest.raises(httpx.RemoteProtocolError):
        await listen()
    if stream_format == "sse":
        last = received.decode().rstrip().split("\n")
        assert last[-2] == "event: speech.audio.error"
        assert json.loads(last[-1].removeprefix("data: "))["error"]["code"] == "adapter_failed"
    else:
        assert received == gated.FIRST
