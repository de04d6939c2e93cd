"""A worker's log as server-sent events, over a real socket: what is there, then what comes."""

from __future__ import annotations

import json
from collections.abc import Iterator
from datetime import datetime

import httpx
import pytest

from emulator.app import Emulator
from emulator.server import Server
from tests.conftest import API_KEY, TEST_FUNCTIONS, serve
from tests.unit.emulator.test_management import BODY, SPEAK


@pytest.fixture(scope="module")
def client() -> Iterator[httpx.Client]:
    headers = {"Authorization": f"Bearer {API_KEY}"}
    with (
        serve(lambda _: Server(Emulator(TEST_FUNCTIONS, api_key=API_KEY))) as (url, _),
        httpx.Client(base_url=f"{url}/v2", headers=headers, timeout=20) as client,
    ):
        yield client


def deployed(client: httpx.Client, adapter: str = "functions.tone.adapter.Tone") -> tuple[str, str]:
    """An endpoint that has had a job, and its worker."""
    endpoint_id = client.post("/serverless", json={**BODY, "env": {"ADAPTER_CLASS": adapter}}).json()["id"]
    client.post(f"/{endpoint_id}/runsync", json=SPEAK)
    return endpoint_id, client.get(f"/serverless/{endpoint_id}/workers").json()["workers"][0]["id"]


def events(response: httpx.Response) -> Iterator[dict[str, str]]:
    at = ""
    for line in response.iter_lines():
        if line.startswith("id: "):
            at = line.removeprefix("id: ")
        elif line.startswith("data: "):
            data = json.loads(line.removeprefix("data: "))
            assert data["ts"] == at
            yield data


def test_what_there_is_comes_first_and_then_what_happens(client: httpx.Client) -> None:
    endpoint_id, worker = deployed(client)
    with client.stream("GET", f"/serverless/{endpoint_id}/workers/{worker}/logs") as response:
        assert response.headers["content-type"].startswith("text/event-stream")
        assert (response.headers["cache-control"], response.headers["x-accel-buffering"]) == ("no-cache", "no")
        lines = events(response)
        heard = [next(lines) for _ in range(4)]
        assert [line["line"].split(" ")[2] for line in heard] == ["starting", "ready", "job", "done"]
        assert {line["source"] for line in heard} == {"system"}
        assert datetime.fromisoformat(heard[0]["ts"]) <= datetime.fromisoformat(heard[3]["ts"])
        job = client.post(f"/{endpoint_id}/run", json=SPEAK).json()["id"]
        assert next(lines)["line"] == f"worker {worker} job {job}"


def test_a_tail_a_moment_or_a_reconnect_says_where_to_begin(client: httpx.Client) -> None:
    endpoint_id, worker = deployed(client)
    path = f"/serverless/{endpoint_id}/workers/{worker}/logs"
    with client.stream("GET", path, params={"tail": 1}) as response:
        last = next(events(response))
        assert " done " in last["line"]
    with client.stream("GET", path) as response:
        first = next(events(response))
    for how in ({"params": {"since": first["ts"]}}, {"headers": {"Last-Event-ID": first["ts"]}}):
        with client.stream("GET", path, **how) as response:  # type: ignore[arg-type]
            assert next(events(response))["line"].split(" ")[2] == "ready"


def test_last_words_are_the_containers(client: httpx.Client) -> None:
    endpoint_id, worker = deployed(client, "functions.nobody.adapter.Nobody")
    with client.stream(
        "GET", f"/serverless/{endpoint_id}/workers/{worker}/logs", params={"source": "container"}
    ) as response:
        said = next(events(response))
    assert said["source"] == "container"
    assert "there is functions.gated.adapter.Gated, functions.tone.adapter.Tone" in said["line"]


@pytest.mark.parametrize("query", ["source=mine", "tail=-1", "tail=5001", "tail=x", "since=yesterday"])
def test_a_request_that_makes_no_sense_is_refused(client: httpx.Client, query: str) -> None:
    endpoint_id, worker = deployed(client)
    refused = client.get(f"/serverless/{endpoint_id}/workers/{worker}/logs?{query}")
    assert (refused.status_code, refused.json()["title"]) == (400, "Bad Request")


def test_a_worker_that_never_was_has_no_log(client: httpx.Client) -> None:
    endpoint_id, _ = deployed(client)
    assert client.get(f"/serverless/{endpoint_id}/workers/worker-99/logs").status_code == 404


def test_the_log_of_an_endpoint_that_is_deleted_ends(client: httpx.Client) -> None:
    endpoint_id, worker = deployed(client)
    with client.stream("GET", f"/serverless/{endpoint_id}/workers/{worker}/logs") as response:
        lines = events(response)
        next(lines)
        client.delete(f"/serverless/{endpoint_id}")
        assert list(lines)[-1]["line"].split(" ")[1] == worker
