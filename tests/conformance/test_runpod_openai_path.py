"""RunPod's OpenAI path, by OpenAI's own SDK: a request reaches a queue worker's handler, whose output is the answer."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator
from typing import Any

import httpx
import openai
import pytest

from tests.conformance.balanced import Call
from tests.conformance.cloud import KEY, Cloud
from tests.conftest import API_KEY, Stack

MESSAGES: Any = [{"role": "user", "content": "Hello?"}]


def completion(content: str, kind: str) -> dict[str, Any]:
    said = {"role": "assistant", "content": content}
    choice = {"index": 0, "finish_reason": "stop", "delta" if kind == "chat.completion.chunk" else "message": said}
    return {"id": "chatcmpl-1", "object": kind, "created": 1, "model": "parrot", "choices": [choice]}


class Parrot:
    """A handler as worker-vllm's: raw server-sent events if asked to stream, else one answer. Keeps its inputs."""

    def __init__(self) -> None:
        self.inputs: list[Any] = []
        self.gate = asyncio.Event()
        self.stopped = 0

    async def __call__(self, job: dict[str, Any]) -> AsyncIterator[Any]:
        self.inputs.append(job["input"])
        body = job["input"].get("openai_input") or {}
        if body.get("model") == "broken":
            yield {"error": "the model is broken"}
            return
        if not body.get("stream"):
            yield completion("Hello!", "chat.completion")
            return
        for word in ("Hello", "!"):
            yield f"data: {json.dumps(completion(word, 'chat.completion.chunk'))}\n\n"
        if body.get("model") == "slow":
            try:
                await self.gate.wait()
            except asyncio.CancelledError:
                self.stopped += 1
                raise
        yield "data: [DONE]\n\n"


@pytest.fixture
def parrot() -> Parrot:
    return Parrot()


@pytest.fixture
async def cloud(parrot: Parrot) -> AsyncIterator[Cloud]:
    async def handler(job: dict[str, Any]) -> AsyncIterator[Any]:
        async for output in parrot(job):
            yield output

    cloud = Cloud(handler=handler)
    yield cloud
    await cloud.close()


@pytest.fixture
def client(cloud: Cloud) -> openai.AsyncOpenAI:
    transport = httpx.AsyncClient(transport=httpx.ASGITransport(cloud.app))
    return openai.AsyncOpenAI(base_url="http://api/v2/ep/openai/v1", api_key=KEY, http_client=transport, max_retries=0)


async def test_an_answer_in_one_piece(client: openai.AsyncOpenAI, parrot: Parrot) -> None:
    answer = await client.chat.completions.create(model="parrot", messages=MESSAGES)
    assert answer.choices[0].message.content == "Hello!"
    assert parrot.inputs == [
        {"openai_route": "/v1/chat/completions", "openai_input": {"model": "parrot", "messages": MESSAGES}}
    ]


async def test_a_stream(client: openai.AsyncOpenAI) -> None:
    stream = await client.chat.completions.create(model="parrot", messages=MESSAGES, stream=True)
    assert [chunk.choices[0].delta.content async for chunk in stream] == ["Hello", "!"]


async def test_a_bare_get_has_only_its_route(cloud: Cloud, parrot: Parrot) -> None:
    assert (await cloud.http.get("/openai/v1/models")).status_code == 200
    assert parrot.inputs == [{"openai_route": "/v1/models"}]


@pytest.mark.parametrize("stream", [False, True])
async def test_a_failed_job_is_an_error_of_the_server(client: openai.AsyncOpenAI, stream: bool) -> None:
    with pytest.raises(openai.InternalServerError, match="the model is broken"):
        await client.chat.completions.create(model="broken", messages=MESSAGES, stream=stream)


async def test_without_a_key_it_is_401(client: openai.AsyncOpenAI) -> None:
    with pytest.raises(openai.AuthenticationError):
        await client.with_options(api_key="wrong").chat.completions.create(model="parrot", messages=MESSAGES)


async def test_a_stream_comes_as_it_is_made_and_leaving_stops_the_job(cloud: Cloud, parrot: Parrot) -> None:
    body = json.dumps({"model": "slow", "messages": MESSAGES, "stream": True}).encode()
    headers = {"host": "api", "authorization": KEY}
    call = Call(cloud.app, "/v2/ep/openai/v1/chat/completions", method="POST", body=body, headers=headers)
    await cloud.clock.advance(0)
    assert call.status == 200
    assert [line[:5] for line in call.body.split(b"\n\n")] == [b"data:", b"data:", b""]
    call.leave()
    await call.task
    await cloud.clock.advance(0)
    assert parrot.stopped == 1
    assert cloud.pool.running == 0


@pytest.mark.parametrize("name", ["tone_stack", "process_stack"])
def test_our_own_function_is_listed_there_and_says_that_speech_is_not(
    request: pytest.FixtureRequest, name: str
) -> None:
    stack: Stack = request.getfixturevalue(name)
    with openai.OpenAI(base_url=f"{stack.emulator_url}/v2/tone/openai/v1", api_key=API_KEY, max_retries=0) as client:
        assert [model.id for model in client.models.list()] == ["tone"]
        said = client.audio.speech.create(model="tone", voice="sine", input="Hello.").json()
    assert said["code"] == "invalid_request"
    assert "cannot carry audio" in said["message"]
