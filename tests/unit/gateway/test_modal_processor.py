"""What `ModalProcessor` makes of Modal's answers. The SDK is real up to the call; calls and web are functions here.

The same over the SDK's own wire is in tests/integration/test_modal.py.
"""

from __future__ import annotations

import asyncio
import sys
from collections.abc import AsyncIterator, Callable
from types import SimpleNamespace

import httpx
import modal
import pytest

from tests.unit.gateway.test_processors import DONE, ERROR, Pieces, audio, heard, job, sse, stream_response
from yapit.contracts import AudioEvent, SynthesisJob, SynthesisParameters
from yapit.errors import ConfigurationError, YapitError
from yapit.gateway.processors.tts.base import Context
from yapit.gateway.processors.tts.modal import LONG_JOB_S, MAX_WHOLE_CHARACTERS, ModalProcessor
from yapit.gateway.processors.tts.modal_class import Handles
from yapit.gateway.processors.tts.modal_web import MAX_RESULT_URLS
from yapit.gateway.routes import Route
from yapit.gateway.settings import Settings

URL = "https://me--yapit-tone-tts-web.modal.run"
RESULT = f"{URL}/synthesize?__modal_function_call_id=fc-9"
CALL = {"type": "call", "call_id": "fc-1"}
LONG_TEXT = "Hello there. " * 40
TOKEN = {"modal_token_id": "ak-1", "modal_token_secret": "as-secret"}
PROXY = {"modal_key": "wk-1", "modal_secret": "ws-secret"}
Item = object


class Method:
    """Stands for a method of the class: `items` are what it answers, or raises."""

    def __init__(self, *items: Item) -> None:
        self.items = items
        self.asked: list[object] = []
        self.is_exhausted = False
        self.started, self.gate = asyncio.Event(), asyncio.Event()
        self.gate.set()
        self.remote, self.spawn = SimpleNamespace(aio=self._remote), SimpleNamespace(aio=self._spawn)
        self.remote_gen = SimpleNamespace(aio=self._stream)

    async def _remote(self, payload: object) -> object:
        self.asked.append(payload)
        self.started.set()
        await self.gate.wait()
        (item,) = self.items
        if isinstance(item, Exception):
            raise item
        return item

    async def _spawn(self, payload: object) -> object:
        return SimpleNamespace(object_id="fc-1", get=SimpleNamespace(aio=lambda: self._remote(payload)))

    async def _stream(self, payload: object) -> AsyncIterator[object]:
        self.asked.append(payload)
        self.started.set()
        for item in self.items:
            await self.gate.wait()
            if isinstance(item, Exception):
                raise item
            yield item
        self.is_exhausted = True


class Script:
    """A class at Modal: its two methods, and its web endpoint."""

    def __init__(
        self,
        *,
        whole: object = None,
        stream: list[object] | None = None,
        web: Callable[[httpx.Request], httpx.Response] | None = None,
    ) -> None:
        self.synthesize, self.stream, self.web = Method(whole), Method(*(stream or [])), web
        self.cancelled: list[str] = []
        self.lookups = 0
        settings = Settings(_env_file=None, **TOKEN, **(PROXY if web else {}))
        route = Route(slug="tone", processor="x", modal_app="yapit-tone", modal_class="TTS")
        self.processor = ModalProcessor(route, Context(settings, httpx.MockTransport(web or self._no_web)))
        modal_class = self.processor._modal
        modal_class._look_up = self._look_up  # type: ignore[method-assign]
        modal_class.cancel = self._cancel  # type: ignore[method-assign]

    def _look_up(self) -> Handles:
        self.lookups += 1
        return Handles(None, self.synthesize, self.stream, URL if self.web else None)

    async def _cancel(self, call_id: str) -> None:
        self.cancelled.append(call_id)

    def _no_web(self, _: httpx.Request) -> httpx.Response:
        raise AssertionError("the web endpoint was asked")


def long_text() -> SynthesisJob:
    return SynthesisJob("req_1", "tone", SynthesisParameters(text=LONG_TEXT, voice="any"), 30.0)


WHOLE = [audio(0), audio(1), DONE]


async def test_a_short_text_is_one_call() -> None:
    script = Script(whole=WHOLE)
    assert await heard(script.processor) == b"\0\0\1\0"
    assert script.synthesize.asked == [{"text": "Hi.", "voice": "any"}]
    assert script.stream.asked == []


