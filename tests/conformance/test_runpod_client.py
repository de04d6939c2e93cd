"""RunPod's client API, item by item of the project's checklist, by its own SDK and plain HTTP: over workers in this
process, over worker processes that run the vendor's own loop, or in the cloud (`make conformance-runpod-cloud`).

What takes hours stands in `test_runpod_client_api.py`, with the clock in hand.
"""

from __future__ import annotations

import json
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

import httpx
import pytest

from tests.conformance.ahead import begun_ahead
from tests.conformance.backends import KINDS, Backend, WorkerCall
from tests.conformance.clients import CLIENTS, SDKS, Client, connect
from tests.conformance.function.handler import CONCURRENCY

pytestmark = pytest.mark.filterwarnings("ignore::DeprecationWarning", "ignore::ResourceWarning")

STATUSES = {"IN_QUEUE", "IN_PROGRESS", "COMPLETED", "FAILED", "CANCELLED", "TIMED_OUT"}
UNKNOWN = "00000000-0000-4000-8000-000000000000-u1"
MIB = 1024 * 1024


def steps(*listed: dict[str, Any], **more: Any) -> dict[str, Any]:
    return {"steps": list(listed), **more}


SHORT = steps({"chunk": "a"})
LONG = steps({"chunk": "a"}, {"sleep_s": 120})


@pytest.fixture
def http(backend: Backend) -> Iterator[httpx.Client]:
    with backend.http() as http:
        yield http


@pytest.fixture(params=CLIENTS)
def client(request: pytest.FixtureRequest, backend: Backend) -> Iterator[Client]:
    client = connect(request.param, backend)
    yield client
    client.close()


def run(http: httpx.Client, job_input: dict[str, Any], **body: Any) -> str:
    response = http.post("/run", json={"input": job_input, **body})
    assert response.status_code == 200, response.text
    return response.json()["id"]


def final(http: httpx.Client, job_id: str) -> dict[str, Any]:
    """The job's status once it is over."""
    answer = {"status": "IN_QUEUE"}
    while answer["status"] in ("IN_QUEUE", "IN_PROGRESS"):
        answer = http.get(f"/status-sync/{job_id}?wait=60000").json()
    return answer


def begun(http: httpx.Client, job_id: str) -> None:
    """Wait for the job's first chunk."""
    while not (answer := http.get(f"/stream/{job_id}?wait=30000").json())["stream"]:
        assert answer["status"] in ("IN_QUEUE", "IN_PROGRESS")


def status(http: httpx.Client, job_id: str) -> dict[str, Any]:
    return http.get(f"/status/{job_id}").json()


@contextmanager
def busy(http: httpx.Client) -> Iterator[list[str]]:
    """As many jobs as its one worker serves, all begun. They are cancelled afterwards."""
    jobs = [run(http, LONG) for _ in range(CONCURRENCY)]
    try:
        for job_id in jobs:
            begun(http, job_id)
        yield jobs
    finally:
        for job_id in jobs:
            http.post(f"/cancel/{job_id}")


def test_01_every_success_is_exactly_200(http: httpx.Client) -> None:
    job_id = run(http, SHORT)
    final(http, job_id)
    for method, path in (
        ("GET", f"/status/{job_id}"),
        ("GET", f"/stream/{job_id}"),
        ("GET", f"/status-sync/{job_id}"),
        ("POST", f"/cancel/{job_id}"),
        ("GET", "/health"),
    ):
        assert http.request(method, path).status_code == 200, path
    assert http.post("/runsync", json={"input": SHORT}).status_code == 200


def test_02_run_answers_an_id_and_in_queue(http: httpx.Client) -> None:
    answer = http.post("/run", json={"input": SHORT}).json()
    assert answer == {"id": answer["id"], "status": "IN_QUEUE"}


def test_02_a_job_that_was_run_can_be_asked_for(client: Client) -> None:
    assert client.status(client.run(SHORT)) in STATUSES


