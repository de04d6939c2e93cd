"""RunPod's client API, item by item of the project's checklist, over ASGI and with the clock in hand."""

from __future__ import annotations

import json

import pytest

from emulator.runpod import facts
from tests.conformance.cloud import KEY, Cloud


async def test_01_every_success_is_exactly_200(cloud: Cloud) -> None:
    job_id = await cloud.run()
    for method, path in (
        ("GET", f"/status/{job_id}"),
        ("GET", "/health"),
        ("POST", "/purge-queue"),
        ("POST", f"/cancel/{job_id}"),
        ("GET", f"/stream/{job_id}"),
        ("GET", f"/status-sync/{job_id}"),
    ):
        assert (await cloud.http.request(method, path)).status_code == 200, path


async def test_02_run_answers_id_and_in_queue(cloud: Cloud) -> None:
    answer = (await cloud.http.post("/run", json={"input": {"x": 1}})).json()
    assert set(answer) == {"id", "status"}
    assert answer["status"] == "IN_QUEUE"
    assert answer["id"].endswith("-u1")


@pytest.mark.parametrize("key", ["", "Bearer wrong", "wrong", f"Basic {KEY}"])
async def test_03_a_bad_key_is_401(cloud: Cloud, key: str) -> None:
    response = await cloud.http.post("/run", json={"input": {}}, headers={"Authorization": key})
    assert response.status_code == 401
    assert len(cloud.endpoint.jobs) == 0


@pytest.mark.parametrize("key", [KEY, f"Bearer {KEY}"])
async def test_04_raw_and_bearer_keys(cloud: Cloud, key: str) -> None:
    assert (await cloud.http.get("/health", headers={"Authorization": key})).status_code == 200


@pytest.mark.parametrize("body", [b"{}", b"[]", b"{", b'"x"', b'{"input":1,"policy":{"ttl":1}}'])
async def test_05_a_body_without_input_is_400(cloud: Cloud, body: bytes) -> None:
    assert (await cloud.http.post("/run", content=body)).status_code == 400


@pytest.mark.parametrize("method", ["GET", "POST"])
@pytest.mark.parametrize("operation", ["status", "status-sync", "stream"])
async def test_06_get_and_post(cloud: Cloud, method: str, operation: str) -> None:
    job_id = await cloud.run()
    await cloud.say(job_id, "a", None)
    assert (await cloud.http.request(method, f"/{operation}/{job_id}")).json()["status"] == "COMPLETED"


@pytest.mark.parametrize(("query", "held_s"), [("", 90), ("?wait=5000", 5)])
async def test_07_runsync_waits_then_answers_a_job_to_poll(cloud: Cloud, query: str, held_s: float) -> None:
    call = await cloud.waiting("POST", f"/runsync{query}", json={"input": {"x": 1}})
    await cloud.clock.advance(held_s - 0.1)
    assert not call.done()
    await cloud.clock.advance(0.1)
    answer = (await call).json()
    assert answer["status"] == "IN_PROGRESS"
    await cloud.say(answer["id"], "a", None)
    assert (await cloud.status(answer["id"]))["status"] == "COMPLETED"


async def test_08_runsync_ids_start_with_sync(cloud: Cloud) -> None:
    call = await cloud.waiting("POST", "/runsync", json={"input": {"x": 1}})
    (job_id,) = cloud.steps.queues
    await cloud.say(job_id, "sound", None)
    answer = (await call).json()
    assert answer["id"] == job_id
    assert job_id.startswith("sync-")
    assert (answer["status"], answer["output"]) == ("COMPLETED", ["sound"])


async def test_09_status_sync_is_a_long_poll(cloud: Cloud) -> None:
    job_id = await cloud.run()
    call = await cloud.waiting("GET", f"/status-sync/{job_id}?wait=60000")
    await cloud.clock.advance(30)
    assert not call.done()
    await cloud.say(job_id, "a", None)
    assert (await call).json()["status"] == "COMPLETED"