async def test_a_longer_text_is_a_stream() -> None:
    assert len(LONG_TEXT) > MAX_WHOLE_CHARACTERS
    script = Script(stream=[CALL, audio(0), audio(1), DONE])
    assert await heard(script.processor, long_text()) == b"\0\0\1\0"
    assert script.synthesize.asked == []
    await script.processor.close()
    assert script.stream.is_exhausted  # or the SDK would break off what it still asks Modal


async def test_a_job_that_may_take_hours_is_spawned_even_where_there_is_a_web_endpoint() -> None:
    script = Script(whole=WHOLE, web=lambda _: pytest.fail("asked"))
    assert await heard(script.processor, job(deadline_s=LONG_JOB_S + 1)) == b"\0\0\1\0"


async def test_the_web_endpoint_serves_everything_else() -> None:
    asked: list[httpx.Request] = []

    def web(request: httpx.Request) -> httpx.Response:
        asked.append(request)
        return stream_response(Pieces(sse(audio(0), DONE), 64))

    script = Script(web=web)
    for wanted in (job(), long_text()):
        assert await heard(script.processor, wanted) == b"\0\0"
    assert [str(request.url) for request in asked] == [f"{URL}/synthesize"] * 2
    assert {(r.headers["modal-key"], r.headers["modal-secret"]) for r in asked} == {("wk-1", "ws-secret")}
    assert script.lookups == 1


async def test_without_a_proxy_token_the_web_endpoint_is_not_asked() -> None:
    script = Script(whole=WHOLE)
    script.web = lambda _: pytest.fail("asked")
    assert await heard(script.processor) == b"\0\0\1\0"


@pytest.mark.parametrize(
    ("error", "code"),
    [
        (modal.exception.AuthError("no"), "upstream_refused"),
        (modal.exception.PermissionDeniedError("no"), "upstream_refused"),
        (modal.exception.NotFoundError("no app"), "upstream_refused"),
        (modal.exception.InvalidError("stopped"), "upstream_refused"),
        (modal.exception.UnimplementedError("old"), "upstream_refused"),
        (modal.exception.ResourceExhaustedError("2000 queued"), "overloaded"),
        (modal.exception.FunctionTimeoutError("300 s"), "synthesis_timeout"),
        (modal.exception.ServiceError("unavailable"), "worker_unavailable"),
        (modal.exception.ConnectionError("refused"), "worker_unavailable"),
        (ConnectionResetError("reset"), "worker_unavailable"),
        (modal.exception.InternalFailure("lost"), "upstream_failed"),
        (modal.exception.InternalError("oops"), "upstream_failed"),
        (modal.exception.RemoteError("RuntimeError('/home/secret/weights')"), "upstream_failed"),
        (modal.exception.OutputExpiredError(), "upstream_failed"),
        (modal.exception.ExecutionError("Could not deserialize"), "upstream_failed"),
        (ValueError("unpickled"), "upstream_failed"),
    ],
    ids=lambda value: type(value).__name__ if isinstance(value, Exception) else value,
)
async def test_every_failure_of_modal_becomes_our_own_on_every_way(error: Exception, code: str) -> None:
    ways = [
        (Script(whole=error), job()),
        (Script(whole=error), job(deadline_s=LONG_JOB_S + 1)),
        (Script(stream=[error]), long_text()),
        (Script(stream=[CALL, audio(0), error]), long_text()),
    ]
    for script, wanted in ways:
        with pytest.raises(YapitError) as caught:
            await heard(script.processor, wanted)
        assert caught.value.code == code
        assert caught.value.message.startswith("tone: ")
        assert "secret" not in str(caught.value)
        await script.processor.close()
        assert script.processor.places.running == 0


@pytest.mark.parametrize(
    ("script", "wanted", "code"),
    [
        (lambda: Script(whole=[]), job, "upstream_failed"),
        (lambda: Script(whole=b"RIFF"), job, "upstream_failed"),
        (lambda: Script(whole=[{"type": "song"}]), job, "upstream_failed"),
        (lambda: Script(whole=[ERROR]), job, "no_audio"),
        (lambda: Script(whole=[audio(0)]), job, "truncated_stream"),
        (lambda: Script(stream=[]), long_text, "upstream_failed"),
        (lambda: Script(stream=[audio(0)]), long_text, "upstream_failed"),
        (lambda: Script(stream=[CALL]), long_text, "truncated_stream"),
        (lambda: Script(stream=[CALL, audio(0), ERROR]), long_text, "no_audio"),
        (lambda: Script(stream=[CALL, {**audio(0), "duration_ms": 90.0}, DONE]), long_text, "truncated_stream"),
        (lambda: Script(stream=[CALL, audio(0), CALL, audio(0), DONE]), long_text, "truncated_stream"),
    ],
)
async def test_an_answer_that_is_not_whole_is_no_success(
    script: Callable[[], Script], wanted: Callable[[], SynthesisJob], code: str
) -> None:
    made = script()
    with pytest.raises(YapitError) as caught:
        await heard(made.processor, wanted())
    assert caught.value.code == code
    await made.processor.close()