def test_03_a_bad_key_is_401(backend: Backend, http: httpx.Client) -> None:
    for key in ("Bearer wrong", "wrong", ""):
        assert http.post("/run", json={"input": SHORT}, headers={"Authorization": key}).status_code == 401
    with pytest.raises(RuntimeError, match="401"):
        connect("runpod.Endpoint", backend, key="wrong").run(SHORT)


def test_04_raw_and_bearer_keys(backend: Backend, http: httpx.Client) -> None:
    for key in (backend.key, f"Bearer {backend.key}"):
        assert http.get("/health", headers={"Authorization": key}).status_code == 200


@pytest.mark.parametrize("body", [b"{}", b"[]", b"{", b'"x"'])
def test_05_a_body_without_input_is_400(http: httpx.Client, body: bytes) -> None:
    assert http.post("/run", content=body, headers={"Content-Type": "application/json"}).status_code == 400


@pytest.mark.parametrize("operation", ["status", "status-sync", "stream"])
def test_06_get_and_post(http: httpx.Client, operation: str) -> None:
    job_id = run(http, SHORT)
    final(http, job_id)
    for method in ("GET", "POST"):
        response = http.request(method, f"/{operation}/{job_id}")
        assert (response.status_code, response.json()["status"]) == (200, "COMPLETED")


@begun_ahead("http")
def test_07_runsync_waits_so_long_then_answers_a_job_to_poll(backend: Backend, client: str) -> None:
    with backend.http() as http:
        started_at = time.monotonic()
        answer = http.post("/runsync?wait=1000", json={"input": steps({"sleep_s": 3}, {"chunk": "a"})}).json()
        assert 0.9 < time.monotonic() - started_at < 3
        assert answer["status"] in ("IN_QUEUE", "IN_PROGRESS")
        assert final(http, answer["id"])["output"] == ["a"]


def test_08_runsync_answers_the_output_and_its_ids_start_with_sync(http: httpx.Client) -> None:
    answer = http.post("/runsync", json={"input": SHORT}).json()
    assert (answer["status"], answer["output"]) == ("COMPLETED", ["a"])
    assert answer["id"].startswith("sync-")


def test_09_status_sync_is_a_long_poll(http: httpx.Client) -> None:
    job_id = run(http, steps({"chunk": "a"}, {"sleep_s": 0.5}))
    begun(http, job_id)
    answer = http.get(f"/status-sync/{job_id}?wait=60000").json()
    assert answer["status"] == "COMPLETED"
    assert answer["executionTime"] >= 500


@begun_ahead(*CLIENTS)
def test_10_statuses_and_output_are_what_the_sdk_knows(backend: Backend, client: str) -> None:
    asked = connect(client, backend)
    job_id = asked.run(steps({"chunk": "a"}, {"sleep_s": 0.3}, {"chunk": {"b": [1, None, "ü"]}}))
    assert asked.status(job_id) in STATUSES
    assert asked.output(job_id, 60) == ["a", {"b": [1, None, "ü"]}]
    assert asked.status(job_id) == "COMPLETED"
    asked.close()


@begun_ahead("runpod.Endpoint")
def test_10_run_sync_is_the_output(backend: Backend, client: str) -> None:
    import runpod

    endpoint = runpod.Endpoint(backend.endpoint("generator"), api_key=backend.key)
    assert endpoint.run_sync(SHORT) == ["a"]
    assert endpoint.run_sync(steps({"raise": "boom"})) is None  # the SDK loses the error
    endpoint.rp_client.rp_session.close()


def test_11_times_are_integer_milliseconds(http: httpx.Client) -> None:
    answer = final(http, run(http, steps({"sleep_s": 0.2})))
    assert {type(answer["delayTime"]), type(answer["executionTime"])} == {int}
    assert 200 <= answer["executionTime"] < 5_000
    assert list(answer) == sorted(answer)