async def test_10_statuses_are_the_sdks_six() -> None:
    names = {"IN_QUEUE", "IN_PROGRESS", "COMPLETED", "FAILED", "CANCELLED", "TIMED_OUT"}
    assert set(facts.STATUS.values()) == names


async def test_11_and_12_times_are_integer_milliseconds_and_the_worker_is_named(cloud: Cloud) -> None:
    first, second = await cloud.run(), await cloud.run()
    await cloud.clock.advance(2.5)
    assert await cloud.status(second) == {"id": second, "status": "IN_QUEUE"}
    await cloud.say(first, None)
    await cloud.clock.advance(1.25)
    running = await cloud.status(second)
    assert running == {"delayTime": 2500, "id": second, "status": "IN_PROGRESS", "workerId": "worker-1"}
    await cloud.say(second, None)
    done = await cloud.status(second)
    assert list(done) == ["delayTime", "executionTime", "id", "output", "status", "workerId"]
    assert (done["delayTime"], done["executionTime"]) == (2500, 1250)
    assert {type(done["delayTime"]), type(done["executionTime"])} == {int}


async def test_13_and_14_a_stream_answer_has_status_and_list_and_drains(cloud: Cloud) -> None:
    job_id = await cloud.run()
    await cloud.say(job_id, "a", "b")
    first = (await cloud.http.get(f"/stream/{job_id}")).json()
    assert first == {"status": "IN_PROGRESS", "stream": [{"output": "a"}, {"output": "b"}]}
    await cloud.say(job_id, "c")
    assert (await cloud.http.get(f"/stream/{job_id}")).json()["stream"] == [{"output": "c"}]
    await cloud.say(job_id, None)
    assert (await cloud.http.get(f"/stream/{job_id}")).json() == {"status": "COMPLETED", "stream": []}


@pytest.mark.parametrize(("query", "held_s"), [("", 10), ("?wait=30000", 30)])
async def test_15_stream_is_held_until_a_chunk_or_the_wait_is_over(cloud: Cloud, query: str, held_s: float) -> None:
    job_id = await cloud.run()
    call = await cloud.waiting("GET", f"/stream/{job_id}{query}")
    await cloud.clock.advance(held_s - 0.1)
    assert not call.done()
    await cloud.say(job_id, "a")
    assert (await call).json()["stream"] == [{"output": "a"}]
    call = await cloud.waiting("GET", f"/stream/{job_id}{query}")
    await cloud.clock.advance(held_s)
    assert (await call).json() == {"status": "IN_PROGRESS", "stream": []}


async def test_16_the_last_chunk_may_ride_with_completed(cloud: Cloud) -> None:
    job_id = await cloud.run()
    await cloud.say(job_id, "a", None)
    assert (await cloud.http.get(f"/stream/{job_id}")).json() == {"status": "COMPLETED", "stream": [{"output": "a"}]}


@pytest.mark.parametrize(("aggregate", "output"), [(True, ["a", "b"]), (False, [])])
async def test_17_without_aggregation_the_output_is_empty(aggregate: bool, output: list[str]) -> None:
    cloud = Cloud(aggregate=aggregate)
    job_id = await cloud.run()
    await cloud.say(job_id, "a", "b", None)
    assert (await cloud.status(job_id))["output"] == output
    await cloud.close()


async def test_18_cancel_ends_queued_and_running_jobs(cloud: Cloud) -> None:
    running, queued = await cloud.run(), await cloud.run()
    for job_id in (queued, running):
        answer = (await cloud.http.post(f"/cancel/{job_id}")).json()
        assert (answer["id"], answer["status"]) == (job_id, "CANCELLED")
    await cloud.clock.advance(0)
    assert cloud.steps.stopped == [running]


async def test_19_a_late_result_never_undoes_a_cancellation(cloud: Cloud) -> None:
    job_id = await cloud.run()
    job = cloud.endpoint.jobs.get(job_id)
    assert job is not None
    await cloud.http.post(f"/cancel/{job_id}")
    assert not job.complete("late")
    assert (await cloud.status(job_id))["status"] == "CANCELLED"


