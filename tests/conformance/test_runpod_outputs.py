"""What handlers may give and requests may ask for, where RunPod loses it, cuts it, or does what is not emulated."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator
from typing import Any

import pytest

from emulator.runpod import facts
from emulator.runpod.worker import progress_update
from tests.conformance.cloud import Cloud

NOT_JSON = [b"bytes", {"samples": {1, 2}}, float("nan"), {"x": float("inf")}, "\ud800"]


@pytest.mark.parametrize("output", NOT_JSON, ids=repr)
@pytest.mark.parametrize("kind", ["generator", "function"])
async def test_49_whatever_is_not_json_fails_the_job_and_can_be_read(output: Any, kind: str) -> None:
    async def generator(_: dict[str, Any]) -> AsyncIterator[Any]:
        yield output

    async def function(_: dict[str, Any]) -> Any:
        return output

    cloud = Cloud(handler=generator if kind == "generator" else function)
    status = await cloud.status(await cloud.run())
    assert (status["status"], status["error"][:18]) == ("FAILED", "output is not JSON")
    await cloud.close()


async def test_50_a_generator_that_never_waits_lets_others_have_their_turn() -> None:
    made: list[int] = []

    async def flood(_: dict[str, Any]) -> AsyncIterator[int]:
        for number in range(5_000):
            made.append(number)
            yield number

    cloud = Cloud(handler=flood)
    job_id = await cloud.run()
    assert 0 < len(made) < 5_000
    assert (await cloud.http.post(f"/cancel/{job_id}")).json()["status"] == "CANCELLED"
    await cloud.clock.advance(0)
    reached = len(made)
    await cloud.clock.advance(1)
    assert len(made) == reached < 5_000
    await cloud.close()


async def test_what_a_handler_does_to_its_input_stays_with_it() -> None:
    async def spoils(event: dict[str, Any]) -> AsyncIterator[str]:
        event["input"]["x"].append("spoilt")
        yield "a"

    cloud = Cloud(handler=spoils)
    job_id = await cloud.run(input={"x": []}, webhook="http://me/hook")
    await cloud.clock.advance(1)
    assert (await cloud.status(job_id))["status"] == "COMPLETED"
    assert cloud.webhooks[0]["input"] == {"x": []}
    await cloud.close()


async def test_progress_that_is_not_json_is_lost_and_the_job_goes_on(caplog: pytest.LogCaptureFixture) -> None:
    async def reports(event: dict[str, Any]) -> AsyncIterator[str]:
        progress_update(event, b"bytes")
        yield "a"

    cloud = Cloud(handler=reports)
    assert (await cloud.status(await cloud.run()))["output"] == ["a"]
    assert "its progress is lost" in caplog.text
    await cloud.close()


async def test_a_chunk_is_what_it_was_when_it_was_yielded() -> None:
    async def reuses_its_dict(_: dict[str, Any]) -> AsyncIterator[dict[str, int]]:
        chunk = {"n": 0}
        yield chunk
        chunk["n"] = 1
        yield chunk

    cloud = Cloud(handler=reuses_its_dict)
    stream = (await cloud.http.get(f"/stream/{await cloud.run()}")).json()["stream"]
    assert [part["output"]["n"] for part in stream] == [0, 1]
    await cloud.close()


@pytest.mark.parametrize(("operation", "limit_bytes"), [("run", 10 * 1024 * 1024), ("runsync", 20 * 1024 * 1024)])
async def test_42_an_output_over_the_limit_is_lost_but_its_chunks_are_not(
    cloud: Cloud, operation: str, limit_bytes: int, caplog: pytest.LogCaptureFixture
) -> None:
    call = await cloud.waiting("POST", f"/{operation}", json={"input": 1})
    (job_id,) = cloud.steps.queues
    piece = "x" * 900_000
    count = limit_bytes // len(piece) + 1
    await cloud.say(job_id, *[piece] * count, None)
    await call
    status = await cloud.status(job_id)
    assert status["status"] == "COMPLETED"
    assert "output" not in status
    assert f"over RunPod's limit of {limit_bytes:,}" in caplog.text
    assert len((await cloud.http.get(f"/stream/{job_id}")).json()["stream"]) == count


async def test_an_object_over_a_megabyte_comes_in_pieces_that_join_to_its_json(cloud: Cloud) -> None:
    job_id, chunk = await cloud.run(), {"audio": "ä" * 600_000}
    await cloud.say(job_id, chunk)
    pieces = [part["output"] for part in (await cloud.http.get(f"/stream/{job_id}")).json()["stream"]]
    assert max(len(piece.encode()) for piece in pieces) <= facts.STREAM_CHUNK_BYTES
    assert json.loads("".join(pieces)) == chunk


async def test_40_an_error_that_is_no_text_is_flagged(caplog: pytest.LogCaptureFixture) -> None:
    cloud = Cloud(handler=lambda _: {"error": {"code": 7}, "seen": 1})
    status = await cloud.status(await cloud.run())
    assert (status["status"], "error" in status, "output" in status) == ("COMPLETED", False, False)
    assert "the error is no text and is lost" in caplog.text
    await cloud.close()


async def test_an_exception_of_a_function_has_the_sdks_fields() -> None:
    async def broken(_: dict[str, Any]) -> None:
        raise ValueError("boom")

    cloud = Cloud(handler=broken)
    error = json.loads((await cloud.status(await cloud.run()))["error"])
    fields = ["error_message", "error_traceback", "error_type", "hostname", "runpod_version", "worker_id"]
    assert sorted(error) == fields
    assert (error["error_message"], error["worker_id"]) == ("boom", "worker-1")
    await cloud.close()


async def test_a_retried_job_hears_nothing_from_its_first_run() -> None:
    """The first run's handler refuses to be cancelled and answers late, while the second is at work."""
    release, runs = asyncio.Event(), list[int]()

    async def stubborn(_: dict[str, Any]) -> AsyncIterator[str]:
        runs.append(run := len(runs))
        try:
            await asyncio.Event().wait()
        except asyncio.CancelledError:
            if run == 0:
                await release.wait()
        yield f"run {run}"

    cloud = Cloud(handler=stubborn, concurrency=2)
    job_id = await cloud.run(policy={"executionTimeout": 5_000})
    await cloud.clock.advance(5)
    await cloud.http.post(f"/retry/{job_id}")
    await cloud.clock.advance(1)
    release.set()
    await cloud.clock.advance(1)
    assert (await cloud.status(job_id))["status"] == "IN_PROGRESS"
    assert runs == [0, 1]
    job = cloud.endpoint.jobs.get(job_id)
    assert job is not None
    assert not job.has_chunks
    await cloud.close()