def test_12_the_worker_is_named_once_it_has_the_job(http: httpx.Client) -> None:
    job_id = run(http, LONG)
    begun(http, job_id)
    running = status(http, job_id)
    assert (running["status"], type(running["workerId"])) == ("IN_PROGRESS", str)
    http.post(f"/cancel/{job_id}")


@begun_ahead(*SDKS)
def test_13_a_stream_can_be_read_by_the_sdk(backend: Backend, client: str) -> None:
    asked = connect(client, backend)
    job_id = asked.run(steps({"chunk": "a"}, {"sleep_s": 0.2}, {"chunk": "b"}))
    assert asked.stream(job_id) == ["a", "b"]
    asked.close()


def test_13_a_stream_answer_has_a_status_and_a_list(http: httpx.Client) -> None:
    job_id = run(http, steps({"sleep_s": 0.3}))
    for _ in range(2):
        answer = http.get(f"/stream/{job_id}?wait=1000").json()
        assert (answer["status"] in STATUSES, answer["stream"]) == (True, [])
    final(http, job_id)


def test_14_and_16_every_chunk_is_streamed_once_the_last_with_completed_or_before(
    backend: Backend, http: httpx.Client
) -> None:
    client = connect("http", backend)
    job_id = client.run(steps(*({"chunk": number} for number in range(20))))
    assert client.stream(job_id) == list(range(20))
    assert http.get(f"/stream/{job_id}").json() == {"status": "COMPLETED", "stream": []}
    assert client.output(job_id, 60) == list(range(20))
    client.close()


@begun_ahead("http")
def test_15_a_stream_is_held_until_there_is_a_chunk(backend: Backend, client: str) -> None:
    with backend.http() as http:
        job_id = run(http, steps({"chunk": "a"}, {"sleep_s": 3}, {"chunk": "b"}, {"sleep_s": 120}))
        begun(http, job_id)
        started_at = time.monotonic()
        answer = http.get(f"/stream/{job_id}?wait=60000").json()
        assert answer == {"status": "IN_PROGRESS", "stream": [{"output": "b"}]}
        assert time.monotonic() - started_at < 30
        started_at = time.monotonic()
        assert http.get(f"/stream/{job_id}?wait=1000").json() == {"status": "IN_PROGRESS", "stream": []}
        assert time.monotonic() - started_at > 0.9
        http.post(f"/cancel/{job_id}")


def test_17_without_aggregation_the_output_is_empty(backend: Backend) -> None:
    with backend.http("plain") as http:
        job_id = run(http, SHORT)
        assert final(http, job_id)["output"] == []
        assert http.get(f"/stream/{job_id}").json()["stream"] == [{"output": "a"}]


def test_18_cancel_ends_queued_and_running_jobs(backend: Backend, http: httpx.Client, client: Client) -> None:
    with busy(http) as running:
        queued = run(http, SHORT)
        assert status(http, queued)["status"] == "IN_QUEUE"
        for job_id in (queued, running[0]):
            started_at = time.monotonic()
            assert client.cancel(job_id)["status"] == "CANCELLED"
            assert time.monotonic() - started_at < 3
            assert client.status(job_id) == "CANCELLED"


def test_19_a_late_result_never_undoes_a_cancellation(http: httpx.Client) -> None:
    stubborn = run(http, steps({"chunk": "a"}, {"stubborn_s": 0.2}, {"chunk": "late"}))
    begun(http, stubborn)
    http.post(f"/cancel/{stubborn}")
    final(http, run(http, steps({"sleep_s": 0.5})))  # by now the worker has said how the first one ended
    answer = status(http, stubborn)
    assert (answer["status"], answer.get("output")) == ("CANCELLED", None)


def test_20_an_unknown_job_is_404(client: Client, http: httpx.Client) -> None:
    for path in ("status", "stream", "status-sync", "cancel", "retry"):
        assert http.post(f"/{path}/{UNKNOWN}").status_code == 404, path
    with pytest.raises(Exception, match=r"404|'status'"):  # the asyncio client looks for a status in the error
        client.status(UNKNOWN)


