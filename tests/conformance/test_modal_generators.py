"""Items 13 to 19 of the checklist: generators, and what cancelling does."""

from __future__ import annotations

import asyncio
from pathlib import Path

import modal
import pytest

from tests.conformance.modal_cloud import Cloud
from tests.conformance.modal_raw import raw
from tests.conformance.modal_served import appeared, is_there, unmark


async def test_13_chunks_arrive_in_order_and_complete(modal_cloud: Cloud) -> None:
    assert [item async for item in modal_cloud.cls()().count.remote_gen.aio(500)] == list(range(500))
    assert [item async for item in modal_cloud.function("count").remote_gen.aio(3)] == [0, 1, 2]
    assert [item async for item in modal_cloud.cls()().count.remote_gen.aio(0)] == []


async def test_13_a_chunk_arrives_when_it_is_there(modal_cloud: Cloud, tmp_path: Path) -> None:
    gate = tmp_path / "gate"
    items = modal_cloud.cls()().gated.remote_gen.aio(str(gate))
    assert (await anext(items)).startswith("fc-")
    gate.touch()
    assert [item async for item in items] == ["opened"]


async def test_14_a_stream_that_is_reopened_neither_repeats_nor_loses(modal_cloud: Cloud) -> None:
    async with raw(modal_cloud) as rpcs:
        call_id = (await rpcs.map("count", 6)).function_call_id
        assert await rpcs.chunks(call_id, last_index=0, count=2) == [(1, 0), (2, 1)]
        assert await rpcs.chunks(call_id, last_index=2, count=4) == [(3, 2), (4, 3), (5, 4), (6, 5)]
        assert await rpcs.chunks(call_id, last_index=1, count=1) == [(2, 1)]


async def test_15_an_error_in_mid_stream_reaches_the_caller(modal_cloud: Cloud) -> None:
    """It may overtake the last chunks."""
    items = modal_cloud.cls()().fail_after.remote_gen.aio(3)
    with pytest.raises(modal.exception.RemoteError, match="broke off"):
        assert [item async for item in items] == "nothing that is returned"


async def test_16_a_generator_is_not_called_like_a_function(modal_cloud: Cloud) -> None:
    with pytest.raises(modal.exception.InvalidError, match="remote_gen"):
        await modal_cloud.cls()().count.remote.aio(3)
    with pytest.raises(modal.exception.InvalidError, match="generator"):
        await modal_cloud.cls()().count.spawn.aio(3)


async def test_17_closing_a_generator_cancels_nothing(modal_cloud: Cloud, tmp_path: Path) -> None:
    gate = tmp_path / "gate"
    items = modal_cloud.cls()().gated.remote_gen.aio(str(gate))
    await anext(items)
    await items.aclose()
    await modal_cloud.cls()().echo.remote.aio()  # what the SDK might have sent has been served by now
    assert "FunctionCallCancel" not in modal_cloud.rpcs
    assert not is_there(f"{gate}.closed")
    gate.touch()
    await appeared(f"{gate}.closed")


async def test_18_cancelling_stops_an_async_generator_and_spares_the_container(
    modal_cloud: Cloud, tmp_path: Path
) -> None:
    served, gate = modal_cloud.cls()(), tmp_path / "gate"
    before = await served.who.remote.aio()
    items = served.gated.remote_gen.aio(str(gate))
    call_id = await anext(items)
    await modal_cloud.call(call_id).cancel.aio()
    with pytest.raises(modal.exception.RemoteError, match="cancelled"):
        await anext(items)
    await appeared(f"{gate}.closed")
    assert await served.who.remote.aio() == before


async def test_19_cancelling_an_input_that_blocks_restarts_the_container(modal_cloud: Cloud, tmp_path: Path) -> None:
    served, blocked, neighbour = modal_cloud.cls("Alone")(), tmp_path / "blocked", tmp_path / "neighbour"
    before = await served.who.remote.aio()
    call = await served.hold_blocking.spawn.aio(str(blocked))
    beside = asyncio.create_task(served.hold.remote.aio(str(neighbour)))
    await asyncio.gather(appeared(f"{blocked}.started"), appeared(f"{neighbour}.started"))
    unmark(str(neighbour), "started")
    await call.cancel.aio()
    await appeared(f"{neighbour}.started")  # again, in another container
    neighbour.touch()
    assert await beside == "held"
    assert await served.who.remote.aio() != before
    blocked.touch()
