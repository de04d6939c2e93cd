"""Items 20 to 22, 26 and 27 of the checklist: calls that nobody waits for, retries, and calls sent twice."""

from __future__ import annotations

import asyncio
from pathlib import Path

import modal
import pytest

from emulator.engine.clock import VirtualClock
from emulator.engine.faults import Effect, FaultRule
from emulator.modal import facts
from tests.conformance.modal_cloud import Cloud
from tests.conformance.modal_raw import raw
from tests.conformance.modal_served import appeared, is_there, unmark


async def test_20_a_result_is_polled_for_and_stays(modal_cloud: Cloud, tmp_path: Path) -> None:
    gate = tmp_path / "gate"
    call = await modal_cloud.cls()().hold.spawn.aio(str(gate))
    with pytest.raises(TimeoutError):
        await call.get.aio(timeout=0)
    gate.touch()
    assert await call.get.aio() == "held"
    assert await modal_cloud.call(call.object_id).get.aio(timeout=0) == "held"
    assert await modal_cloud.call(call.object_id).num_inputs.aio() == 1


async def test_21_cancelling_ends_what_runs_and_what_waits(modal_cloud: Cloud, tmp_path: Path) -> None:
    single, running, waiting = modal_cloud.cls("Single")(), tmp_path / "running", tmp_path / "waiting"
    first = await single.hold.spawn.aio(str(running))
    second = await single.hold.spawn.aio(str(waiting))
    await appeared(f"{running}.started")
    await second.cancel.aio()
    await first.cancel.aio()
    for call in (first, second):
        with pytest.raises(modal.exception.RemoteError, match="cancelled"):
            await call.get.aio()
    await appeared(f"{running}.cancelled")
    await single.echo.remote.aio()  # whatever waited before it has had its turn
    assert not is_there(f"{waiting}.started")


async def test_21_cancelling_with_the_containers(modal_cloud: Cloud, tmp_path: Path) -> None:
    served, gate, neighbour = modal_cloud.cls("Alone")(), tmp_path / "gate", tmp_path / "neighbour"
    before = await served.who.remote.aio()
    call = await served.hold.spawn.aio(str(gate))
    beside = asyncio.create_task(served.hold.remote.aio(str(neighbour)))
    await asyncio.gather(appeared(f"{gate}.started"), appeared(f"{neighbour}.started"))
    unmark(str(neighbour), "started")
    await call.cancel.aio(terminate_containers=True)
    await appeared(f"{neighbour}.started")
    neighbour.touch()
    assert await beside == "held"
    assert await served.who.remote.aio() != before


async def test_22_an_expired_call(virtual_modal: tuple[Cloud, VirtualClock]) -> None:
    cloud, clock = virtual_modal
    call = await cloud.cls()().echo.spawn.aio("a")
    assert (await call.get.aio())["args"] == ["a"]
    await clock.advance(facts.OUTPUT_RETENTION_S - 1)
    assert (await call.get.aio(timeout=0))["args"] == ["a"]
    await clock.advance(1)
    with pytest.raises(modal.exception.OutputExpiredError):
        await call.get.aio(timeout=0)


async def test_22_a_call_that_never_was(modal_cloud: Cloud) -> None:
    with pytest.raises(modal.exception.NotFoundError, match="fc-nonsense"):
        await modal_cloud.call("fc-nonsense").get.aio(timeout=0)


async def test_26_retries_end_with_a_success(modal_cloud: Cloud, tmp_path: Path) -> None:
    tries = tmp_path / "tries"
    assert await modal_cloud.cls("Retried")().try_again.remote.aio(str(tries), 1) == 1
    assert tries.read_text().split() == ["0", "1"]


async def test_26_retries_end_with_the_error(virtual_modal: tuple[Cloud, VirtualClock], tmp_path: Path) -> None:
    """Of a spawned call the server takes care."""
    cloud, clock = virtual_modal
    tries = tmp_path / "tries"
    call = await cloud.cls("Retried")().try_again.spawn.aio(str(tries), 9)
    getting = asyncio.create_task(call.get.aio())
    for count in (1, 2):
        await appeared(f"{tries}.{count}")
        with pytest.raises(TimeoutError):
            await call.get.aio(timeout=0)
        await clock.advance(1.0)
    with pytest.raises(modal.exception.RemoteError, match="try 2 failed"):
        await getting
    assert tries.read_text().split() == ["0", "1", "2"]


async def test_26_a_retry_that_waits_is_cancelled(virtual_modal: tuple[Cloud, VirtualClock], tmp_path: Path) -> None:
    cloud, clock = virtual_modal
    tries = tmp_path / "tries"
    call = await cloud.cls("Retried")().try_again.spawn.aio(str(tries), 9)
    await appeared(f"{tries}.1")
    await call.cancel.aio()
    await clock.advance(60)
    with pytest.raises(modal.exception.RemoteError, match="cancelled"):
        await call.get.aio()
    assert tries.read_text().split() == ["0"]


async def test_27_the_same_idempotency_key_is_one_execution(modal_cloud: Cloud, tmp_path: Path) -> None:
    tries = tmp_path / "tries"
    async with raw(modal_cloud) as rpcs:
        calls = [
            (await rpcs.map("try_again", str(tries), 0, x_idempotency_key=key)).function_call_id
            for key in ("a", "a", "b")
        ]
        assert calls[0] == calls[1] != calls[2]
        for call_id in calls:
            await modal_cloud.call(call_id).get.aio()
    assert len(tries.read_text().split()) == 2


async def test_27_an_answer_that_was_lost_is_given_again(modal_cloud: Cloud, tmp_path: Path) -> None:
    tries = tmp_path / "tries"
    modal_cloud.faults.set([FaultRule(Effect.DROP_AFTER, match="RPC FunctionMap", count=1)])
    assert await modal_cloud.cls()().try_again.remote.aio(str(tries), 0) == 0
    assert modal_cloud.rpcs.count("FunctionMap") == 2
    assert tries.read_text().split() == ["0"]
