"""Fault rules: what they strike, how often, and what a client of the emulator sees of it."""

from __future__ import annotations

import asyncio
import base64
from collections.abc import AsyncIterator, Callable
from typing import Any

import httpx
import pytest
from starlette.responses import PlainTextResponse
from starlette.types import Message, Receive, Scope, Send

from emulator.app import Emulator
from emulator.engine.clock import VirtualClock
from emulator.engine.faults import Effect, FaultRule, Faults
from emulator.fault_requests import DroppedConnection, FaultyRequests
from tests import gated
from tests.conftest import API_KEY, TEST_FUNCTIONS

JOB = {"input": {"text": "Hello there. How are you?", "voice": "sine"}}


def test_a_seed_repeats_the_same_strikes() -> None:
    def strikes(seed: int) -> list[bool]:
        faults = Faults([FaultRule(Effect.DROP_AFTER, probability=0.5)], seed=seed)
        return [faults.strike(Effect.DROP_AFTER, "x") is not None for _ in range(50)]

    assert strikes(1) == strikes(1) != strikes(2)
    assert 10 < sum(strikes(1)) < 40


def test_a_rule_strikes_what_it_matches_so_often_and_no_more() -> None:
    faults = Faults([FaultRule(Effect.STATUS, match="POST /v2/*/run", count=2, value=503)])
    subjects = ["GET /v2/a/run", "POST /v2/a/run", "POST /v2/a/runsync", "POST /v2/b/run", "POST /v2/c/run"]
    assert [faults.strike(Effect.STATUS, s) is not None for s in subjects] == [False, True, False, True, False]
    assert faults.strike(Effect.DROP_AFTER, "POST /v2/a/run") is None
    assert faults.struck == [2]


class Harness:
    def __init__(self, make_emulator: Callable[..., Emulator]) -> None:
        self.clock = VirtualClock()
        self.emulator = make_emulator(TEST_FUNCTIONS, api_key=API_KEY, clock=self.clock)
        transport = httpx.ASGITransport(self.emulator.app)
        headers = {"Authorization": API_KEY}
        self.http = httpx.AsyncClient(transport=transport, base_url="http://emulator", headers=headers)

    async def rule(self, **rule: Any) -> None:
        response = await self.http.put("/_emulator/faults", json={"rules": [{"count": 1, **rule}]})
        assert response.status_code == 200

    async def run(self) -> dict[str, Any]:
        return (await self.http.post("/v2/tone/runsync", json=JOB)).json()


@pytest.fixture
async def harness(make_emulator: Callable[..., Emulator]) -> AsyncIterator[Harness]:
    harness = Harness(make_emulator)
    yield harness
    await harness.http.aclose()


@pytest.mark.parametrize("status", [429, 500, 503])
async def test_a_status_instead_of_an_answer(harness: Harness, status: int) -> None:
    await harness.rule(effect="status", match="POST /v2/tone/run", value=status)
    assert (await harness.http.post("/v2/tone/run", json=JOB)).status_code == status
    assert len(harness.emulator.endpoints["tone"].jobs) == 0
    assert (await harness.http.post("/v2/tone/run", json=JOB)).status_code == 200
    (told,) = (await harness.http.get("/_emulator/faults")).json()["rules"]
    assert (told["effect"], told["struck"]) == ("status", 1)


async def test_a_status_may_come_after_the_request_was_served(harness: Harness) -> None:
    await harness.rule(effect="status-after", match="POST /v2/tone/run", value=502)
    assert (await harness.http.post("/v2/tone/run", json=JOB)).status_code == 502
    assert len(harness.emulator.endpoints["tone"].jobs) == 1


@pytest.mark.parametrize(("effect", "jobs"), [("drop-before", 0), ("drop-after", 1), ("truncate", 1)])
async def test_a_connection_is_dropped_before_or_after_the_request_was_served(
    harness: Harness, effect: str, jobs: int
) -> None:
    await harness.rule(effect=effect, match="POST /v2/tone/run")
    with pytest.raises(DroppedConnection):
        await harness.http.post("/v2/tone/run", json=JOB)
    assert len(harness.emulator.endpoints["tone"].jobs) == jobs


