"""RunPod's worker API, items 33 to 50 of the project's checklist, over ASGI and with the clock in hand.

47 needs processes: `test_runpod_processes.py`. 49 and 50 are about the in-process worker, which is to do the same.
"""

from __future__ import annotations

import json
from collections.abc import AsyncIterator, Callable
from typing import Any

import pytest

from emulator.engine.clock import VirtualClock
from emulator.engine.jobs import Job, JobState
from emulator.engine.pool import PoolLimits, WorkerPool
from emulator.runpod import facts
from emulator.runpod.worker import HandlerWorker
from tests.conformance.remote import KEY, Remote

MIB = 1024 * 1024


@pytest.fixture
async def remote() -> AsyncIterator[Remote]:
    remote = Remote()
    yield remote
    await remote.close()


async def test_33_take_answers_an_object_and_batch_a_list(remote: Remote) -> None:
    first, second, third = [await remote.run(input={"n": n}) for n in range(3)]
    assert await remote.take() == {"id": first, "input": {"n": 0}}
    batch = await remote.get("/job-take-batch/worker-1?gpu=none&batch_size=5&job_in_progress=1")
    assert batch.result().json() == [{"id": second, "input": {"n": 1}}, {"id": third, "input": {"n": 2}}]


@pytest.mark.parametrize("size", ["0", "-1", "x", "1001"])
async def test_33_a_batch_size_out_of_range_is_400(remote: Remote, size: str) -> None:
    await remote.run()
    call = await remote.get(f"/job-take-batch/worker-1?gpu=none&batch_size={size}")
    assert call.result().status_code == 400


@pytest.mark.parametrize("path", ["job-take/worker-1?gpu=none", "job-take-batch/worker-1?batch_size=3"])
async def test_34_an_empty_take_is_held_and_answers_204(remote: Remote, path: str) -> None:
    await remote.run()
    await remote.take()
    call = await remote.get(f"/{path}")
    await remote.clock.advance(facts.JOB_TAKE_HOLD_S - 0.1)
    assert not call.done()
    await remote.clock.advance(0.1)
    assert (call.result().status_code, call.result().content) == (204, b"")


async def test_34_a_held_take_ends_with_the_next_job(remote: Remote) -> None:
    first = await remote.run()
    await remote.take()
    call = await remote.get("/job-take/worker-1?gpu=none")
    assert not call.done()
    second = await remote.run()
    assert call.result().json()["id"] == second != first


async def test_34_a_worker_that_hung_up_is_handed_nothing(remote: Remote) -> None:
    await remote.run()
    await remote.take()
    call = await remote.get("/job-take/worker-1?gpu=none")
    call.cancel()
    await remote.clock.advance(0)
    waiting = await remote.run()
    assert (await remote.status(waiting))["status"] == "IN_QUEUE"
    assert (await remote.take())["id"] == waiting


@pytest.mark.parametrize("worker", ["worker-2", "stranger"])
async def test_34_a_worker_that_is_not_of_the_endpoint_gets_nothing(remote: Remote, worker: str) -> None:
    job_id = await remote.run()
    call = await remote.get(f"/job-take/{worker}?gpu=none")
    assert not call.done()
    await remote.clock.advance(facts.STRANGER_HOLD_S)
    assert call.result().status_code == 400
    assert (await remote.status(job_id))["status"] == "IN_QUEUE"
    assert await remote.done(job_id, {"output": "late"}, worker=worker) == 200
    assert (await remote.status(job_id))["status"] == "IN_QUEUE"


async def test_35_job_stop_names_the_jobs_that_ended_from_outside(remote: Remote) -> None:
    cancelled, timed_out = await remote.run(), await remote.run(policy={"executionTimeout": 5_000})
    for _ in range(2):
        await remote.take()
    call = await remote.get("/job-stop/worker-1?gpu=none")
    assert not call.done()
    await remote.http.post(f"/cancel/{cancelled}")
    await remote.clock.advance(0)
    assert call.result().json() == {"jobsToStop": [cancelled]}
    await remote.clock.advance(5)
    assert (await remote.get("/job-stop/worker-1?gpu=none")).result().json() == {"jobsToStop": [timed_out]}
    assert (await remote.status(timed_out))["error"] == "executionTimeout exceeded"


