"""What RunpodProcessor makes of a load-balancing endpoint. The edge is a function; pauses pass by a jumping clock."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Callable
from types import SimpleNamespace

import httpx
import pytest

from tests.jumping_loop import run_jumping
from tests.unit.gateway.test_processors import DONE, ERROR, Answer, Pieces, audio, heard, sse, stream_response
from yapit.contracts import AudioEvent, SynthesisJob, SynthesisParameters
from yapit.errors import ConfigurationError, YapitError
from yapit.gateway.processors.tts.base import Context
from yapit.gateway.processors.tts.runpod import RunpodProcessor
from yapit.gateway.processors.tts.runpod_balanced import NO_WORKER_PAUSE_S
from yapit.gateway.routes import Route
from yapit.gateway.settings import Settings

NO_WORKER = httpx.Response(400, json={"error": "no workers available"})
HELD_S = 120.0


def balanced(answer: Answer | Callable[[httpx.Request], object]) -> RunpodProcessor:
    settings = Settings(_env_file=None, runpod_api_key="secret-key", runpod_lb_base="http://{id}.lb.test/")
    route = Route(slug="tone", processor="x", runpod_endpoint_id="ep", endpoint_type="load_balancer")
    return RunpodProcessor(route, Context(settings, httpx.MockTransport(answer)))  # type: ignore[arg-type]


def job(cold_start_s: float = 0.0) -> SynthesisJob:
    return SynthesisJob("req_1", "tone", SynthesisParameters(text="Hi.", voice="any"), 30.0, cold_start_s)


def speech(_: httpx.Request) -> httpx.Response:
    return stream_response(Pieces(sse(audio(0), audio(1), DONE), 64))


async def test_it_asks_the_endpoint_that_the_template_names_once() -> None:
    asked: list[httpx.Request] = []

    def edge(request: httpx.Request) -> httpx.Response:
        asked.append(request)
        return speech(request)

    assert await heard(balanced(edge)) == b"\0\0\1\0"
    (request,) = asked
    assert str(request.url) == "http://ep.lb.test/synthesize"
    assert request.headers["authorization"] == "Bearer secret-key"
    assert request.headers["accept"] == "text/event-stream"
    assert json.loads(request.content) == {"text": "Hi.", "voice": "any"}


@pytest.mark.parametrize(
    ("answer", "code", "said"),
    [
        (httpx.Response(401, json={"error": "unauthorized"}), "upstream_refused", "check RUNPOD_API_KEY"),
        (httpx.Response(404, text="Not Found"), "upstream_refused", "check runpod_endpoint_id"),
        (httpx.Response(400, json={"error": "not allowed for QB API"}), "upstream_refused", "queue endpoint"),
        (NO_WORKER, "no_worker_yet", "no worker for the endpoint yet"),
        (httpx.Response(400, text="timed out waiting for worker"), "no_worker_yet", "no worker"),
        (httpx.Response(524, html="<h1>timeout</h1>"), "synthesis_timeout", "524"),
        (httpx.Response(502, html="<h1>bad gateway</h1>"), "upstream_failed", "502"),
        (httpx.Response(429, json={}), "overloaded", "busy"),
        (httpx.Response(400, json={**ERROR, "message": "no workers available"}), "no_audio", "no workers available"),
        (httpx.ConnectError("refused"), "worker_unavailable", "runpod_endpoint_id"),
    ],
)
async def test_every_answer_without_speech_becomes_our_own_error(
    answer: httpx.Response | Exception, code: str, said: str
) -> None:
    def edge(_: httpx.Request) -> httpx.Response:
        if isinstance(answer, Exception):
            raise answer
        return answer

    with pytest.raises(YapitError, match=said) as caught:
        await heard(balanced(edge), job())
    assert caught.value.code == code
    assert "secret-key" not in str(caught.value)


class ColdEdge:
    """Holds each request as RunPod's edge does while no worker is there; the worker is ready after `ready_after_s`."""

    def __init__(self, ready_after_s: float, no_worker: httpx.Response = NO_WORKER, hold_s: float = HELD_S) -> None:
        self.ready_after_s, self.no_worker, self.hold_s, self.requests = ready_after_s, no_worker, hold_s, 0

    async def __call__(self, request: httpx.Request) -> httpx.Response:
        self.requests += 1
        now_s = asyncio.get_running_loop().time()
        if now_s + self.hold_s < self.ready_after_s:
            await asyncio.sleep(self.hold_s)
            return self.no_worker
        await asyncio.sleep(max(0.0, self.ready_after_s - now_s))
        return speech(request)


