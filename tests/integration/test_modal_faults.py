"""What our `ModalProcessor` makes of each fault, with the unmodified SDK over real sockets, on each of its ways."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from typing import Any

import pytest

from emulator.app import Emulator
from emulator.engine.faults import Effect, FaultRule
from emulator.engine.jobs import JobState
from emulator.engine.pool import WorkerPool
from emulator.server import Server
from tests.adapters import tone
from tests.conftest import API_KEY, TEST_FUNCTIONS, modal_settings, serve
from tests.integration.test_leaving import eventually
from yapit.contracts import AudioEvent, DoneEvent, SynthesisJob, SynthesisParameters
from yapit.errors import YapitError
from yapit.gateway.processors.tts.base import Context
from yapit.gateway.processors.tts.modal import LONG_JOB_S, ModalProcessor
from yapit.gateway.routes import Route
from yapit.gateway.settings import Settings

SENTENCES = ["Hello there.", *(f"This is sentence number {number} of it." for number in range(12))]
SHORT, LONG = SENTENCES[0], " ".join(SENTENCES)
WAYS = {"remote": (SHORT, 20.0), "remote_gen": (LONG, 20.0), "spawn": (SHORT, LONG_JOB_S + 1), "web": (LONG, 20.0)}
SDK_WAYS = [way for way in WAYS if way != "web"]
MAP = "RPC FunctionMap"
Speak = Callable[[str], Awaitable[bytes]]


def expected(way: str) -> bytes:
    text, _ = WAYS[way]
    return b"".join(tone(sentence) for sentence in SENTENCES) if text == LONG else tone(SHORT)


@pytest.fixture(scope="module")
def emulator() -> Iterator[Emulator]:
    made: list[Emulator] = []

    def make(url: str) -> Server:
        made.append(Emulator(TEST_FUNCTIONS, api_key=API_KEY, base_url=url, modal_address=("127.0.0.1", 0)))
        return Server(made[0])

    with serve(make):
        yield made[0]


@pytest.fixture
def set_rule(emulator: Emulator) -> Iterator[Callable[..., None]]:
    def put(*rules: dict[str, Any]) -> None:
        emulator.faults.set([FaultRule(**{"count": 1, **rule, "effect": Effect(rule["effect"])}) for rule in rules])

    yield put
    emulator.faults.set([])


@pytest.fixture
async def speak(emulator: Emulator) -> AsyncIterator[Speak]:
    route = Route(slug="tone", processor="x", modal_app="yapit-tone", modal_class="TTS")
    with_proxy_token = modal_settings(emulator)
    without = {**with_proxy_token, "modal_key": "", "modal_secret": ""}
    sdk, web = (
        ModalProcessor(route, Context(Settings(_env_file=None, **settings))) for settings in (without, with_proxy_token)
    )

    async def speak(way: str) -> bytes:
        text, deadline_s = WAYS[way]
        processor = web if way == "web" else sdk
        job = SynthesisJob("req_1", "tone", SynthesisParameters(text=text, voice="sine"), deadline_s)
        events = [event async for event in processor.stream(job)]
        assert isinstance(events[-1], DoneEvent)
        return b"".join(event.decoded() for event in events if isinstance(event, AudioEvent))

    yield speak
    await sdk.close()
    await web.close()


@pytest.mark.parametrize("way", SDK_WAYS)
@pytest.mark.parametrize(
    "rule",
    [
        {"effect": "status", "match": MAP, "value": 503},
        {"effect": "status", "match": "RPC FunctionGetOutputs", "value": 503},
        {"effect": "drop-before", "match": MAP},
        {"effect": "drop-after", "match": "RPC FunctionGetOutputs"},
        {"effect": "latency", "match": MAP, "value": 0.05},
        {"effect": "stuck", "match": "modal/yapit-tone/*", "value": 0.05},
        {"effect": "kill-before", "match": "modal/yapit-tone/*"},
        {"effect": "kill-after", "match": "modal/yapit-tone/*"},
        {"effect": "out-of-memory", "match": "modal/yapit-tone/*"},
        {"effect": "lose-result", "match": "modal/yapit-tone/*"},
    ],
    ids=lambda rule: " ".join(str(part) for part in rule.values()),
)
async def test_these_are_survived(
    emulator: Emulator, set_rule: Any, speak: Speak, way: str, rule: dict[str, Any]
) -> None:
    set_rule(rule)
    assert await speak(way) == expected(way)
    assert emulator.faults.struck == [1]


@pytest.mark.parametrize("way", SDK_WAYS)
@pytest.mark.parametrize(
    ("rule", "code"),
    [
        ({"effect": "status", "match": MAP, "value": 429}, "overloaded"),
        ({"effect": "status", "match": MAP, "value": 503, "count": 4}, "worker_unavailable"),
        ({"effect": "status", "match": MAP, "value": 401}, "upstream_refused"),
        ({"effect": "status", "match": MAP, "value": 404}, "upstream_refused"),
        ({"effect": "kill-before", "match": "modal/yapit-tone/*", "count": 2}, "upstream_failed"),
    ],
    ids=lambda value: " ".join(str(part) for part in value.values()) if isinstance(value, dict) else value,
)
async def test_these_are_told(
    emulator: Emulator, set_rule: Any, speak: Speak, way: str, rule: dict[str, Any], code: str
) -> None:
    set_rule(rule)
    with pytest.raises(YapitError) as caught:
        await speak(way)
    assert caught.value.code == code
    assert emulator.faults.struck == [rule.get("count", 1)]
    emulator.faults.set([])
    assert await speak(way) == expected(way)


WEB = "POST /modal/web/*/synthesize"


@pytest.mark.parametrize(
    "rule",
    [
        {"effect": "latency", "match": WEB, "value": 0.05},
        {"effect": "stuck", "match": "modal/yapit-tone/*", "value": 0.05},
        {"effect": "kill-before", "match": "modal/yapit-tone/*"},
        {"effect": "kill-after", "match": "modal/yapit-tone/*"},
    ],
    ids=lambda rule: " ".join(str(part) for part in rule.values()),
)
async def test_these_are_survived_at_the_web_endpoint(
    emulator: Emulator, set_rule: Any, speak: Speak, rule: dict[str, Any]
) -> None:
    set_rule(rule)
    assert await speak("web") == expected("web")
    assert emulator.faults.struck == [1]


@pytest.mark.parametrize(
    ("rule", "code"),
    [
        ({"effect": "status", "match": WEB, "value": 429}, "overloaded"),
        ({"effect": "status", "match": WEB, "value": 401}, "upstream_refused"),
        ({"effect": "status", "match": WEB, "value": 500}, "upstream_failed"),
        ({"effect": "drop-before", "match": WEB}, "worker_unavailable"),
        ({"effect": "truncate", "match": WEB}, "truncated_stream"),
        ({"effect": "kill-before", "match": "modal/yapit-tone/*", "count": 2}, "upstream_failed"),
        ({"effect": "kill-during", "match": "modal/yapit-tone/*"}, "truncated_stream"),
        ({"effect": "fail-during", "match": "modal/yapit-tone/*"}, "truncated_stream"),
    ],
    ids=lambda value: " ".join(str(part) for part in value.values()) if isinstance(value, dict) else value,
)
async def test_these_are_told_by_the_web_endpoint(
    emulator: Emulator, set_rule: Any, speak: Speak, rule: dict[str, Any], code: str
) -> None:
    set_rule(rule)
    with pytest.raises(YapitError) as caught:
        await speak("web")
    assert caught.value.code == code
    assert emulator.faults.struck == [rule.get("count", 1)]
    emulator.faults.set([])
    assert await speak("web") == expected("web")


async def test_a_result_that_takes_longer_than_the_edge_waits_is_fetched_where_the_edge_says(
    emulator: Emulator, set_rule: Any, speak: Speak, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("emulator.modal.facts.WEB_TIMEOUT_S", 0.05)
    set_rule({"effect": "stuck", "match": "modal/yapit-tone/*", "value": 0.2})
    assert await speak("web") == expected("web")
    assert emulator.faults.struck == [1]


async def test_a_container_lost_in_the_middle_of_a_stream_is_not_heard(
    emulator: Emulator, set_rule: Any, speak: Speak
) -> None:
    set_rule({"effect": "kill-during", "match": "modal/yapit-tone/*"})
    assert await speak("remote_gen") == expected("remote_gen")
    assert emulator.faults.struck == [1]


async def test_an_error_in_the_middle_of_a_stream_is_told(emulator: Emulator, set_rule: Any, speak: Speak) -> None:
    set_rule({"effect": "fail-during", "match": "modal/yapit-tone/*"})
    with pytest.raises(YapitError) as caught:
        await speak("remote_gen")
    assert caught.value.code == "upstream_failed"


@pytest.mark.parametrize("effect", ["throttle", "slow-start"])
@pytest.mark.parametrize("way", WAYS)
async def test_a_container_that_is_slow_to_come_back_is_waited_for(
    emulator: Emulator, set_rule: Any, speak: Speak, way: str, effect: str
) -> None:
    died = {"effect": "kill-before", "match": "modal/yapit-tone/*"}
    slow = {"effect": effect, "match": "modal/yapit-tone/*", "value": 0.1}
    set_rule(died, slow)
    assert await speak(way) == expected(way)
    assert emulator.faults.struck == [1, 1]


def pool(emulator: Emulator) -> WorkerPool:
    function = emulator.modal.registry.find("yapit-tone", "TTS.*")
    assert function is not None
    return function.pool


@pytest.mark.parametrize(("way", "end"), [("remote", JobState.COMPLETED), ("spawn", JobState.CANCELLED)])
async def test_a_spawned_call_is_cancelled_when_its_caller_leaves_and_a_short_one_spoken_to_its_end(
    emulator: Emulator, set_rule: Any, speak: Speak, way: str, end: JobState
) -> None:
    """The SDK does not tell the id of a call that is waited for (modal 1.6.4)."""
    before = pool(emulator).finished[end]
    set_rule({"effect": "stuck", "match": "modal/yapit-tone/*", "value": 0.5})
    leaving = asyncio.ensure_future(speak(way))
    await eventually(lambda: emulator.faults.struck == [1])
    leaving.cancel()
    await asyncio.gather(leaving, return_exceptions=True)
    await eventually(lambda: pool(emulator).finished[end] == before + 1)