@begun_ahead("http")
def test_21_ttl_deletes_even_a_running_job(backend: Backend, client: str) -> None:
    with backend.http() as http:
        final(http, run(http, SHORT))  # a worker is there: the time to live counts from submission
        started_at = time.monotonic()
        job_id = run(http, LONG, policy={"ttl": 10_000, "executionTimeout": 120_000})
        begun(http, job_id)
        assert status(http, job_id)["status"] == "IN_PROGRESS"
        http.get(f"/status-sync/{job_id}?wait=60000")
        assert http.get(f"/status/{job_id}").status_code == 404
        assert 9 < time.monotonic() - started_at < 30


@begun_ahead("http")
def test_22_the_execution_timeout_fails_the_job(backend: Backend, client: str) -> None:
    with backend.http() as http:
        answer = final(http, run(http, LONG, policy={"executionTimeout": 5_000}))
        assert (answer["status"], answer["error"]) == ("FAILED", "executionTimeout exceeded")
        assert 4_900 <= answer["executionTime"] < 10_000


def test_23_retry_runs_a_failed_job_again_under_its_id(http: httpx.Client) -> None:
    job_id = run(http, steps({"chunk": "half"}, {"raise": "boom"}))
    failed = final(http, job_id)
    assert (failed["status"], failed["error"].startswith("handler: boom \ntraceback: ")) == ("FAILED", True)
    assert http.post(f"/retry/{job_id}").json() == {"id": job_id, "status": "IN_QUEUE"}
    again = final(http, job_id)
    assert (again["status"], again["id"], again.get("output")) == ("FAILED", job_id, None)
    done = run(http, SHORT)
    final(http, done)
    assert http.post(f"/retry/{done}").status_code == 400


@pytest.mark.parametrize(("client", "kind"), [*zip(CLIENTS, KINDS, strict=True)])
def test_24_purge_answers_how_many_were_removed(backend: Backend, client: str, kind: str) -> None:
    asked = connect(client, backend, kind)  # each on an endpoint of its own: twice in 10 s is the limit
    answer = asked.purge()
    assert (type(answer["removed"]), answer["status"]) == (int, "completed")
    asked.close()


def test_24_purge_leaves_what_runs(http: httpx.Client) -> None:
    with busy(http) as running:
        queued = [run(http, SHORT) for _ in range(2)]
        assert http.post("/purge-queue").json() == {"removed": 2, "status": "completed"}
        assert {status(http, job_id)["status"] for job_id in running} == {"IN_PROGRESS"}
        assert [http.get(f"/status/{job_id}").json().get("status") for job_id in queued] == ["CANCELLED"] * 2


def test_25_health_has_five_job_and_six_worker_counters(client: Client) -> None:
    health = client.health()
    assert set(health["jobs"]) == {"completed", "failed", "inProgress", "inQueue", "retried"}
    assert set(health["workers"]) == {"idle", "initializing", "ready", "running", "throttled", "unhealthy"}
    assert {type(count) for counts in health.values() for count in counts.values()} == {int}


@pytest.mark.parametrize(("operation", "limit_mib"), [("run", 10), ("runsync", 20)])
def test_26_request_bodies_are_limited(http: httpx.Client, operation: str, limit_mib: int) -> None:
    response = http.post(f"/{operation}", json={"input": {"text": "x" * (limit_mib * MIB)}})
    assert response.status_code in (400, 413)
    fits = {"input": steps(text="x" * (limit_mib * MIB - 1_000))}
    assert http.post(f"/{operation}", json=fits).status_code == 200


def test_28_purging_more_than_twice_in_ten_seconds_is_429(http: httpx.Client) -> None:
    assert 429 in [http.post("/purge-queue").status_code for _ in range(3)]


