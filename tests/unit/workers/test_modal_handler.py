from typing import Any

import cbor2
import httpx
import pytest

from tests import adapters
from tests.unit.workers.test_runner import make_runner, pcm_of
from yapit.contracts import parse_event
from yapit.errors import WorkerUnavailable
from yapit.workers.handlers.modal import ModalWorker

JOB = {"text": "Hello there.", "voice": "any"}


class Staged(adapters.Tone):
    """Says in which order it was brought up and closed."""

    def __init__(self) -> None:
        self.steps: list[str] = []

    async def load(self) -> None:
        self.steps.append("load")

    async def initialize(self) -> None:
        self.steps.append("initialize")

    async def close(self) -> None:
        self.steps.append("close")


async def test_a_whole_call_answers_the_events() -> None:
    events = cbor2.loads(cbor2.dumps(await ModalWorker(make_runner(adapters.Tone())).synthesize(JOB)))
    parsed = [parse_event(event) for event in events]
    assert [event.type for event in parsed] == ["audio", "done"]
    assert pcm_of(parsed) == adapters.tone("Hello there.")


async def test_a_stream_says_its_call_first_then_the_same_events() -> None:
    worker = ModalWorker(make_runner(adapters.Tone()))
    call, *events = [item async for item in worker.stream(JOB, "fc-123")]
    assert call == {"type": "call", "call_id": "fc-123"}
    assert pcm_of([parse_event(event) for event in events]) == adapters.tone("Hello there.")


@pytest.mark.parametrize(("job", "code"), [({"text": "Hi."}, "invalid_request"), (None, "invalid_request")])
async def test_a_bad_input_is_an_event_not_an_exception(job: Any, code: str) -> None:
    worker = ModalWorker(make_runner(adapters.Tone()))
    (whole,) = await worker.synthesize(job)
    _, streamed = [item async for item in worker.stream(job, "fc-1")]
    assert whole["code"] == streamed["code"] == code


async def test_closing_the_stream_stops_the_adapter() -> None:
    adapter = adapters.Gated()
    stream = ModalWorker(make_runner(adapter)).stream(JOB, "fc-1")
    await anext(stream)
    await anext(stream)
    assert adapter.open_streams == 1
    await stream.aclose()
    assert adapter.open_streams == 0


async def test_what_is_loaded_before_the_snapshot_is_not_loaded_again_after_it() -> None:
    adapter = Staged()
    worker = ModalWorker(make_runner(adapter))
    await worker.load()
    assert adapter.steps == ["load"]
    await worker.start()
    await worker.start()
    assert adapter.steps == ["load", "initialize"]


async def test_without_a_snapshot_the_start_does_both_and_the_end_comes_once() -> None:
    adapter = Staged()
    worker = ModalWorker(make_runner(adapter))
    await worker.start()
    await worker.stop()
    await worker.stop()
    assert adapter.steps == ["load", "initialize", "close"]


async def test_a_load_that_fails_says_so_and_is_tried_again() -> None:
    class Flaky(Staged):
        async def load(self) -> None:
            await super().load()
            if len(self.steps) == 1:
                raise OSError("volume not mounted")

    adapter = Flaky()
    worker = ModalWorker(make_runner(adapter))
    with pytest.raises(WorkerUnavailable, match="failed to start: OSError"):
        await worker.load()
    await worker.start()
    assert adapter.steps == ["load", "load", "initialize"]


async def test_the_web_endpoint_is_the_http_worker_over_the_same_adapter() -> None:
    adapter = Staged()
    worker = ModalWorker(make_runner(adapter))
    await worker.start()
    transport = httpx.ASGITransport(worker.web())
    async with httpx.AsyncClient(transport=transport, base_url="http://modal") as client:
        assert (await client.get("/ready")).status_code == 200
        response = await client.post("/synthesize", json=JOB, headers={"Accept": "text/event-stream"})
    assert response.headers["content-type"].startswith("text/event-stream")
    assert adapter.steps == ["load", "initialize"]