async def test_a_generator_that_began_again_before_any_audio_is_heard_as_if_it_had_not() -> None:
    script = Script(stream=[CALL, CALL, audio(0), DONE])
    assert await heard(script.processor, long_text()) == b"\0\0"


@pytest.mark.parametrize("deadline_s", [30.0, LONG_JOB_S + 1])
async def test_time_spent_waiting_at_modal_counts_as_queue(monkeypatch: pytest.MonkeyPatch, deadline_s: float) -> None:
    moments = iter([10.0, 10.5])  # submitted, first audio
    monkeypatch.setattr("yapit.gateway.processors.tts.modal.time", SimpleNamespace(perf_counter=lambda: next(moments)))
    timings = {"queue_ms": 1.0, "cold_start_ms": 0.0, "synthesis_ms": 8.0, "encode_ms": 2.0}
    script = Script(whole=[{**audio(0), "timings": {**timings, "synthesis_ms": 0.1}}, {**DONE, "timings": timings}])
    first = await anext(script.processor.stream(job(deadline_s)))
    assert isinstance(first, AudioEvent)
    assert first.timings is not None
    assert first.timings.queue_ms == 490.0


async def test_leaving_a_stream_cancels_its_call_once() -> None:
    script = Script(stream=[CALL, audio(0), audio(1), DONE])
    events = script.processor.stream(long_text())
    await anext(events)
    await events.aclose()
    await script.processor.close()
    assert script.cancelled == ["fc-1"]


async def test_leaving_a_stream_that_is_still_queued_cancels_it_when_a_container_takes_it() -> None:
    script = Script(stream=[CALL, audio(0), DONE])
    script.stream.gate.clear()
    task = asyncio.create_task(heard(script.processor, long_text()))
    await script.stream.started.wait()
    task.cancel()
    await asyncio.gather(task, return_exceptions=True)
    assert script.cancelled == []
    script.stream.gate.set()
    await script.processor.close()
    assert script.cancelled == ["fc-1"]


async def test_leaving_a_spawned_call_cancels_it() -> None:
    script = Script(whole=WHOLE)
    script.synthesize.gate.clear()
    task = asyncio.create_task(heard(script.processor, job(LONG_JOB_S + 1)))
    await script.synthesize.started.wait()
    task.cancel()
    await asyncio.gather(task, return_exceptions=True)
    await script.processor.close()
    assert script.cancelled == ["fc-1"]


async def test_a_finished_call_is_not_cancelled() -> None:
    spawned, streamed = Script(whole=WHOLE), Script(stream=[CALL, audio(0), DONE])
    await heard(spawned.processor, job(LONG_JOB_S + 1))
    await heard(streamed.processor, long_text())
    failed = Script(stream=[CALL, audio(0), ERROR])
    with pytest.raises(YapitError):
        await heard(failed.processor, long_text())
    for script in (spawned, streamed, failed):
        await script.processor.close()
        assert script.cancelled == []


async def test_a_class_that_was_not_found_is_looked_up_again() -> None:
    script = Script(whole=modal.exception.NotFoundError("Function not found"))
    with pytest.raises(YapitError, match=r"Modal knows no yapit-tone.TTS; deploy it"):
        await heard(script.processor)
    script.synthesize.items = (WHOLE,)
    assert await heard(script.processor) == b"\0\0\1\0"
    assert script.lookups == 2


class Web:
    """A script of answers; records what was asked."""

    def __init__(self, *answers: httpx.Response) -> None:
        self.answers, self.asked = list(answers), list[str]()

    def __call__(self, request: httpx.Request) -> httpx.Response:
        assert request.headers["modal-key"] == "wk-1"
        self.asked.append(f"{request.method} {request.url}")
        return self.answers.pop(0)


def see(location: str) -> httpx.Response:
    return httpx.Response(303, headers={"location": location})


def spoken() -> httpx.Response:
    return stream_response(Pieces(sse(audio(0), DONE), 64))


@pytest.mark.parametrize(
    "location",
    [RESULT, "/synthesize?__modal_function_call_id=fc-9", RESULT.partition("?")[1] + RESULT.partition("?")[2]],
)
async def test_a_result_url_is_fetched_with_get_as_often_as_modal_says(location: str) -> None:
    web = Web(see(location), see(location), spoken())
    script = Script(web=web)
    assert await heard(script.processor) == b"\0\0"
    assert web.asked == [f"POST {URL}/synthesize", f"GET {RESULT}", f"GET {RESULT}"]
    assert script.cancelled == []