class _Webhooks(BaseHTTPRequestHandler):
    received: list[dict[str, Any]]
    arrived: threading.Event

    def do_POST(self) -> None:
        self.received.append(json.loads(self.rfile.read(int(self.headers["Content-Length"]))))
        self.send_response(200)
        self.end_headers()
        self.arrived.set()

    def log_message(self, *_: object) -> None: ...


def test_29_a_webhook_gets_the_whole_job_its_input_and_the_address(backend: Backend, http: httpx.Client) -> None:
    if backend.is_cloud:
        pytest.skip("the cloud cannot reach this machine")
    handler = type("Webhooks", (_Webhooks,), {"received": [], "arrived": threading.Event()})
    with ThreadingHTTPServer(("127.0.0.1", 0), handler) as server:
        threading.Thread(target=server.serve_forever, args=(0.01,), daemon=True).start()
        url = f"http://127.0.0.1:{server.server_port}/hook"
        job_id = run(http, SHORT, webhook=url)
        assert handler.arrived.wait(backend.patience_s)
        server.shutdown()
    assert handler.received == [{**final(http, job_id), "input": SHORT, "webhook": url}]


def test_30_and_39_progress_is_visible_ends_nothing_and_is_replaced_by_the_result(http: httpx.Client) -> None:
    job_id = run(http, steps({"progress": {"percent": 50}}, {"sleep_s": 1}, {"chunk": "a"}))
    seen: list[Any] = []
    while (answer := status(http, job_id))["status"] in ("IN_QUEUE", "IN_PROGRESS"):
        seen.append(answer.get("output"))
    assert {"percent": 50} in seen
    assert (answer["status"], answer["output"]) == ("COMPLETED", ["a"])


def test_31_low_priority_does_not_scale_up(backend: Backend) -> None:
    if backend.is_cloud:
        pytest.skip("needs to know the workers' scaling")
    with backend.http("plain") as http, busy(http) as _:
        waiting = run(http, SHORT, policy={"lowPriority": True})
        workers = http.get("/health").json()["workers"]
        assert (workers["running"], workers["initializing"]) == (1, 0)
        assert http.post(f"/cancel/{waiting}").json()["status"] == "CANCELLED"


@begun_ahead("http")
def test_32_an_empty_input_fails_as_in_production(backend: Backend, client: str) -> None:
    with backend.http() as http:
        answer = final(http, run(http, {}))
        assert (answer["status"], answer["error"]) == ("FAILED", "job timed out after 1 retries")


# what a worker says, as a client sees it


@pytest.mark.parametrize(
    ("returned", "expected"),
    [
        ({"error": "boom", "half": 1}, {"status": "FAILED", "error": "boom", "output": {"half": 1}}),
        ({"error": {"code": 1}, "half": 1}, {"status": "COMPLETED"}),
        ({}, {"status": "COMPLETED"}),
        (True, {"status": "COMPLETED", "output": True}),
        ([1, "ü"], {"status": "COMPLETED", "output": [1, "ü"]}),
    ],
    ids=["error and output", "error that is no text", "nothing", "a bool", "a list"],
)
def test_40_and_41_what_a_function_returns_is_what_the_client_gets(
    backend: Backend, returned: Any, expected: dict[str, Any]
) -> None:
    with backend.http("function") as http:
        answer = final(http, run(http, {"return": returned}))
        assert {key: answer[key] for key in ("status", "error", "output") if key in answer} == expected


def test_40_an_exception_is_a_json_text(backend: Backend) -> None:
    with backend.http("function") as http:
        answer = final(http, run(http, steps({"raise": "boom"})))
        error = json.loads(answer["error"])
        assert (error["error_type"], error["error_message"]) == ("<class 'ValueError'>", "boom")
        assert {"error_traceback", "hostname", "worker_id", "runpod_version"} < set(error)