@pytest.mark.parametrize("path", ["/status/x", "/stream/x", "/cancel/x", "/retry/x", "/status-sync/x"])
async def test_20_an_unknown_job_or_endpoint_is_404(cloud: Cloud, path: str) -> None:
    assert (await cloud.http.post(path)).status_code == 404
    assert (await cloud.http.post(f"http://api/v2/other{path}")).status_code == 404


@pytest.mark.parametrize(("policy", "ttl_s"), [({}, 86_400), ({"ttl": 10_000}, 10)])
async def test_21_ttl_deletes_even_a_running_job(cloud: Cloud, policy: dict[str, int], ttl_s: float) -> None:
    long_enough = {"executionTimeout": 7 * 86_400_000}
    job_id = await cloud.run(policy={**long_enough, **policy})
    await cloud.clock.advance(ttl_s - 1)
    assert (await cloud.status(job_id))["status"] == "IN_PROGRESS"
    await cloud.clock.advance(1)
    assert (await cloud.http.get(f"/status/{job_id}")).status_code == 404
    assert cloud.steps.stopped == [job_id]


@pytest.mark.parametrize("operation", ["stream", "status-sync"])
async def test_21_a_call_that_is_held_when_the_ttl_ends_is_404(cloud: Cloud, operation: str) -> None:
    job_id = await cloud.run(policy={"ttl": 10_000})
    call = await cloud.waiting("GET", f"/{operation}/{job_id}?wait=60000")
    await cloud.clock.advance(10)
    assert (await call).status_code == 404


@pytest.mark.parametrize(("policy", "limit_s"), [({}, 600), ({"executionTimeout": 5_000}, 5)])
async def test_22_the_execution_timeout_fails_the_job(cloud: Cloud, policy: dict[str, int], limit_s: float) -> None:
    job_id = await cloud.run(policy=policy)
    await cloud.clock.advance(limit_s)
    status = await cloud.status(job_id)
    assert (status["status"], status["error"]) == ("FAILED", "executionTimeout exceeded")


async def test_23_retry_runs_a_failed_job_again_under_its_id(cloud: Cloud) -> None:
    job_id = await cloud.run()
    assert (await cloud.http.post(f"/retry/{job_id}")).status_code == 400
    await cloud.say(job_id, "half", ValueError("boom"))
    failed = await cloud.status(job_id)
    assert failed["status"] == "FAILED"
    assert failed["error"].startswith("handler: boom \ntraceback: ")
    assert (await cloud.http.post(f"/retry/{job_id}")).json() == {"id": job_id, "status": "IN_QUEUE"}
    await cloud.clock.advance(0)
    again = await cloud.status(job_id)
    assert (again["status"], again["retries"]) == ("IN_PROGRESS", 1)
    assert not {"error", "output"} & set(again)
    await cloud.say(job_id, "whole", None)
    assert (await cloud.status(job_id))["output"] == ["whole"]
    assert (await cloud.http.post(f"/retry/{job_id}")).status_code == 400


async def test_24_purge_removes_what_waits_and_leaves_what_runs(cloud: Cloud) -> None:
    running, *_ = [await cloud.run() for _ in range(3)]
    assert (await cloud.http.post("/purge-queue")).json() == {"removed": 2, "status": "completed"}
    assert (await cloud.status(running))["status"] == "IN_PROGRESS"


async def test_25_health_has_five_job_and_six_worker_counters(cloud: Cloud) -> None:
    done, failed, _, _ = [await cloud.run() for _ in range(4)]
    await cloud.say(done, None)
    await cloud.say(failed, ValueError("boom"))
    assert (await cloud.http.get("/health")).json() == {
        "jobs": {"completed": 1, "failed": 1, "inProgress": 1, "inQueue": 1, "retried": 0},
        "workers": {"idle": 0, "initializing": 0, "ready": 1, "running": 1, "throttled": 0, "unhealthy": 0},
    }


