"""What our `RunpodProcessor` makes of each fault, over real sockets: survived, or told with the right error.

Behind the emulator are handlers in its own process or, where workers themselves are struck, also worker processes.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable
from typing import Any

import httpx
import pytest

from emulator.pytest_plugin import InProcessEmulator
from tests.adapters import tone
from tests.conftest import API_KEY, TEST_FUNCTIONS, Stack
from yapit.contracts import AudioEvent, DoneEvent, SynthesisJob, SynthesisParameters
from yapit.errors import YapitError
from yapit.gateway.processors.tts import runpod
from yapit.gateway.processors.tts.base import Context
from yapit.gateway.processors.tts.runpod import RunpodProcessor
from yapit.gateway.routes import Route
from yapit.gateway.settings import Settings

SENTENCES = ["Hello there.", "How are you?", "It rains.", "The sun shines again.", "Good night."]
SPEECH = b"".join(map(tone, SENTENCES))
RUN, STREAM, STATUS = "POST /v2/tone/run", "GET /v2/tone/stream/*", "GET /v2/tone/status-sync/*"


class Client:
    """The processor, the rules, and what the endpoint says of its jobs."""

    def __init__(self, url: str, transport: httpx.AsyncBaseTransport | None = None) -> None:
        settings = Settings(_env_file=None, runpod_api_base=f"{url}/v2", runpod_api_key=API_KEY)
        route = Route(slug="tone", processor="x", runpod_endpoint_id="tone")
        self.processor = RunpodProcessor(route, Context(settings, transport))
        self.http = httpx.AsyncClient(base_url=url, headers={"Authorization": API_KEY}, transport=transport)

    async def set_rules(self, *rules: dict[str, Any]) -> None:
        body = {"rules": [{"count": 1, **rule} for rule in rules]}
        (await self.http.put("/_emulator/faults", json=body)).raise_for_status()

    async def struck(self) -> list[int]:
        return [rule["struck"] for rule in (await self.http.get("/_emulator/faults")).json()["rules"]]

    async def jobs(self) -> dict[str, int]:
        return (await self.http.get("/v2/tone/health")).json()["jobs"]

    async def speak(self, deadline_s: float = 30.0) -> bytes:
        parameters = SynthesisParameters(text=" ".join(SENTENCES), voice="sine")
        job = SynthesisJob("req_1", "tone", parameters, deadline_s)
        events = [event async for event in self.processor.stream(job)]
        assert [type(event) for event in events[-2:]] == [AudioEvent, DoneEvent]
        return b"".join(event.decoded() for event in events if isinstance(event, AudioEvent))

    async def close(self) -> dict[str, int]:
        """What is left of the endpoint's jobs once the processor is closed."""
        await self.processor.close()
        (await self.http.delete("/_emulator/faults")).raise_for_status()
        jobs = await self.jobs()
        await self.http.aclose()
        return jobs