def test_42_an_output_over_the_limit_is_lost_but_its_chunks_are_not(http: httpx.Client) -> None:
    count = 11
    job_id = run(http, steps(*[{"chunk_bytes": 999_000}] * count))
    chunks: list[str] = []
    while len(chunks) < count:
        answer = http.get(f"/stream/{job_id}?wait=10000").json()
        chunks += [chunk["output"] for chunk in answer["stream"]]
    assert {len(chunk) for chunk in chunks} == {999_000}
    answer = final(http, job_id)
    assert (answer["status"], answer.get("output")) == ("COMPLETED", None)


def test_a_text_chunk_above_a_megabyte_is_split(http: httpx.Client) -> None:
    job_id = run(http, steps({"chunk_bytes": 2_500_000}))
    final(http, job_id)
    stream = http.get(f"/stream/{job_id}").json()["stream"]
    assert "".join(chunk["output"] for chunk in stream) == "x" * 2_500_000
    assert max(len(chunk["output"]) for chunk in stream) <= MIB


@begun_ahead("http")
def test_44_and_45_workers_are_replaced_when_they_ask_and_when_they_die(backend: Backend, client: str) -> None:
    with backend.http("function") as http:
        asked = final(http, run(http, {"return": {"refresh_worker": True, "x": 1}}))
        assert (asked["status"], asked["output"]) == ("COMPLETED", {"x": 1})
        died = final(http, run(http, steps({"exit": 1})))
        assert (died["status"], died["error"], died["retries"]) == ("FAILED", "job timed out after 1 retries", 1)
        assert died["workerId"] != asked["workerId"]


def test_48_jobs_are_served_first_in_first_out_and_once(http: httpx.Client) -> None:
    with busy(http) as running:
        waiting = [run(http, steps({"chunk": number}, {"sleep_s": 0.2})) for number in range(3)]
        assert {status(http, job_id)["status"] for job_id in waiting} == {"IN_QUEUE"}
        http.post(f"/cancel/{running[0]}")  # room for one at a time
        for number, job_id in enumerate(waiting):
            begun(http, job_id)
            assert {status(http, later)["status"] for later in waiting[number + 1 :]} <= {"IN_QUEUE"}
            answer = final(http, job_id)
            assert (answer["output"], answer.get("retries", 0)) == ([number], 0)


# what the vendor's worker asks, on which the worker API's tests rely


def test_33_to_38_the_vendors_worker_asks_as_the_facts_say(backend: Backend, http: httpx.Client) -> None:
    if backend.name != "process":
        pytest.skip("only worker processes ask")
    job_id = run(http, SHORT)
    final(http, job_id)
    asked: dict[str, list[WorkerCall]] = {}
    for call in backend.worker_calls:
        assert call.path.startswith("/v2/process-")
        assert call.query.startswith("gpu=none")
        if "/ping/" not in call.path:
            assert call.headers["authorization"] == backend.key  # 38: raw
        asked.setdefault(call.path.split("/")[3], []).append(call)
    assert {"job-take-batch", "job-stop", "job-done", "job-stream"} <= set(asked)  # 35
    assert f"batch_size={CONCURRENCY}" in {query for call in asked["job-take-batch"] for query in call.query.split("&")}
    for call in asked["job-done"] + asked["job-stream"]:
        assert (call.method, call.headers["content-type"]) == ("POST", "application/x-www-form-urlencoded")  # 36
        assert "isStream=" in call.query
    assert job_id in {call.path.rpartition("/")[2] for call in asked["job-done"]}  # 37: the address names the job


def test_46_an_unhealthy_worker_gets_no_job_and_says_why(backend: Backend) -> None:
    if backend.name != "process":
        pytest.skip("only worker processes check themselves")
    with backend.http("unfit") as http:
        answer = final(http, run(http, SHORT))
    assert answer["status"] == "FAILED"
    assert "out of order, on purpose" in answer["error"]
    assert "workerId" not in answer
    pings = [call for call in backend.worker_calls if "/process-unfit/ping/" in call.path]
    assert "status=unhealthy" in {part for call in pings for part in call.query.split("&")}
