"""Load-balancing endpoints over real sockets, with workers in the emulator's process and in processes of their own."""

from __future__ import annotations

import json
import os
import signal
from collections.abc import AsyncIterator

import httpx
import pytest

from emulator.runpod.process import ServerProcessWorker
from tests import gated
from tests.conftest import API_KEY, Stack
from tests.integration.test_leaving import eventually

SSE = {"Authorization": f"Bearer {API_KEY}", "Accept": "text/event-stream"}
JOB = {"text": "Hello there. How are you?", "voice": "sine"}


@pytest.fixture(params=["in-process", "process"])
def stack(request: pytest.FixtureRequest) -> Stack:
    name = {"in-process": "tone_stack", "process": "process_stack"}[request.param]
    stack: Stack = request.getfixturevalue(name)
    return stack


@pytest.fixture
async def client(stack: Stack) -> AsyncIterator[httpx.AsyncClient]:
    async with httpx.AsyncClient(base_url=stack.emulator_url, headers=SSE, timeout=30) as client:
        yield client


def events(text: str) -> list[dict[str, object]]:
    return [json.loads(block.removeprefix("data: ")) for block in text.split("\n\n") if block]


async def test_it_answers_what_the_plain_worker_does(client: httpx.AsyncClient) -> None:
    balanced = await client.post("/lb/tone-lb/synthesize", json=JOB)
    plain = await client.post("/workers/tone/synthesize", json=JOB)
    assert balanced.headers["content-type"] == plain.headers["content-type"]
    audio = [event["audio"] for event in events(balanced.text)[:-1]]
    assert audio == [event["audio"] for event in events(plain.text)[:-1]]
    assert (len(audio) > 0, events(balanced.text)[-1]["type"]) == (True, "done")


async def test_the_workers_errors_pass_through(client: httpx.AsyncClient) -> None:
    answer = await client.post("/lb/tone-lb/synthesize", json={**JOB, "speed": 9})
    assert (answer.status_code, answer.json()["code"]) == (400, "invalid_request")
    assert (await client.get("/lb/tone-lb/nowhere")).status_code == 404


async def test_its_ping_is_reached_too(client: httpx.AsyncClient) -> None:
    answer = await client.get("/lb/tone-lb/ping", headers={"Host": "tone-lb.api.runpod.localhost"})
    assert (answer.status_code, answer.content) == (200, b"")


async def held(client: httpx.AsyncClient) -> tuple[httpx.Response, AsyncIterator[str]]:
    """A job that waits half way for `gated.release`, with its first half read; and what follows."""
    request = client.build_request("POST", "/lb/gated-lb/synthesize", json={"text": "speaks", "voice": "any"})
    response = await client.send(request, stream=True)
    assert response.status_code == 200
    parts = response.aiter_text()
    assert events(await anext(parts))[0]["type"] == "audio"
    return response, parts


async def test_leaving_stops_the_work(stack: Stack, client: httpx.AsyncClient) -> None:
    pool = stack.emulator.endpoints["gated-lb"].pool
    response, _ = await held(client)
    assert pool.running == 1
    await response.aclose()
    await eventually(lambda: pool.running == 0)
    if stack.emulator.endpoints.workers == "in-process":
        await eventually(lambda: gated.open_streams == 0)


async def test_a_killed_worker_process_breaks_the_answer_off_and_the_next_request_gets_another(
    process_stack: Stack,
) -> None:
    async with httpx.AsyncClient(base_url=process_stack.emulator_url, headers=SSE, timeout=30) as client:
        response, parts = await held(client)
        worker_id = response.headers["x-runpod-worker-id"]
        pool = process_stack.emulator.endpoints["gated-lb"].pool
        worker = pool.worker(worker_id)
        assert isinstance(worker, ServerProcessWorker)
        assert worker.pid is not None
        os.killpg(worker.pid, signal.SIGKILL)
        with pytest.raises(httpx.RemoteProtocolError):
            await anext(parts)
        await eventually(lambda: pool.worker(worker_id) is None)
        again, _ = await held(client)
        assert again.headers["x-runpod-worker-id"] != worker_id
        await again.aclose()


async def spoken(stack: Stack, model: str) -> bytes:
    body = {"model": model, "voice": "sine", "input": JOB["text"], "response_format": "wav"}
    async with httpx.AsyncClient(timeout=30) as client:
        response = await client.post(f"{stack.url}/v1/audio/speech", json=body)
    assert response.status_code == 200, response.text
    return response.content


async def test_through_the_gateway_it_sounds_as_everywhere_else(stack: Stack) -> None:
    audio = await spoken(stack, "tone")
    assert len(audio) > 10_000
    assert await spoken(stack, "tone-runpod-lb") == audio
    assert await spoken(stack, "tone-runpod") == audio


async def test_a_client_of_the_gateway_that_hangs_up_stops_the_worker(stack: Stack) -> None:
    pool = stack.emulator.endpoints["gated-lb"].pool
    body = {"model": "gated-runpod-lb", "voice": "any", "input": "speaks", "response_format": "pcm"}
    async with (
        httpx.AsyncClient(timeout=30) as client,
        client.stream("POST", f"{stack.url}/v1/audio/speech", json=body) as response,
    ):
        assert await anext(response.aiter_raw()) == gated.FIRST
        assert pool.running == 1
    await eventually(lambda: pool.running == 0)
