"""What the processors make of upstreams that behave well and badly. The upstream is a function; there is no network."""

import asyncio
import base64
import json
from collections.abc import AsyncIterator, Callable
from types import SimpleNamespace

import httpx
import pytest

from tests.waiting import until
from yapit.contracts import AudioEvent, DoneEvent, SynthesisJob, SynthesisParameters
from yapit.errors import ConfigurationError, SynthesisTimeout, YapitError
from yapit.gateway.processors.tts.base import BaseTTSProcessor, Context
from yapit.gateway.processors.tts.local import LocalProcessor
from yapit.gateway.processors.tts.runpod import RunpodProcessor
from yapit.gateway.routes import Route
from yapit.gateway.settings import Settings

Answer = Callable[[httpx.Request], httpx.Response]

DONE = {
    "type": "done", "codec": "pcm", "sample_rate": 24_000, "channels": 1, "duration_ms": 1.0, "characters": 2,
    "timings": {"queue_ms": 0.0, "cold_start_ms": 0.0, "synthesis_ms": 1.0, "encode_ms": 0.0},
    "function": "tone", "version": "1",
}  # fmt: skip
ERROR = {"type": "error", "code": "no_audio", "message": "no sound", "retryable": False}


def audio(seq: int) -> dict[str, object]:
    return {"type": "audio", "seq": seq, "audio": base64.b64encode(bytes([seq, 0])).decode(), "duration_ms": 0.5}


def job(deadline_s: float = 30.0) -> SynthesisJob:
    return SynthesisJob("req_1", "tone", SynthesisParameters(text="Hi.", voice="any"), deadline_s)


def context(answer: Answer) -> Context:
    settings = Settings(_env_file=None, runpod_api_key="secret-key")
    return Context(settings, httpx.MockTransport(answer))


def local(answer: Answer, max_parallel: int = 2) -> LocalProcessor:
    route = Route(slug="tone", processor="x", worker_url="http://worker", max_parallel=max_parallel)
    return LocalProcessor(route, context(answer))


def runpod(answer: Answer) -> RunpodProcessor:
    return RunpodProcessor(Route(slug="tone", processor="x", runpod_endpoint_id="ep"), context(answer))


async def heard(processor: BaseTTSProcessor, wanted: SynthesisJob | None = None) -> bytes:
    events = [event async for event in processor.stream(wanted or job())]
    assert isinstance(events[-1], DoneEvent)
    return b"".join(event.decoded() for event in events if isinstance(event, AudioEvent))


def sse(*events: object) -> bytes:
    return b"".join(b"data: " + json.dumps(event).encode() + b"\n\n" for event in events)


class Pieces(httpx.AsyncByteStream):
    def __init__(self, data: bytes, size: int, error: Exception | None = None) -> None:
        self.data, self.size, self.error, self.closed = data, size, error, False

    async def __aiter__(self) -> AsyncIterator[bytes]:
        for start in range(0, len(self.data), self.size):
            yield self.data[start : start + self.size]
        if self.error:
            raise self.error

    async def aclose(self) -> None:
        self.closed = True


def stream_response(stream: httpx.AsyncByteStream) -> httpx.Response:
    return httpx.Response(200, headers={"content-type": "text/event-stream"}, stream=stream)


@pytest.mark.parametrize("size", [1, 7, 64, 10_000])
async def test_local_reads_events_however_the_network_cut_them(size: int) -> None:
    data = sse(audio(0), audio(1), DONE)
    assert await heard(local(lambda _: stream_response(Pieces(data, size)))) == b"\0\0\1\0"


def refuse(_: httpx.Request) -> httpx.Response:
    raise httpx.ConnectError("refused")