def test_a_cold_start_longer_than_the_edge_holds_a_request_is_waited_for() -> None:
    edge = ColdEdge(ready_after_s=290)
    assert run_jumping(heard(balanced(edge), job(cold_start_s=300))) == b"\0\0\1\0"
    assert edge.requests == 3


def test_an_edge_that_refuses_at_once_is_not_asked_without_pause() -> None:
    edge = ColdEdge(ready_after_s=60, hold_s=0)
    assert run_jumping(heard(balanced(edge), job(cold_start_s=300))) == b"\0\0\1\0"
    assert edge.requests == 60 / NO_WORKER_PAUSE_S + 1


def test_beyond_the_cold_starts_budget_it_says_that_there_is_no_worker() -> None:
    edge = ColdEdge(ready_after_s=1_000, hold_s=0)
    with pytest.raises(YapitError, match="no worker") as caught:
        run_jumping(heard(balanced(edge), job(cold_start_s=300)))
    assert (caught.value.code, caught.value.retryable) == ("no_worker_yet", True)
    assert edge.requests == 300 / NO_WORKER_PAUSE_S + 1


def test_an_edge_that_still_holds_the_request_then_is_left() -> None:
    with pytest.raises(YapitError, match=r"did not begin to speak within 330 s \(300 of them for a cold start\)"):
        run_jumping(heard(balanced(ColdEdge(ready_after_s=1_000)), job(cold_start_s=300)))


async def test_what_has_begun_is_not_asked_for_again() -> None:
    requests = 0

    def edge(_: httpx.Request) -> httpx.Response:
        nonlocal requests
        requests += 1
        return stream_response(Pieces(sse(audio(0)), 64, httpx.ReadError("reset")))

    with pytest.raises(YapitError) as caught:
        await heard(balanced(edge), job(cold_start_s=300))
    assert (caught.value.code, requests) == ("truncated_stream", 1)


async def test_leaving_closes_the_connection() -> None:
    stream = Pieces(sse(audio(0), audio(1), DONE), 64)
    processor = balanced(lambda _: stream_response(stream))
    events = processor.stream(job())
    await anext(events)
    await events.aclose()
    await processor.close()
    assert stream.closed


async def test_time_spent_waiting_at_the_edge_counts_as_queue(monkeypatch: pytest.MonkeyPatch) -> None:
    moments = iter([10.0, 10.5])
    clock = SimpleNamespace(perf_counter=lambda: next(moments))
    monkeypatch.setattr("yapit.gateway.processors.tts.runpod_balanced.time", clock)
    timings = {"queue_ms": 1.0, "cold_start_ms": 0.0, "synthesis_ms": 8.0, "encode_ms": 2.0}
    stream = Pieces(sse({**audio(0), "timings": timings}, DONE), 1_000)
    first = await anext(balanced(lambda _: stream_response(stream)).stream(job()))
    assert isinstance(first, AudioEvent)
    assert first.timings is not None
    assert first.timings.queue_ms == 490.0


async def test_it_is_ready_when_the_endpoints_health_answers() -> None:
    asked: list[str] = []

    def edge(request: httpx.Request) -> httpx.Response:
        asked.append(str(request.url))
        return httpx.Response(200, json={"jobs": {}, "workers": {}})

    assert await balanced(edge).is_ready()
    assert asked == ["https://api.runpod.ai/v2/ep/health"]


def test_an_unknown_endpoint_type_is_refused() -> None:
    route = Route(slug="tone", processor="x", runpod_endpoint_id="ep", endpoint_type="lb")
    with pytest.raises(ConfigurationError, match="endpoint_type"):
        RunpodProcessor(route, Context(Settings(_env_file=None, runpod_api_key="k")))


def test_a_base_address_without_the_endpoint_is_refused() -> None:
    with pytest.raises(ValueError, match="runpod_lb_base"):
        Settings(_env_file=None, runpod_lb_base="https://api.runpod.ai")