async def test_a_truncated_answer_has_half_of_its_body() -> None:
    async def app(scope: Scope, receive: Receive, send: Send) -> None:
        await PlainTextResponse("0123456789")(scope, receive, send)

    faults, sent = Faults([FaultRule(Effect.TRUNCATE)]), list[Message]()

    async def send(message: Message) -> None:
        sent.append(message)

    faulty = FaultyRequests(app, faults, VirtualClock())
    with pytest.raises(DroppedConnection):
        await faulty({"type": "http", "method": "GET", "path": "/"}, lambda: asyncio.sleep(0), send)  # type: ignore[arg-type]
    head, body = sent
    assert (b"content-length", b"10") in head["headers"]
    assert body["body"] == b"01234"


async def test_latency_is_of_the_clock(harness: Harness) -> None:
    await harness.rule(effect="latency", match="GET /healthz", value=3_600)
    call = asyncio.create_task(harness.http.get("/healthz"))
    await harness.clock.advance(3_599)
    assert not call.done()
    await harness.clock.advance(1)
    assert (await call).status_code == 200


async def test_a_job_whose_worker_dies_as_it_gets_it_runs_again(harness: Harness) -> None:
    expected = await harness.run()
    await harness.rule(effect="kill-before")
    answer = await harness.run()
    assert (answer["status"], answer["retries"]) == ("COMPLETED", 1)
    assert [event.get("audio") for event in answer["output"]] == [event.get("audio") for event in expected["output"]]
    assert answer["workerId"] != expected["workerId"]


async def test_a_job_whose_worker_dies_halfway_runs_again_from_its_start(harness: Harness) -> None:
    await harness.rule(effect="kill-during")
    half = {"input": {"text": "half", "voice": "any"}}
    job_id = (await harness.http.post("/v2/gated/run", json=half)).json()["id"]
    await harness.clock.advance(0)
    status = (await harness.http.get(f"/v2/gated/status/{job_id}")).json()
    assert (status["status"], status["retries"], status["workerId"]) == ("IN_PROGRESS", 1, "worker-2")
    gated.release()
    answer = (await harness.http.get(f"/v2/gated/status-sync/{job_id}")).json()
    audio = [event["audio"] for event in answer["output"] if event["type"] == "audio"]
    assert b"".join(map(base64.b64decode, audio)) == gated.FIRST + gated.SECOND


async def test_a_job_whose_workers_all_die_fails(harness: Harness) -> None:
    await harness.rule(effect="kill-before", count=2)
    answer = await harness.run()
    assert (answer["status"], answer["error"]) == ("FAILED", "job timed out after 1 retries")


async def test_a_worker_that_dies_after_a_job_has_served_it(harness: Harness) -> None:
    await harness.rule(effect="kill-after")
    first, second = await harness.run(), await harness.run()
    assert (first["status"], second["status"]) == ("COMPLETED", "COMPLETED")
    assert first["workerId"] != second["workerId"]


@pytest.mark.parametrize(
    "body",
    [
        b"{",
        b"{}",
        b'{"rules":[{"effect":"melt"}]}',
        b'{"rules":[{"effect":"stuck","when":1}]}',
        b'{"rules":[{"effect":"status"}]}',
    ],
)
async def test_rules_that_are_none_are_422(harness: Harness, body: bytes) -> None:
    assert (await harness.http.put("/_emulator/faults", content=body)).status_code == 422
    assert harness.emulator.faults.rules == []


async def test_delete_ends_all_rules(harness: Harness) -> None:
    await harness.rule(effect="status", value=500)
    assert (await harness.http.delete("/_emulator/faults")).json() == {"rules": []}
    assert (await harness.http.get("/healthz")).status_code == 200


async def test_rules_need_the_key(harness: Harness) -> None:
    response = await harness.http.put("/_emulator/faults", json={"rules": []}, headers={"Authorization": "wrong"})
    assert response.status_code == 401