async def test_leaving_after_a_redirect_cancels_the_call_that_the_url_names() -> None:
    script = Script(web=Web(see(RESULT), stream_response(Pieces(sse(audio(0), audio(1), DONE), 64))))
    events = script.processor.stream(job())
    await anext(events)
    await events.aclose()
    await script.processor.close()
    assert script.cancelled == ["fc-9"]


@pytest.mark.parametrize(
    ("answers", "code"),
    [
        ([see("https://evil.example/x")], "upstream_failed"),
        ([see("http://me--yapit-tone-tts-web.modal.run/x")], "upstream_failed"),
        ([see(RESULT)] * (MAX_RESULT_URLS + 1), "upstream_failed"),
        ([see(RESULT), httpx.Response(401, text="modal-http: missing credentials")], "upstream_refused"),
        ([httpx.Response(401, text="modal-http: invalid credentials for proxy authorization")], "upstream_refused"),
        ([httpx.Response(404, text="modal-http: app for invoked web endpoint is stopped")], "upstream_refused"),
        ([httpx.Response(429, text="slow down", headers={"retry-after": "7"})], "overloaded"),
        ([httpx.Response(429, json={"type": "error", "code": "overloaded", "message": "m", "retryable": True})],
         "overloaded"),
        ([httpx.Response(503, text="modal-http: no container")], "worker_unavailable"),
        ([httpx.Response(500, text="modal-http: internal error: function was terminated")], "upstream_failed"),
        ([httpx.Response(500, json={**ERROR, "code": "adapter_failed"})], "adapter_failed"),
        ([stream_response(Pieces(sse(audio(0)), 64))], "truncated_stream"),
        ([stream_response(Pieces(sse(audio(0)), 64, httpx.RemoteProtocolError("incomplete chunked read")))],
         "truncated_stream"),
        ([stream_response(Pieces(sse(audio(0), ERROR), 64))], "no_audio"),
    ],
)  # fmt: skip
async def test_the_webs_failures_become_our_own(answers: list[httpx.Response], code: str) -> None:
    script = Script(web=Web(*answers))
    with pytest.raises(YapitError) as caught:
        await heard(script.processor)
    assert caught.value.code == code
    assert "secret" not in str(caught.value)
    await script.processor.close()


async def test_leaving_closes_the_connection_to_the_web_endpoint() -> None:
    stream = Pieces(sse(audio(0), audio(1), DONE), 64)
    script = Script(web=lambda _: stream_response(stream))
    events = script.processor.stream(job())
    await anext(events)
    await events.aclose()
    assert stream.closed
    assert script.cancelled == []


@pytest.mark.parametrize(
    ("fields", "said"),
    [
        ({}, "modal_app: this field is required; modal_class: this field is required"),
        ({"modal_app": "a", "modal_class": "no class"}, "modal_class: string should match"),
        ({"modal_app": "a", "modal_class": "TTS", "modal_environment": "x/y"}, "modal_environment: string should"),
        ({"modal_app": "a", "modal_class": "TTS", "colour": "red"}, "colour: no such field"),
    ],
)
def test_a_route_with_wrong_fields_is_refused(fields: dict[str, str], said: str) -> None:
    with pytest.raises(ConfigurationError, match=said):
        ModalProcessor(Route(slug="tone", processor="x", **fields), Context(Settings(_env_file=None, **TOKEN)))


@pytest.mark.parametrize(("token_id", "token_secret"), [("", ""), ("ak-1", ""), ("", "as-1")])
def test_without_a_token_a_modal_route_says_which_settings_are_missing(token_id: str, token_secret: str) -> None:
    route = Route(slug="tone", processor="x", modal_app="a", modal_class="TTS")
    settings = Settings(_env_file=None, modal_token_id=token_id, modal_token_secret=token_secret)
    with pytest.raises(ConfigurationError, match="MODAL_TOKEN_ID and MODAL_TOKEN_SECRET are not both set"):
        ModalProcessor(route, Context(settings))


def test_without_the_sdk_a_modal_route_says_what_to_install(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "modal", None)
    route = Route(slug="tone", processor="x", modal_app="a", modal_class="TTS")
    with pytest.raises(ConfigurationError, match=r"pip install 'yapit\[modal\]'"):
        ModalProcessor(route, Context(Settings(_env_file=None, **TOKEN)))