@pytest.mark.parametrize(("operation", "limit_mb"), [("run", 10), ("runsync", 20)])
async def test_26_request_bodies_are_limited(cloud: Cloud, operation: str, limit_mb: int) -> None:
    body = json.dumps({"input": "x" * (limit_mb * 1024 * 1024)}).encode()
    response = await cloud.http.post(f"/{operation}", content=body)
    assert response.status_code == 413
    assert f"{limit_mb * 1024 * 1024:,}" in response.json()["error"]


@pytest.mark.parametrize(("operation", "kept_s"), [("run", 30 * 60), ("runsync", 60)])
async def test_27_results_are_kept_for_a_while(cloud: Cloud, operation: str, kept_s: float) -> None:
    call = await cloud.waiting("POST", f"/{operation}", json={"input": {"x": 1}})
    (job_id,) = cloud.steps.queues
    await cloud.say(job_id, None)
    await call
    await cloud.clock.advance(kept_s - 1)
    assert (await cloud.status(job_id))["status"] == "COMPLETED"
    await cloud.clock.advance(1)
    assert (await cloud.http.get(f"/status/{job_id}")).status_code == 404


async def test_29_a_webhook_gets_the_whole_job_three_times_at_most(cloud: Cloud) -> None:
    cloud.webhook_answers = [500, 503, 500]
    job_id = await cloud.run(webhook="http://me/hook")
    await cloud.say(job_id, "a", None)
    await cloud.clock.advance(60)
    assert [call.pop("at_s") for call in cloud.webhooks] == [0, 5, 20]
    assert cloud.webhooks[0] == {**await cloud.status(job_id), "input": {"x": 1}, "webhook": "http://me/hook"}
    assert (await cloud.status(job_id))["status"] == "COMPLETED"


async def test_29_a_webhook_that_was_taken_is_not_sent_again(cloud: Cloud) -> None:
    await cloud.say(await cloud.run(webhook="http://me/hook"), None)
    await cloud.clock.advance(60)
    assert len(cloud.webhooks) == 1


async def test_30_progress_is_visible_and_replaced_by_the_result(cloud: Cloud) -> None:
    job_id = await cloud.run()
    job = cloud.endpoint.jobs.get(job_id)
    assert job is not None
    job.progress({"percent": 50})
    assert (await cloud.status(job_id))["output"] == {"percent": 50}
    await cloud.say(job_id, "a", None)
    assert (await cloud.status(job_id))["output"] == ["a"]


async def test_31_low_priority_does_not_scale_up() -> None:
    cloud = Cloud(max_workers=3)
    await cloud.run()
    for _ in range(3):
        await cloud.run(policy={"lowPriority": True})
    assert sum(cloud.pool.workers().values()) == 1
    await cloud.close()


async def test_32_an_empty_input_fails_as_in_production(cloud: Cloud, caplog: pytest.LogCaptureFixture) -> None:
    job_id = await cloud.run(input={})
    status = await cloud.status(job_id)
    assert (status["status"], status["error"]) == ("FAILED", "job timed out after 1 retries")
    assert "empty input" in caplog.text


async def test_49_an_output_that_is_not_json_fails_loudly(cloud: Cloud) -> None:
    job_id = await cloud.run()
    await cloud.say(job_id, b"bytes")
    status = await cloud.status(job_id)
    assert status["status"] == "FAILED"
    assert "not JSON and would be lost at RunPod" in status["error"]


async def test_a_text_chunk_above_a_megabyte_is_split(cloud: Cloud) -> None:
    job_id = await cloud.run()
    await cloud.say(job_id, "x" * 2_500_000)
    stream = (await cloud.http.get(f"/stream/{job_id}")).json()["stream"]
    assert [len(chunk["output"]) for chunk in stream] == [1_000_000, 1_000_000, 500_000]


@pytest.mark.parametrize("wait", ["abc", "10", "300001", "-1"])
async def test_a_wait_out_of_range_is_400(cloud: Cloud, wait: str) -> None:
    assert (await cloud.http.get(f"/stream/{await cloud.run()}?wait={wait}")).status_code == 400