async def test_35_a_cancelled_job_that_pings_still_name_is_to_stop_again(remote: Remote) -> None:
    job_id = (await remote.take_new())["id"]
    await remote.http.post(f"/cancel/{job_id}")
    stop = "/job-stop/worker-1?gpu=none"
    assert (await remote.get(stop)).result().json() == {"jobsToStop": [job_id]}
    await remote.ping(job_id)
    await remote.ping(job_id)
    assert (await remote.get(stop)).result().json() == {"jobsToStop": [job_id]}
    assert not (await remote.get(stop)).done()


async def test_35_job_stop_is_held_and_says_nothing_of_finished_jobs(remote: Remote) -> None:
    await remote.done((await remote.take_new())["id"], {"output": "sound"})
    call = await remote.get("/job-stop/worker-1?gpu=none")
    await remote.clock.advance(facts.JOB_STOP_HOLD_S - 0.1)
    assert not call.done()
    await remote.clock.advance(0.1)
    assert call.result().status_code == 204


async def test_36_json_is_read_under_a_forms_content_type(remote: Remote) -> None:
    job_id = await remote.run()
    await remote.take()
    assert await remote.post("job-stream", job_id, {"output": "Grüße & ="}) == 200
    assert (await remote.http.get(f"/stream/{job_id}")).json()["stream"] == [{"output": "Grüße & ="}]
    assert await remote.done(job_id, {"output": ["Grüße & ="]}) == 200
    assert (await remote.status(job_id))["output"] == ["Grüße & ="]


@pytest.mark.parametrize("body", [b"output=1", b"[]", b"", b"\xff", b"[" * 100_000])
async def test_36_a_result_that_is_not_a_json_object_is_400(remote: Remote, body: bytes) -> None:
    job_id = (await remote.take_new())["id"]
    assert await remote.done(job_id, body) == 400
    assert (await remote.status(job_id))["status"] == "IN_PROGRESS"


async def test_37_the_job_is_named_by_the_url(remote: Remote) -> None:
    first, second = (await remote.take_new())["id"], (await remote.take_new())["id"]
    await remote.done(first, {"output": 1}, **{"X-Request-ID": second})
    assert (await remote.status(first))["output"] == 1
    assert (await remote.status(second))["status"] == "IN_PROGRESS"


@pytest.mark.parametrize(("key", "status"), [(KEY, 200), ("wrong", 401), ("", 401)])
async def test_38_workers_send_the_raw_key(remote: Remote, key: str, status: int) -> None:
    job_id = (await remote.take_new())["id"]
    assert await remote.done(job_id, {"output": 1}, Authorization=key) == status
    assert (await remote.status(job_id))["status"] == ("COMPLETED" if status == 200 else "IN_PROGRESS")
    for path in ("job-take", "job-take-batch", "job-stop", "ping"):
        response = await remote.http.get(f"/{path}/worker-1", headers={"Authorization": "wrong"})
        assert response.status_code == 401, path


async def test_39_progress_on_job_done_is_not_final(remote: Remote) -> None:
    job_id = (await remote.take_new())["id"]
    await remote.done(job_id, {"status": "IN_PROGRESS", "output": {"percent": 50}})
    status = await remote.status(job_id)
    assert (status["status"], status["output"]) == ("IN_PROGRESS", {"percent": 50})
    await remote.done(job_id, {"output": "sound"})
    await remote.done(job_id, {"status": "IN_PROGRESS", "output": {"percent": 99}})  # a race of the SDK's: issue 250
    status = await remote.status(job_id)
    assert (status["status"], status["output"]) == ("COMPLETED", "sound")


async def test_40_an_error_text_is_kept_verbatim(remote: Remote) -> None:
    job_id = (await remote.take_new())["id"]
    error = '{"error_type": "<class \'ValueError\'>", "error_message": "boom"}'
    await remote.done(job_id, {"error": error})
    status = await remote.status(job_id)
    assert (status["status"], status["error"]) == ("FAILED", error)


@pytest.mark.parametrize("error", [{"code": 1}, ["boom"], 7, True])
async def test_40_an_error_that_is_no_text_is_lost_and_flagged(
    remote: Remote, caplog: pytest.LogCaptureFixture, error: Any
) -> None:
    job_id = (await remote.take_new())["id"]
    await remote.done(job_id, {"error": error})
    status = await remote.status(job_id)
    assert status["status"] == "COMPLETED"
    assert not {"error", "output"} & set(status)
    assert f"job {job_id}: the error is no text and is lost at RunPod" in caplog.text


