"""RunPod's load-balancing endpoints, with the clock in hand and an application of the test as worker."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator

import pytest
from starlette.types import Message

from emulator.engine.faults import Effect, FaultRule
from emulator.runpod import facts
from tests.conformance.balanced import HOST, KEY, Balanced, Call


@pytest.fixture
async def balanced() -> AsyncIterator[Balanced]:
    balanced = Balanced()
    yield balanced
    await balanced.close()


async def settled(balanced: Balanced, call: Call) -> Call:
    await balanced.clock.advance(0)
    return call


@pytest.mark.parametrize("host", [HOST, "ep.example.test:8900"])
async def test_the_host_names_the_endpoint_and_the_rest_reaches_the_worker_unchanged(
    balanced: Balanced, host: str
) -> None:
    answer = await balanced.http.post(
        "/echo/a%2Fb%20c?q=1&q=%C3%A4", content=b"x" * 100_000, headers={"Host": host, "X-Custom": "there"}
    )
    assert answer.status_code == 201
    assert answer.json() == {
        "method": "POST",
        "raw_path": "/echo/a%2Fb%20c",
        "query": "q=1&q=%C3%A4",
        "x": "there",
        "body_bytes": 100_000,
    }
    assert answer.headers["x-custom"] == "back"
    assert answer.headers[facts.LB_WORKER_HEADER] == "worker-1"


async def test_the_path_may_name_it_instead(balanced: Balanced) -> None:
    answer = await balanced.http.delete("http://emulator/lb/ep/echo/a%2Fb?q=1")
    assert (answer.json()["method"], answer.json()["raw_path"], answer.json()["query"]) == (
        "DELETE",
        "/echo/a%2Fb",
        "q=1",
    )


@pytest.mark.parametrize(
    ("url", "key", "status", "body"),
    [
        (f"http://{HOST}/echo/", "Bearer wrong", 401, facts.UNAUTHORIZED),
        (f"http://{HOST}/echo/", "", 401, facts.UNAUTHORIZED),
        ("http://nobody.api.runpod.localhost/echo/", KEY, 404, facts.NOT_FOUND_ENDPOINT),
        ("http://queue.api.runpod.localhost/echo/", KEY, 400, facts.LB_WRONG_TYPE),
        ("http://emulator/lb/queue/echo/", KEY, 400, facts.LB_WRONG_TYPE),
        ("http://emulator/v2/ep/run", KEY, 400, facts.LB_WRONG_TYPE),
    ],
)
async def test_what_does_not_reach_a_worker_says_why(
    balanced: Balanced, url: str, key: str, status: int, body: dict[str, str]
) -> None:
    answer = await balanced.http.post(url, headers={"Authorization": key})
    assert (answer.status_code, answer.json()) == (status, body)
    assert balanced.pool.workers().total() == 0


async def test_health_counts_its_requests_and_workers(balanced: Balanced) -> None:
    call = await settled(balanced, Call(balanced.app, "/held"))
    health = (await balanced.http.get("http://emulator/v2/ep/health")).json()
    assert health["jobs"]["inProgress"] == 1
    assert health["workers"]["running"] == 1
    balanced.gate.set()
    await call.task
    health = (await balanced.http.get("http://emulator/v2/ep/health")).json()
    assert (health["jobs"]["completed"], health["jobs"]["inProgress"]) == (1, 0)


async def test_an_answer_streams_through_as_it_is_made(balanced: Balanced) -> None:
    call = await settled(balanced, Call(balanced.app, "/held"))
    assert (call.status, call.body, call.is_complete) == (200, b"first", False)
    balanced.gate.set()
    await call.task
    assert (call.body, call.is_complete) == (b"firstsecond", True)


async def test_a_request_streams_through_as_it_comes(balanced: Balanced) -> None:
    call = await settled(balanced, Call(balanced.app, "/parrot/", method="POST", body=b"Hello", has_more=True))
    assert (call.body, call.is_complete) == (b"Hello", False)
    call.upload(b" there.")
    await call.task
    assert (call.body, call.is_complete) == (b"Hello there.", True)


async def test_whoever_leaves_stops_the_work(balanced: Balanced) -> None:
    call = await settled(balanced, Call(balanced.app, "/held", query="name=left"))
    call.leave()
    await call.task
    await balanced.clock.advance(0)
    assert balanced.stopped == ["left"]
    assert balanced.pool.running == 0


async def test_whoever_leaves_while_no_worker_is_there_waits_nowhere() -> None:
    balanced = Balanced(health=204)
    call = await settled(balanced, Call(balanced.app, "/held"))
    assert balanced.pool.queued == 1
    call.leave()
    await call.task
    assert (balanced.pool.queued, call.sent) == (0, [])
    await balanced.close()


async def test_a_worker_gets_requests_once_its_ping_answers_200() -> None:
    balanced = Balanced(health=204)
    call = await settled(balanced, Call(balanced.app, "/held"))
    await balanced.clock.advance(30)
    assert balanced.pool.workers() == {"initializing": 1}
    assert call.sent == []
    balanced.health = 200
    await balanced.clock.advance(facts.LB_HEALTH_STARTING_S)
    assert balanced.pool.workers() == {"running": 1}
    assert call.status == 200
    await balanced.close()


async def test_without_a_worker_for_two_minutes_it_is_400() -> None:
    balanced = Balanced(health=204)
    call = await settled(balanced, Call(balanced.app, "/held"))
    await balanced.clock.advance(facts.LB_NO_WORKER_S - 1)
    assert not call.task.done()
    await balanced.clock.advance(1)
    await call.task
    assert call.status == 400
    assert b"timed out waiting for worker" in call.body
    await balanced.close()


async def test_where_no_worker_can_start_it_is_400_at_once() -> None:
    balanced = Balanced(health=500)
    call = await settled(balanced, Call(balanced.app, "/held"))
    await call.task
    assert (call.status, call.body) == (400, b'{"error":"no workers available"}')
    await balanced.close()


async def test_where_too_many_wait_for_a_worker_it_is_400_at_once() -> None:
    balanced = Balanced(health=204, max_queue=1)
    waiting = await settled(balanced, Call(balanced.app, "/held"))
    refused = await settled(balanced, Call(balanced.app, "/held"))
    await refused.task
    assert (refused.status, refused.body) == (400, b'{"error":"no workers available"}')
    assert waiting.sent == []
    waiting.leave()
    await waiting.task
    await balanced.close()


async def test_an_endpoint_that_is_removed_answers_whoever_waits(balanced: Balanced) -> None:
    balanced.health = 204
    waiting = await settled(balanced, Call(balanced.app, "/held"))
    await balanced.pool.close()
    await waiting.task
    assert (waiting.status, waiting.is_complete) == (400, True)


async def test_a_worker_that_falls_ill_is_removed_and_its_requests_break_off(balanced: Balanced) -> None:
    call = await settled(balanced, Call(balanced.app, "/held"))
    balanced.health = 500
    await balanced.clock.advance(facts.LB_HEALTH_S)
    await call.task
    assert (call.body, call.is_complete) == (b"first", False)
    assert balanced.pool.workers().total() == 0
    assert [entry.event for entry in balanced.pool.log if entry.event == "lost"] == ["lost"]


async def test_a_worker_lost_before_it_answered_is_502_and_nothing_is_tried_again(balanced: Balanced) -> None:
    balanced.faults.set([FaultRule(Effect.KILL_BEFORE, count=1)])
    answer = await balanced.http.get("/echo/")
    assert answer.status_code == facts.LB_WORKER_BROKE_STATUS
    assert balanced.pool.retried == 0


async def test_a_worker_lost_while_it_answers_breaks_the_answer_off(balanced: Balanced) -> None:
    balanced.faults.set([FaultRule(Effect.KILL_DURING, count=1)])
    call = await settled(balanced, Call(balanced.app, "/held"))
    await call.task
    assert (call.body, call.is_complete) == (b"first", False)


async def test_processing_ends_after_five_and_a_half_minutes(balanced: Balanced) -> None:
    call = await settled(balanced, Call(balanced.app, "/held", query="name=slow"))
    await balanced.clock.advance(facts.LB_PROCESSING_S)
    await call.task
    assert (call.is_complete, balanced.stopped) == (False, ["slow"])


async def test_a_request_over_30_mb_is_refused(balanced: Balanced) -> None:
    answer = await balanced.http.post("/echo/", content=b"x" * (facts.LB_PAYLOAD_BYTES + 1))
    assert answer.status_code == facts.LB_OVERSIZE_STATUS
    assert (await balanced.http.post("/echo/", content=b"x" * facts.LB_PAYLOAD_BYTES)).status_code == 201


async def test_an_answer_over_30_mb_breaks_off(balanced: Balanced) -> None:
    call = Call(balanced.app, "/large")
    await balanced.clock.advance(0)
    await asyncio.wait_for(call.task, 10)
    assert 0 < len(call.body) <= facts.LB_PAYLOAD_BYTES
    assert not call.is_complete


async def test_a_worker_whose_application_raises_answers_500_and_stays(balanced: Balanced) -> None:
    assert (await balanced.http.get("/raises")).status_code == 500
    assert (await balanced.http.get("/echo/")).headers[facts.LB_WORKER_HEADER] == "worker-1"


async def test_more_requests_than_one_worker_takes_start_another() -> None:
    balanced = Balanced(max_workers=2, concurrency=2)
    calls = [Call(balanced.app, "/held") for _ in range(5)]
    await balanced.clock.advance(0)
    workers = [dict(call.sent[0]["headers"]).get(b"x-runpod-worker-id") for call in calls if call.sent]
    assert sorted(workers) == [b"worker-1", b"worker-1", b"worker-2", b"worker-2"]
    assert balanced.pool.queued == 1
    balanced.gate.set()
    await asyncio.gather(*(call.task for call in calls))
    assert {call.body for call in calls} == {b"firstsecond"}
    await balanced.clock.advance(60)
    assert balanced.pool.workers().total() == 0
    await balanced.close()


@pytest.mark.parametrize(("affinity", "status"), [("worker-1", 201), ("strict worker-1", 501)])
async def test_soft_affinity_is_best_effort_and_strict_affinity_is_refused(
    balanced: Balanced, affinity: str, status: int
) -> None:
    answer = await balanced.http.get("/echo/", headers={facts.LB_WORKER_HEADER: affinity})
    assert answer.status_code == status


async def test_a_websocket_is_closed_at_once(balanced: Balanced) -> None:
    sent: list[Message] = []

    async def send(message: Message) -> None:
        sent.append(message)

    scope = {"type": "websocket", "path": "/ws", "headers": [(b"host", HOST.encode())]}
    await balanced.app(scope, send, send)  # type: ignore[arg-type]
    assert [message["type"] for message in sent] == ["websocket.close"]
    assert balanced.pool.workers().total() == 0
