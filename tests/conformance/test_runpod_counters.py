"""What RunPod tells of an endpoint besides its jobs: `/metrics`, `/requests`, and `status?ttl=`."""

from __future__ import annotations

import pytest

from tests.conformance.cloud import Cloud


async def test_metrics_names_the_ready_workers_and_counts_all(cloud: Cloud) -> None:
    """As runpod-flash reads it: a list of ids, and the six counters of `/health`."""
    assert (await cloud.http.get("/metrics")).json()["readyWorkers"] == []
    await cloud.run()
    metrics = (await cloud.http.get("/metrics")).json()
    assert metrics["readyWorkers"] == ["worker-1"]
    assert metrics["workers"] == (await cloud.http.get("/health")).json()["workers"]
    assert metrics["workers"]["running"] == 1


async def test_requests_lists_the_jobs_without_their_outputs(cloud: Cloud) -> None:
    done, waiting = await cloud.run(), await cloud.run()
    await cloud.say(done, "sound", None)
    requests = {request["id"]: request for request in (await cloud.http.get("/requests")).json()["requests"]}
    assert (requests[done]["status"], requests[waiting]["status"]) == ("COMPLETED", "IN_PROGRESS")
    assert all("output" not in request for request in requests.values())


@pytest.mark.parametrize("is_done", [True, False])
async def test_status_with_a_ttl_sets_how_long_the_job_is_kept(cloud: Cloud, is_done: bool) -> None:
    job_id = await cloud.run()
    if is_done:
        await cloud.say(job_id, None)
    assert (await cloud.http.get(f"/status/{job_id}?ttl=6000")).json()["id"] == job_id
    await cloud.clock.advance(5.9)
    assert (await cloud.http.get(f"/status/{job_id}")).status_code == 200
    await cloud.clock.advance(0.2)
    assert (await cloud.http.get(f"/status/{job_id}")).status_code == 404
    assert cloud.pool.running == 0


@pytest.mark.parametrize("ttl", ["0", "-1", "soon", "604800001"])
async def test_a_ttl_that_is_none_is_refused(cloud: Cloud, ttl: str) -> None:
    job_id = await cloud.run()
    assert (await cloud.http.get(f"/status/{job_id}?ttl={ttl}")).status_code == 400


@pytest.mark.parametrize(
    ("method", "path", "body"),
    [
        ("POST", "/batch", {"inputs": []}),
        ("POST", "/run", {"input": {"x": 1}, "s3Config": {"accessId": "a"}}),
        ("POST", "/run", {"input": {"x": 1}, "webhookV2": "http://example.test"}),
    ],
)
async def test_what_is_not_here_says_so_loudly(cloud: Cloud, method: str, path: str, body: object) -> None:
    answer = await cloud.http.request(method, path, json=body)
    assert answer.status_code == 501
    assert "does not implement" in answer.json()["error"]
    assert "POST /v2/{id}/run" in answer.json()["implemented"]
    assert not any("webhookV2" in name for name in answer.json()["implemented"])