async def test_41_output_is_kept_beside_an_error(remote: Remote) -> None:
    job_id = (await remote.take_new())["id"]
    await remote.done(job_id, {"error": "boom", "output": {"half": 1}})
    status = await remote.status(job_id)
    assert (status["status"], status["error"], status["output"]) == ("FAILED", "boom", {"half": 1})


@pytest.mark.parametrize(("excess_bytes", "status"), [(0, 200), (1, 400)])
async def test_42_a_result_that_is_too_large_is_400(remote: Remote, excess_bytes: int, status: int) -> None:
    job_id = (await remote.take_new())["id"]
    frame_bytes = len('{"output": ""}')
    output = "x" * (10 * MIB - frame_bytes + excess_bytes)
    assert await remote.done(job_id, {"output": output}) == status
    assert (await remote.status(job_id)).get("output") == (output if status == 200 else None)


async def test_43_a_result_may_come_twice_or_late(remote: Remote) -> None:
    done, cancelled = (await remote.take_new())["id"], (await remote.take_new())["id"]
    for output in (1, 2):
        assert await remote.done(done, {"output": output}) == 200
    assert (await remote.status(done))["output"] == 1
    await remote.http.post(f"/cancel/{cancelled}")
    assert await remote.done(cancelled, {"output": "late"}) == 200
    assert await remote.post("job-stream", cancelled, {"output": "late"}) == 200
    assert (await remote.status(cancelled))["status"] == "CANCELLED"
    assert (await remote.http.get(f"/stream/{cancelled}")).json()["stream"] == []
    assert (await remote.health())["jobs"]["completed"] == 1
    assert await remote.done("never-was", {"output": 1}) == 200


async def test_44_stop_pod_replaces_the_worker_once_its_jobs_are_over(remote: Remote) -> None:
    first, second = (await remote.take_new())["id"], (await remote.take_new())["id"]
    held = await remote.get("/job-take/worker-1?gpu=none")
    await remote.done(first, {"output": 1, "stopPod": True})
    third = await remote.run()
    assert not held.done()
    await remote.done(second, {"output": 2})
    assert held.result().status_code == 204
    assert (await remote.take("worker-2"))["id"] == third
    assert [entry.event for entry in remote.pool.log if entry.worker_id == "worker-1"][-2:] == ["recycled", "stopped"]


async def test_45_a_job_of_a_silent_worker_runs_once_more_then_fails(remote: Remote) -> None:
    job_id = (await remote.take_new())["id"]
    await remote.clock.advance(facts.SILENCE_S)
    status = await remote.status(job_id)
    assert (status["status"], status["retries"]) == ("IN_QUEUE", 1)
    assert (await remote.take("worker-2"))["id"] == job_id
    assert await remote.done(job_id, {"output": "late"}) == 200
    assert (await remote.status(job_id))["workerId"] == "worker-2"
    await remote.clock.advance(facts.SILENCE_S)
    status = await remote.status(job_id)
    assert (status["status"], status["error"], status["retries"]) == ("FAILED", "job timed out after 1 retries", 1)
    assert (await remote.health())["jobs"]["retried"] == 1


async def test_45_pings_keep_a_worker_and_the_jobs_that_they_name(remote: Remote) -> None:
    named, unnamed = (await remote.take_new())["id"], (await remote.take_new())["id"]
    for _ in range(5):
        await remote.clock.advance(facts.SILENCE_S / 4)
        await remote.ping(named)
    assert (await remote.status(named))["status"] == "IN_PROGRESS"
    assert (await remote.status(unnamed))["retries"] == 1
    assert (await remote.take())["id"] == unnamed


@pytest.mark.parametrize(
    ("what", "body"), [("job-stream", {"output": "a"}), ("job-done", {"status": "IN_PROGRESS", "output": 1})]
)
async def test_45_chunks_and_progress_are_signs_of_life(remote: Remote, what: str, body: dict[str, Any]) -> None:
    job_id = (await remote.take_new())["id"]
    for _ in range(5):
        await remote.clock.advance(facts.SILENCE_S / 2)
        await remote.post(what, job_id, body)
    assert "retries" not in await remote.status(job_id)