@pytest.mark.parametrize("url", [5, "ftp://me/hook", "http://[::1", "/hook", "http://"])
async def test_a_webhook_that_is_no_address_is_400(cloud: Cloud, url: object) -> None:
    response = await cloud.http.post("/run", json={"input": 1, "webhook": url})
    assert (response.status_code, len(cloud.endpoint.jobs)) == (400, 0)


@pytest.mark.parametrize("extra", [{"s3Config": {"accessId": "x"}}, {"webhookV2": "http://me/hook"}])
async def test_what_a_job_may_not_ask_for_yet_is_501(cloud: Cloud, extra: dict[str, Any]) -> None:
    response = await cloud.http.post("/run", json={"input": 1, **extra})
    assert (response.status_code, len(cloud.endpoint.jobs)) == (501, 0)
    assert next(iter(extra)) in response.json()["error"]


async def test_a_client_that_leaves_a_long_poll_leaves_nothing_behind(cloud: Cloud) -> None:
    job = cloud.endpoint.jobs.get(await cloud.run())
    assert job is not None
    messages: asyncio.Queue[dict[str, Any]] = asyncio.Queue()
    messages.put_nowait({"type": "http.request", "body": b"", "more_body": False})
    sent: list[Any] = []

    async def send(message: Any) -> None:
        sent.append(message)

    path = f"/v2/ep/stream/{job.job_id}"
    headers = [(b"authorization", b"rp-key")]
    scope = {"type": "http", "method": "GET", "path": path, "query_string": b"", "headers": headers}
    call = asyncio.create_task(cloud.app(scope, messages.get, send))
    await cloud.clock.advance(0)
    assert job.waiting == 1
    messages.put_nowait({"type": "http.disconnect"})
    await call
    assert job.waiting == 0