@pytest.mark.parametrize(
    ("answer", "code"),
    [
        (refuse, "worker_unavailable"),
        (lambda _: httpx.Response(429, json={}, headers={"retry-after": "9"}), "overloaded"),
        (lambda _: httpx.Response(500, json={}), "upstream_failed"),
        (lambda _: httpx.Response(500, html="<h1>oops</h1>"), "upstream_failed"),
        (lambda _: httpx.Response(404, json={}), "upstream_refused"),
        (lambda _: httpx.Response(200, html="<h1>hello</h1>"), "upstream_failed"),
        (lambda _: httpx.Response(400, json=ERROR), "no_audio"),
        (lambda _: stream_response(Pieces(sse(audio(0)), 64)), "truncated_stream"),
        (lambda _: stream_response(Pieces(sse(audio(0)), 64, httpx.ReadError("reset"))), "truncated_stream"),
        (lambda _: stream_response(Pieces(sse(audio(1), DONE), 64)), "truncated_stream"),
        (lambda _: stream_response(Pieces(sse(audio(0), ERROR), 64)), "no_audio"),
        (lambda _: stream_response(Pieces(b"data: {\n\n", 64)), "upstream_failed"),
        (lambda _: stream_response(Pieces(b"data: " + b"x" * 5_000_000, 1_000_000)), "upstream_failed"),
    ],
)
async def test_local_turns_every_failure_into_our_own(answer: Answer, code: str) -> None:
    processor = local(answer)
    with pytest.raises(YapitError) as caught:
        await heard(processor)
    assert caught.value.code == code
    assert processor.places.running == 0
    if code == "overloaded":
        assert caught.value.retry_after_s == 9


async def test_leaving_closes_the_connection_to_the_worker() -> None:
    stream = Pieces(sse(audio(0), audio(1), DONE), 64)
    events = local(lambda _: stream_response(stream)).stream(job())
    await anext(events)
    await events.aclose()
    assert stream.closed


async def test_a_whole_answer_is_read_to_its_end_so_that_the_connection_is_kept() -> None:
    class Counting(Pieces):
        is_exhausted = False

        async def __aiter__(self) -> AsyncIterator[bytes]:
            async for piece in super().__aiter__():
                yield piece
            self.is_exhausted = True

    stream = Counting(sse(audio(0), DONE), 10_000)
    await heard(local(lambda _: stream_response(stream)))
    assert stream.is_exhausted


async def test_a_job_ends_at_its_deadline() -> None:
    class Silent(Pieces):
        async def __aiter__(self) -> AsyncIterator[bytes]:
            await asyncio.Event().wait()
            yield b""

    with pytest.raises(YapitError, match=r"did not finish within 0\.02 s"):
        await heard(local(lambda _: stream_response(Silent(b"", 1))), job(deadline_s=0.02))


async def test_over_its_bounds_a_route_refuses_instead_of_growing() -> None:
    processor = local(lambda _: stream_response(Pieces(sse(audio(0), DONE), 64)), max_parallel=1)
    held = processor.stream(job())
    await anext(held)
    waiting = [asyncio.create_task(heard(processor)) for _ in range(4)]
    await asyncio.sleep(0)
    with pytest.raises(YapitError, match="1 jobs running and 4 waiting") as caught:
        await heard(processor)
    assert caught.value.http_status == 429
    await held.aclose()
    assert await asyncio.gather(*waiting) == [b"\0\0"] * 4


async def test_waiting_for_a_place_is_part_of_a_jobs_deadline() -> None:
    processor = local(lambda _: stream_response(Pieces(sse(audio(0), DONE), 64)), max_parallel=1)
    held = processor.stream(job())
    await anext(held)
    late = SynthesisJob("late", "tone", job().parameters, deadline_s=0.01)
    with pytest.raises(SynthesisTimeout, match=r"no place for the job within 0\.01 s"):
        await anext(processor.stream(late))
    assert processor.places.waiting == 0
    await held.aclose()


class Runpod:
    """A script of RunPod's answers: one list for `/stream`, one for `/status-sync`. Records what it was asked."""

    def __init__(self, stream: list[object], status: list[object] | None = None, run: object = None) -> None:
        self.stream, self.status = list(stream), list(status or [])
        self.run = run or {"id": "job-1-u1", "status": "IN_QUEUE"}
        self.asked: list[str] = []

    def __call__(self, request: httpx.Request) -> httpx.Response:
        assert request.headers["authorization"] == "Bearer secret-key"
        path = request.url.path.removeprefix("/v2/ep/")
        self.asked.append(f"{request.method} {path}")
        if path == "run":
            self.submitted = json.loads(request.content)
        script = {"run": [self.run], "stream": self.stream, "status-sync": self.status, "cancel": [{}], "health": [{}]}
        answer = script[path.partition("/")[0]].pop(0)
        if isinstance(answer, Exception):
            raise answer
        return answer if isinstance(answer, httpx.Response) else httpx.Response(200, json=answer)


def chunk(status: str, *events: object) -> dict[str, object]:
    return {"status": status, "stream": [{"output": event} for event in events]}