@pytest.fixture(autouse=True)
def no_pauses(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(runpod, "_SETTLE_WAIT_MS", 1_000)  # RunPod's shortest
    monkeypatch.setattr(runpod, "_POLL_AGAIN_AFTER_S", (0.0,) * len(runpod._POLL_AGAIN_AFTER_S))


@pytest.fixture
async def client(tone_stack: Stack) -> AsyncIterator[Client]:
    client = Client(tone_stack.emulator_url)
    yield client
    left = await client.close()
    assert (left["inProgress"], left["inQueue"]) == (0, 0)


@pytest.fixture
async def process_client(process_stack: Stack) -> AsyncIterator[Client]:
    client = Client(process_stack.emulator_url)
    yield client
    await client.close()


@pytest.fixture
async def cold_client(make_emulator: Callable[..., InProcessEmulator]) -> AsyncIterator[Client]:
    """Of an emulator of its own that has no worker yet."""
    emulator = make_emulator(TEST_FUNCTIONS, api_key=API_KEY)
    client = Client("http://emulator", emulator.transport)
    yield client
    left = await client.close()
    assert (left["inProgress"], left["inQueue"]) == (0, 0)


def named(rules: list[dict[str, Any]] | dict[str, Any]) -> str:
    listed = rules if isinstance(rules, list) else [rules]
    return ", ".join(" ".join(str(value) for key, value in rule.items() if key != "count") for rule in listed)


@pytest.mark.parametrize(
    "rules",
    [
        [{"effect": "drop-before", "match": STREAM}],
        [{"effect": "drop-after", "match": STREAM}],
        [{"effect": "drop-after", "match": STREAM, "count": 4}],
        [{"effect": "truncate", "match": STREAM}],
        [{"effect": "drop-after", "match": STREAM}, {"effect": "drop-after", "match": STATUS}],
        [{"effect": "truncate", "match": STREAM}, {"effect": "status", "match": STATUS, "value": 502}],
        [{"effect": "status", "match": STREAM, "value": 500}],
        [{"effect": "status", "match": STREAM, "value": 429}],
        [{"effect": "status-after", "match": STREAM, "value": 502}],
        [{"effect": "latency", "match": RUN, "value": 0.05}],
        [{"effect": "kill-before"}],
        [{"effect": "kill-during"}],
        [{"effect": "kill-after"}],
        [{"effect": "out-of-memory"}],
        [{"effect": "stuck", "value": 0.1}],
        [{"effect": "duplicate"}],
        [{"effect": "duplicate"}, {"effect": "kill-during"}],
        [{"effect": "lose-result"}],
    ],
    ids=named,
)
async def test_these_are_survived(client: Client, rules: list[dict[str, Any]]) -> None:
    await client.set_rules(*rules)
    assert await client.speak() == SPEECH
    assert await client.struck() == [rule.get("count", 1) for rule in rules]


@pytest.mark.parametrize(
    "rule",
    [{"effect": "kill-during"}, {"effect": "out-of-memory"}, {"effect": "duplicate"}, {"effect": "lose-result"}],
    ids=named,
)
async def test_these_are_survived_with_worker_processes_too(process_client: Client, rule: dict[str, Any]) -> None:
    await process_client.set_rules({"match": "tone/*", **rule})
    assert await process_client.speak() == SPEECH
    assert await process_client.struck() == [1]


async def test_capacity_is_waited_for(cold_client: Client) -> None:
    await cold_client.set_rules({"effect": "throttle", "value": 0.1})
    assert await cold_client.speak() == SPEECH
    assert await cold_client.struck() == [1]


@pytest.mark.parametrize(
    ("rule", "code", "jobs_taken"),
    [
        ({"effect": "status", "match": RUN, "value": 429}, "overloaded", 0),
        ({"effect": "status", "match": RUN, "value": 503}, "upstream_failed", 0),
        ({"effect": "status-after", "match": RUN, "value": 502}, "upstream_failed", 1),
        ({"effect": "drop-before", "match": RUN}, "worker_unavailable", 0),
        ({"effect": "drop-after", "match": RUN}, "worker_unavailable", 1),
        ({"effect": "truncate", "match": RUN}, "worker_unavailable", 1),
        ({"effect": "status", "match": STREAM, "value": 500, "count": 6}, "upstream_failed", 1),
        ({"effect": "kill-before", "count": 2}, "synthesis_timeout", 1),
        ({"effect": "out-of-memory", "count": 2}, "synthesis_timeout", 1),
        ({"effect": "fail-during"}, "upstream_failed", 1),
    ],
    ids=lambda value: named(value) if isinstance(value, dict) else "",
)
async def test_these_are_told(client: Client, rule: dict[str, Any], code: str, jobs_taken: int) -> None:
    before = await client.jobs()
    await client.set_rules(rule)
    with pytest.raises(YapitError) as caught:
        await client.speak()
    assert (caught.value.code, caught.value.retryable) == (code, True)
    assert await client.struck() == [rule.get("count", 1)]
    after = await client.jobs()
    assert sum(after.values()) - sum(before.values()) - (after["retried"] - before["retried"]) == jobs_taken


@pytest.mark.parametrize("effect", ["stuck", "throttle"])
async def test_a_job_that_gets_no_worker_in_time_is_told_and_cancelled(cold_client: Client, effect: str) -> None:
    await cold_client.set_rules({"effect": effect})
    with pytest.raises(YapitError) as caught:
        await cold_client.speak(deadline_s=0.1)
    assert caught.value.code == "synthesis_timeout"


@pytest.mark.parametrize("effect", ["drop-before", "drop-after"])
async def test_a_connection_that_is_dropped_ends_without_a_word(client: Client, effect: str) -> None:
    await client.set_rules({"effect": effect, "match": "GET /healthz"})
    with pytest.raises((httpx.ReadError, httpx.RemoteProtocolError)) as caught:
        await client.http.get("/healthz")
    assert "peer closed connection" not in str(caught.value), "as it would be after headers"