async def test_45_the_jobs_of_a_lost_worker_come_first_and_in_order(remote: Remote) -> None:
    taken = [(await remote.take_new())["id"] for _ in range(3)]
    waiting = await remote.run()
    await remote.clock.advance(facts.SILENCE_S)
    assert [(await remote.take("worker-2"))["id"] for _ in range(4)] == [*taken, waiting]


async def test_46_an_unhealthy_worker_is_counted_and_gets_nothing(remote: Remote) -> None:
    job_id = await remote.run()
    await remote.ping(status="unhealthy", check="disk", reason="full")
    call = await remote.get("/job-take/worker-1?gpu=none")
    assert not call.done()
    workers = (await remote.health())["workers"]
    assert (workers["unhealthy"], workers["ready"], workers["initializing"]) == (1, 0, 0)
    await remote.ping()
    assert call.result().json()["id"] == job_id
    assert (await remote.health())["workers"]["unhealthy"] == 0


async def test_48_first_in_first_out_and_one_worker_per_job() -> None:
    remote = Remote(max_workers=3)
    submitted = [await remote.run() for _ in range(9)]
    calls = [await remote.get(f"/job-take/worker-{1 + n % 3}?gpu=none") for n in range(12)]
    taken = [call.result().json()["id"] for call in calls if call.done()]
    assert taken == submitted
    assert sum(not call.done() for call in calls) == 3
    await remote.close()


class InProcess:
    """A pool of one in-process worker, and the job that it runs until nothing moves."""

    def __init__(self) -> None:
        self.clock = VirtualClock()
        self.job = Job("job-1", {"x": 1}, self.clock, labels={"max_output_bytes": facts.RUN_OUTPUT_BYTES})
        self.config: dict[str, Any] = {}
        self.pool = WorkerPool(lambda _: HandlerWorker(self._load), PoolLimits(max_workers=1), self.clock)

    async def run(self, handler: Callable[..., Any], **config: Any) -> Job:
        self.config = {"handler": handler, **config}
        self.pool.submit(self.job)
        await self.clock.advance(0)
        return self.job

    async def _load(self) -> dict[str, Any]:
        return self.config


@pytest.fixture
async def in_process() -> AsyncIterator[InProcess]:
    in_process = InProcess()
    yield in_process
    await in_process.pool.close()


@pytest.mark.parametrize("output", [b"bytes", {"audio": b"bytes"}, {1, 2}, object()])
async def test_49_an_output_that_is_not_json_is_refused_loudly(
    in_process: InProcess, caplog: pytest.LogCaptureFixture, output: object
) -> None:
    job = await in_process.run(lambda event: output)
    assert "not JSON and would be lost at RunPod" in (job.error or "")
    assert "not JSON and would be lost at RunPod" in caplog.text


async def test_50_a_yield_is_delivered_before_the_next_is_asked_for(in_process: InProcess) -> None:
    delivered: list[list[Any]] = []

    async def handler(event: dict[str, Any]) -> AsyncIterator[str]:
        for chunk in ("a", "b"):
            yield chunk
            delivered.append([json.loads(chunk) for chunk in in_process.job.drain()])

    await in_process.run(handler)
    assert delivered == [["a"], ["b"]]


@pytest.mark.parametrize(
    ("returned", "error", "output"),
    [
        ({"error": "boom", "half": 1}, "boom", {"half": 1}),
        ({"error": {"code": 1}}, None, None),
        ({}, None, None),
        (True, None, True),
        ("x" * (10 * MIB), None, None),
    ],
)
async def test_the_in_process_worker_ends_jobs_as_the_sdk_would(
    in_process: InProcess, returned: Any, error: str | None, output: Any
) -> None:
    job = await in_process.run(lambda event: returned)
    found = None if job.output is None else json.loads(job.output)
    assert (job.state.is_final, job.error, found) == (True, error, output)


@pytest.mark.parametrize(("returned", "config"), [({"refresh_worker": True}, {}), ("a", {"refresh_worker": True})])
async def test_44_a_handler_may_ask_for_a_fresh_worker(in_process: InProcess, returned: Any, config: Any) -> None:
    job = await in_process.run(lambda event: returned, **config)
    assert job.state is JobState.COMPLETED
    assert [entry.event for entry in in_process.pool.log][-2:] == ["recycled", "stopped"]