async def test_runpod_streams_with_one_request_at_a_time_and_no_status_call() -> None:
    api = Runpod([chunk("IN_QUEUE"), chunk("IN_PROGRESS", audio(0)), chunk("COMPLETED", audio(1), DONE)])
    assert await heard(runpod(api)) == b"\0\0\1\0"
    assert api.asked == ["POST run", *["GET stream/job-1-u1"] * 3]
    assert api.submitted["input"] == {"text": "Hi.", "voice": "any"}
    assert api.submitted["policy"] == {"executionTimeout": 30_000, "ttl": 30_000}


@pytest.mark.parametrize(
    "stream",
    [
        [chunk("IN_PROGRESS", audio(0)), httpx.ReadError("reset"), chunk("COMPLETED", audio(2), DONE)],
        [chunk("IN_PROGRESS", audio(0)), httpx.Response(502, html="<h1>bad gateway</h1>"), chunk("COMPLETED")],
        [chunk("IN_PROGRESS", audio(0)), chunk("COMPLETED")],
        [chunk("IN_PROGRESS", audio(0)), chunk("COMPLETED", audio(2), DONE)],
        [chunk("IN_PROGRESS", audio(0)), chunk("IN_PROGRESS", audio(0), audio(1))],
        [chunk("IN_PROGRESS", audio(0), audio(0), audio(1), audio(1), DONE, DONE)],
    ],
    ids=["connection lost", "502", "chunks lost", "a chunk lost", "begun again", "two at once"],
)
async def test_runpod_fetches_the_whole_output_when_chunks_were_lost(stream: list[object]) -> None:
    whole = {"status": "COMPLETED", "output": [audio(0), audio(1), audio(2), DONE]}
    api = Runpod(stream, [{"status": "IN_PROGRESS"}, whole, whole])
    assert await heard(runpod(api)) == b"\0\0\1\0\2\0"


async def test_runpod_is_asked_again_where_it_did_not_answer() -> None:
    lost = [httpx.ReadError("reset"), httpx.Response(429, headers={"retry-after": "0"}), httpx.Response(500)]
    api = Runpod([chunk("IN_PROGRESS", audio(0)), *lost, chunk("COMPLETED", audio(1), DONE)])
    assert await heard(runpod(api)) == b"\0\0\1\0"
    assert api.asked == ["POST run", *["GET stream/job-1-u1"] * 5]


async def test_a_job_whose_end_was_heard_is_left_to_complete() -> None:
    api = Runpod([chunk("IN_PROGRESS", audio(0), DONE)], [{"status": "COMPLETED"}])
    processor = runpod(api)
    await heard(processor)
    await processor.close()
    assert api.asked == ["POST run", "GET stream/job-1-u1", "GET status-sync/job-1-u1"]


async def test_a_job_whose_end_was_heard_is_cancelled_if_runpod_never_hears_of_it() -> None:
    api = Runpod([chunk("IN_PROGRESS", audio(0), DONE)], [{"status": "IN_PROGRESS"}])
    processor = runpod(api)
    await heard(processor)
    await processor.close()
    assert api.asked[2:] == ["GET status-sync/job-1-u1", "POST cancel/job-1-u1"]


@pytest.mark.parametrize(
    ("api", "code"),
    [
        (Runpod([], run=httpx.Response(401, json={})), "upstream_refused"),
        (Runpod([], run=httpx.Response(404, json={})), "upstream_refused"),
        (Runpod([], run=httpx.Response(429, json={})), "overloaded"),
        (Runpod([], run=httpx.Response(500, json={})), "upstream_failed"),
        (Runpod([], run=httpx.Response(200, html="<h1>maintenance</h1>")), "upstream_failed"),
        (Runpod([], run={"status": "IN_QUEUE"}), "upstream_failed"),
        (Runpod([], run=httpx.ConnectError("refused")), "worker_unavailable"),
        (Runpod([chunk("CANCELLED")]), "cancelled"),
        (Runpod([chunk("TIMED_OUT")]), "synthesis_timeout"),
        (Runpod([httpx.Response(404, json={})]), "synthesis_timeout"),
        (Runpod([{"status": "FAILED", "error": "executionTimeout exceeded", "stream": []}]), "synthesis_timeout"),
        (Runpod([{"status": "FAILED", "error": "worker died", "stream": []}]), "upstream_failed"),
        (Runpod([{"status": "PERPLEXED", "stream": []}]), "upstream_failed"),
        (Runpod([{"status": "IN_PROGRESS", "stream": "x"}]), "upstream_failed"),
        (Runpod([chunk("COMPLETED", ERROR)]), "no_audio"),
        (Runpod([chunk("IN_PROGRESS", audio(0), ERROR)], [{"status": "COMPLETED"}]), "no_audio"),
        (Runpod([chunk("COMPLETED")], [{"status": "COMPLETED", "output": []}]), "truncated_stream"),
        (Runpod([chunk("COMPLETED")], [{"status": "COMPLETED"}]), "truncated_stream"),
    ],
)
async def test_runpod_turns_every_failure_into_our_own(api: Runpod, code: str) -> None:
    processor = runpod(api)
    with pytest.raises(YapitError) as caught:
        await heard(processor)
    assert caught.value.code == code
    assert "secret-key" not in str(caught.value)
    await processor.close()


