"""What only real worker processes show: the vendor's loop, killed, told to stop, or failing to start."""

from __future__ import annotations

import logging
import os
import select
import signal
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest

from emulator.app import Emulator
from emulator.engine.clock import RealClock
from emulator.runpod.process import (
    ProcessWorker,
    ServerProcessWorker,
    StartFailed,
    function_environment,
    worker_environment,
)
from tests.conftest import API_KEY, TEST_FUNCTIONS, Stack
from yapit.errors import ConfigurationError

WAIT_S = 30
HALF = {"input": {"text": "half", "voice": "any"}}
"""A job that says its first half and then hangs."""


@pytest.fixture
def gated(process_stack: Stack) -> Iterator[httpx.Client]:
    headers = {"Authorization": API_KEY}
    with httpx.Client(base_url=f"{process_stack.emulator_url}/v2/gated", headers=headers, timeout=WAIT_S) as client:
        yield client


def first_half(gated: httpx.Client, job_id: str) -> None:
    stream: dict[str, Any] = {"status": "IN_QUEUE", "stream": []}
    while not stream["stream"]:  # a process may take long to start where others do too
        assert stream["status"] in ("IN_QUEUE", "IN_PROGRESS"), stream
        stream = gated.get(f"/stream/{job_id}?wait=10000").json()
    assert [chunk["output"]["type"] for chunk in stream["stream"]] == ["audio"], stream


def main_process(stack: Stack, worker_id: str) -> int:
    worker = stack.emulator.endpoints["gated"].pool.worker(worker_id)
    assert isinstance(worker, ProcessWorker)
    assert worker.pid is not None
    return worker.pid


def children_of(pid: int) -> list[int]:
    return [int(child) for child in Path(f"/proc/{pid}/task/{pid}/children").read_text().split()]


class Heard(logging.Handler):
    """Waits for a line in the log."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.text, self.event = text, threading.Event()

    def emit(self, record: logging.LogRecord) -> None:
        if self.text in record.getMessage():
            self.event.set()


def test_47_a_killed_worker_leaves_nothing_behind_and_its_job_runs_again(
    process_stack: Stack, gated: httpx.Client
) -> None:
    job_id = gated.post("/run", json=HALF).json()["id"]
    first_half(gated, job_id)
    worker_id = gated.get(f"/status/{job_id}").json()["workerId"]
    main = main_process(process_stack, worker_id)
    assert os.getpgid(main) == main != os.getpgid(0)
    (pinging,) = children_of(main)  # it would ping on for ever
    watched = os.pidfd_open(pinging)
    os.kill(main, signal.SIGKILL)
    assert select.select([watched], [], [], WAIT_S)[0]
    os.close(watched)
    first_half(gated, job_id)
    again = gated.get(f"/status/{job_id}").json()
    assert (again["status"], again["retries"]) == ("IN_PROGRESS", 1)
    assert again["workerId"] != worker_id
    assert gated.post(f"/cancel/{job_id}").json()["status"] == "CANCELLED"


def test_43_a_result_that_is_posted_again_does_nothing_the_second_time(process_stack: Stack) -> None:
    posts = "POST /v2/tone/job-done/*"
    refused = {"effect": "status-after", "value": 502, "match": posts, "count": 1}
    counted = {"effect": "latency", "match": posts}
    headers = {"Authorization": API_KEY}
    with httpx.Client(base_url=process_stack.emulator_url, headers=headers, timeout=WAIT_S) as http:
        http.put("/_emulator/faults", json={"rules": [refused, counted]}).raise_for_status()
        job = {"input": {"text": "Hello.", "voice": "sine"}}
        first = http.post("/v2/tone/runsync", json=job).json()
        completed = http.get("/v2/tone/health").json()["jobs"]["completed"]
        while http.get("/_emulator/faults").json()["rules"][1]["struck"] < 2:
            pass  # the SDK posts again after a second or two
        assert first["status"] == "COMPLETED"
        assert http.get(f"/v2/tone/status/{first['id']}").json() == first
        assert http.get("/v2/tone/health").json()["jobs"]["completed"] == completed
        http.delete("/_emulator/faults")
        assert http.post("/v2/tone/runsync", json=job).json()["status"] == "COMPLETED"


def test_35_a_cancelled_job_is_stopped_in_the_vendors_loop(gated: httpx.Client) -> None:
    log = logging.getLogger("emulator.engine.process")
    job_id = gated.post("/run", json=HALF).json()["id"]
    first_half(gated, job_id)
    heard = Heard(f"{job_id} | Job stopped.")
    log.addHandler(heard)
    level = log.level
    log.setLevel(logging.INFO)
    try:
        gated.post(f"/cancel/{job_id}")
        assert heard.event.wait(WAIT_S)
    finally:
        log.setLevel(level)
        log.removeHandler(heard)


async def test_a_worker_that_cannot_start_says_why() -> None:
    environment = worker_environment(
        *("http://127.0.0.1:9", "ep", "worker-1"),
        api_key=API_KEY,
        adapter_class="nowhere.Nothing",
        functions_dir=TEST_FUNCTIONS,
    )
    worker = ProcessWorker("worker-1", RealClock(), environment)
    with pytest.raises(StartFailed, match=r"ended with code 1(?s:.*)cannot import nowhere"):
        await worker.start()
    await worker.stop()


async def test_a_server_that_cannot_start_says_why() -> None:
    environment = function_environment("nowhere.Nothing", TEST_FUNCTIONS)
    worker = ServerProcessWorker("worker-1", RealClock(), environment)
    with pytest.raises(StartFailed, match=r"ended with code 1(?s:.*)cannot import nowhere"):
        await worker.start()
    await worker.stop()


def test_processes_need_the_emulators_address() -> None:
    with pytest.raises(ConfigurationError, match="base_url"):
        Emulator(TEST_FUNCTIONS, workers="process")


def test_every_address_has_a_query_and_no_key_of_the_user_is_passed_on(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("RUNPOD_API_KEY", "secret")
    environment = worker_environment("http://e", "ep", "w", api_key="k", adapter_class="a.B", functions_dir=Path("f"))
    addresses = [value for key, value in environment.items() if key.startswith("RUNPOD_WEBHOOK_")]
    assert len(addresses) == 4
    assert all("?" in address for address in addresses)
    assert "secret" not in environment.values()


def test_a_worker_gets_its_endpoints_variables_and_nobodys_keys(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "mine")
    environment = worker_environment(
        *("http://e", "ep", "w"),
        api_key="k",
        adapter_class="a.B",
        functions_dir=Path("f"),
        variables={"DEPTH": "3", "ADAPTER_CLASS": "another"},
    )
    assert environment["DEPTH"] == "3"
    assert environment["ADAPTER_CLASS"] == "a.B"
    assert "AWS_SECRET_ACCESS_KEY" not in environment
    assert environment["PATH"]
