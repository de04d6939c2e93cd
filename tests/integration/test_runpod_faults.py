"""What our `RunpodProcessor` makes of each fault, over real sockets."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable
from typing import Any

import httpx
import pytest

from tests.adapters import tone
from tests.conftest import API_KEY, Stack
from yapit.contracts import AudioEvent, DoneEvent, SynthesisJob, SynthesisParameters
from yapit.errors import YapitError
from yapit.gateway.processors.tts.base import Context
from yapit.gateway.processors.tts.runpod import RunpodProcessor
from yapit.gateway.routes import Route
from yapit.gateway.settings import Settings

RUN, STREAM = "POST /v2/tone/run", "GET /v2/tone/stream/*"


@pytest.fixture
def set_rule(tone_stack: Stack) -> Any:
    with httpx.Client(base_url=tone_stack.emulator_url, headers={"Authorization": API_KEY}) as client:

        def put(**rule: Any) -> None:
            client.put("/_emulator/faults", json={"rules": [{"count": 1, **rule}]}).raise_for_status()

        def struck() -> int:
            return client.get("/_emulator/faults").json()["rules"][0]["struck"]

        put.struck = struck  # type: ignore[attr-defined]
        yield put
        client.delete("/_emulator/faults").raise_for_status()


@pytest.fixture
async def speak(tone_stack: Stack) -> AsyncIterator[Callable[[], Any]]:
    settings = Settings(_env_file=None, runpod_api_base=f"{tone_stack.emulator_url}/v2", runpod_api_key=API_KEY)
    processor = RunpodProcessor(Route(slug="tone", processor="x", runpod_endpoint_id="tone"), Context(settings, None))

    async def speak() -> bytes:
        job = SynthesisJob("req_1", "tone", SynthesisParameters(text="Hello there.", voice="sine"), 30.0)
        events = [event async for event in processor.stream(job)]
        assert isinstance(events[-1], DoneEvent)
        return b"".join(event.decoded() for event in events if isinstance(event, AudioEvent))

    yield speak
    await processor.close()


@pytest.mark.parametrize(
    "rule",
    [
        {"effect": "drop-after", "match": STREAM},
        {"effect": "status", "match": STREAM, "value": 500},
        {"effect": "latency", "match": RUN, "value": 0.05},
        {"effect": "kill-before"},
        {"effect": "kill-after"},
    ],
    ids=lambda rule: " ".join(str(part) for part in rule.values()),
)
async def test_these_are_survived(set_rule: Any, speak: Callable[[], Any], rule: dict[str, Any]) -> None:
    set_rule(**rule)
    assert await speak() == tone("Hello there.")
    assert set_rule.struck() == 1


@pytest.mark.parametrize(
    ("rule", "code"),
    [
        ({"effect": "status", "match": RUN, "value": 429}, "overloaded"),
        ({"effect": "status", "match": RUN, "value": 503}, "upstream_failed"),
        ({"effect": "drop-after", "match": RUN}, "worker_unavailable"),
        ({"effect": "kill-before", "count": 2}, "synthesis_timeout"),
    ],
)
async def test_these_are_told(set_rule: Any, speak: Callable[[], Any], rule: dict[str, Any], code: str) -> None:
    set_rule(**rule)
    with pytest.raises(YapitError) as caught:
        await speak()
    assert caught.value.code == code
    assert set_rule.struck() == rule.get("count", 1)