@pytest.mark.parametrize(("worker_queue_ms", "told_ms"), [(1.0, 490.0), (900.0, 900.0)])
async def test_time_spent_waiting_at_runpod_counts_as_queue(
    monkeypatch: pytest.MonkeyPatch, worker_queue_ms: float, told_ms: float
) -> None:
    moments = iter([10.0, 10.5])  # RunPod accepted the job, its first audio came
    clock = SimpleNamespace(perf_counter=lambda: next(moments))
    monkeypatch.setattr("yapit.gateway.processors.tts.runpod.time", clock)
    timings = {"queue_ms": worker_queue_ms, "cold_start_ms": 0.0, "synthesis_ms": 8.0, "encode_ms": 2.0}
    api = Runpod([chunk("COMPLETED", {**audio(0), "timings": timings}, DONE)])
    first = await anext(runpod(api).stream(job()))
    assert isinstance(first, AudioEvent)
    assert first.timings is not None
    assert first.timings.queue_ms == told_ms


async def test_leaving_cancels_the_job_at_runpod_once() -> None:
    api = Runpod([chunk("IN_PROGRESS", audio(0))])
    processor = runpod(api)
    events = processor.stream(job())
    await anext(events)
    await events.aclose()
    await processor.close()
    assert api.asked[-1] == "POST cancel/job-1-u1"
    assert sum(path.startswith("POST cancel") for path in api.asked) == 1


async def test_leaving_while_runpod_is_still_accepting_the_job_cancels_it_too() -> None:
    accepted = asyncio.Event()
    asked: list[str] = []

    async def slow(request: httpx.Request) -> httpx.Response:
        asked.append(request.url.path)
        await accepted.wait()
        return httpx.Response(200, json={"id": "job-1-u1", "status": "IN_QUEUE"})

    processor = runpod(slow)  # type: ignore[arg-type]
    task = asyncio.create_task(heard(processor))
    await until(lambda: asked)
    task.cancel()
    await asyncio.gather(task, return_exceptions=True)
    accepted.set()
    await processor.close()
    assert asked == ["/v2/ep/run", "/v2/ep/cancel/job-1-u1"]


def test_a_finished_job_is_not_cancelled() -> None:
    async def scenario() -> list[str]:
        api = Runpod([chunk("COMPLETED", audio(0), DONE)])
        processor = runpod(api)
        await heard(processor)
        await processor.close()
        return api.asked

    assert asyncio.run(scenario()) == ["POST run", "GET stream/job-1-u1"]


@pytest.mark.parametrize(
    ("fields", "said"),
    [
        ({}, "runpod_endpoint_id: this field is required"),
        ({"runpod_endpoint_id": "../x"}, "runpod_endpoint_id: string should match"),
        ({"runpod_endpoint_id": "ep", "colour": "red"}, "colour: no such field"),
    ],
)
def test_a_route_with_wrong_fields_is_refused(fields: dict[str, str], said: str) -> None:
    with pytest.raises(ConfigurationError, match=said):
        RunpodProcessor(Route(slug="tone", processor="x", **fields), context(refuse))


def test_without_a_key_a_runpod_route_says_which_setting_is_missing() -> None:
    route = Route(slug="tone", processor="x", runpod_endpoint_id="ep")
    with pytest.raises(ConfigurationError, match="RUNPOD_API_KEY is not set"):
        RunpodProcessor(route, Context(Settings(_env_file=None, runpod_api_key="")))
