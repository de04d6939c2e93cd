import asyncio
import base64
import io
import json
import wave
from collections.abc import AsyncIterator

import httpx
import pytest

from tests import adapters
from tests.unit.workers.test_runner import make_runner
from tests.waiting import until
from yapit.errors import ConfigurationError
from yapit.workers.adapters.base import SynthAdapter
from yapit.workers.handlers import local
from yapit.workers.handlers.local import MAX_BODY_BYTES, create_app

JOB = {"text": "Hello there.", "voice": "any"}


def client_of(adapter: SynthAdapter, **changes: object) -> httpx.AsyncClient:
    app = create_app(make_runner(adapter, **changes))
    return httpx.AsyncClient(transport=httpx.ASGITransport(app), base_url="http://worker")


@pytest.fixture
async def worker() -> AsyncIterator[httpx.AsyncClient]:
    async with client_of(adapters.Tone()) as client:
        yield client


async def test_unasked_to_stream_it_answers_one_json(worker: httpx.AsyncClient) -> None:
    answer = (await worker.post("/synthesize", json=JOB)).json()
    assert base64.b64decode(answer["audio_base64"]) == adapters.tone(JOB["text"])
    assert answer["duration_ms"] == len(JOB["text"]) * 50
    assert answer["function"] == "tone"


async def test_asked_to_stream_it_sends_the_events(worker: httpx.AsyncClient) -> None:
    response = await worker.post("/synthesize", json=JOB, headers={"Accept": "text/event-stream"})
    assert response.headers["content-type"].startswith("text/event-stream")
    events = [json.loads(block.removeprefix("data: ")) for block in response.text.split("\n\n") if block]
    assert [event["type"] for event in events] == ["audio", "done"]
    assert base64.b64decode(events[0]["audio"]) == adapters.tone(JOB["text"])


async def test_a_whole_wav_says_its_size(worker: httpx.AsyncClient) -> None:
    answer = (await worker.post("/synthesize", json={**JOB, "codec": "wav"})).json()
    with wave.open(io.BytesIO(base64.b64decode(answer["audio_base64"]))) as file:
        assert file.getnframes() == len(adapters.tone(JOB["text"])) // 2


@pytest.mark.parametrize("accept", ["application/json", "text/event-stream"])
@pytest.mark.parametrize(
    ("body", "status", "code"),
    [
        (b"{", 400, "invalid_request"),
        (b"[" * 100_000, 400, "invalid_request"),
        (b"[]", 400, "invalid_request"),
        (b'{"text":"a","voice":"any","speed":NaN}', 400, "invalid_request"),
        (b'{"text":"?!","voice":"any"}', 400, "nothing_to_say"),
        (b" " * (MAX_BODY_BYTES + 1), 413, "payload_too_large"),
    ],
)
async def test_a_bad_request_is_answered_with_its_error(
    worker: httpx.AsyncClient, body: bytes, status: int, code: str, accept: str
) -> None:
    response = await worker.post("/synthesize", content=body, headers={"Accept": accept})
    assert (response.status_code, response.json()["code"]) == (status, code)
    assert (await worker.post("/synthesize", json=JOB)).status_code == 200


async def test_a_body_without_declared_length_is_bounded_too(worker: httpx.AsyncClient) -> None:
    async def endless() -> AsyncIterator[bytes]:
        while True:
            yield b" " * 1_000_000

    assert (await worker.post("/synthesize", content=endless())).status_code == 413


@pytest.mark.parametrize("accept", ["application/json", "text/event-stream"])
async def test_an_adapter_that_raises_is_a_500_without_its_secrets(accept: str) -> None:
    async with client_of(adapters.Raises()) as worker:
        response = await worker.post("/synthesize", json=JOB, headers={"Accept": accept})
        assert (response.status_code, response.json()["code"]) == (500, "adapter_failed")
        assert "/root" not in response.text


async def test_a_full_worker_says_when_to_come_back() -> None:
    adapter = adapters.Gated()
    runner = make_runner(adapter, scaling={"concurrency": 1, "max_queue": 0})
    held = runner.run(JOB)
    await anext(held)
    transport = httpx.ASGITransport(create_app(runner))
    async with httpx.AsyncClient(transport=transport, base_url="http://worker") as worker:
        response = await worker.post("/synthesize", json=JOB)
    assert (response.status_code, response.headers["retry-after"]) == (429, "1")
    await held.aclose()


async def test_ready_is_not_the_same_as_alive() -> None:
    async with client_of(adapters.Tone()) as worker:
        assert (await worker.get("/health")).json()["status"] == "ok"
        assert (await worker.get("/ready")).status_code == 503
        await worker.post("/synthesize", json=JOB)
        assert (await worker.get("/ready")).status_code == 200


class SlowToStart(adapters.Tone):
    def __init__(self) -> None:
        self.gate = asyncio.Event()

    async def initialize(self) -> None:
        await self.gate.wait()


async def test_it_serves_while_its_adapter_starts_and_tells_a_load_balancer() -> None:
    """204 while initialising, 200 when ready: what RunPod's load balancer goes by."""
    adapter = SlowToStart()
    app = create_app(make_runner(adapter))
    client = httpx.AsyncClient(transport=httpx.ASGITransport(app), base_url="http://worker")
    async with app.router.lifespan_context(app), client:
        assert (await client.get("/health")).status_code == 200
        assert (await client.get("/ping")).status_code == 204
        speaking = asyncio.create_task(client.post("/synthesize", json=JOB))
        adapter.gate.set()
        assert (await speaking).status_code == 200
        assert (await client.get("/ping")).status_code == 200


async def test_a_worker_that_cannot_start_is_taken_out_and_says_why() -> None:
    runner = make_runner(adapters.FailsToStart())
    app = create_app(runner)
    client = httpx.AsyncClient(transport=httpx.ASGITransport(app), base_url="http://worker")
    async with app.router.lifespan_context(app), client:
        await until(lambda: runner.failure)
        ping = await client.get("/ping")
        assert (ping.status_code, ping.json()["code"]) == (503, "worker_unavailable")
        assert "failed to start: OSError" in ping.json()["message"]
        assert (await client.get("/health")).status_code == 200


def test_health_on_a_port_of_its_own_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    for name, value in {"ADAPTER_CLASS": "tests.adapters.Tone", "PORT": "5000", "PORT_HEALTH": "5001"}.items():
        monkeypatch.setenv(name, value)
    with pytest.raises(ConfigurationError, match="PORT_HEALTH=5001 is not PORT=5000"):
        local.main()
