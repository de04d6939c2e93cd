"""Items 1 to 5 and 13 of the checklist, with the unmodified SDK over real sockets."""

from __future__ import annotations

import asyncio

import modal
import pytest

from tests.conformance.modal_cloud import APP, Cloud


async def test_01_unknown_app_or_class(modal_cloud: Cloud) -> None:
    with pytest.raises(modal.exception.NotFoundError, match="there is no app 'nowhere'"):
        await modal.Cls.from_name("nowhere", "Served", client=modal_cloud.client)().echo.remote.aio()
    with pytest.raises(modal.exception.NotFoundError, match="has no 'Nobody"):
        await modal_cloud.cls("Nobody")().echo.remote.aio()


async def test_02_a_class_looked_up_as_a_function(modal_cloud: Cloud) -> None:
    with pytest.raises(modal.exception.NotFoundError, match=r"Use `modal.Cls.from_name` instead"):
        await modal.Function.from_name(APP, "Served", client=modal_cloud.client).remote.aio()


async def test_03_unknown_method(modal_cloud: Cloud) -> None:
    with pytest.raises(modal.exception.NotFoundError, match="no method"):
        await modal_cloud.cls()().nothing.remote.aio()


async def test_04_a_wrong_token_is_refused(modal_cloud: Cloud) -> None:
    stranger = await modal.Client.from_credentials.aio("ak-test", "as-guessed")
    with pytest.raises(modal.exception.AuthError):
        await modal.Cls.from_name(APP, "Served", client=stranger)().echo.remote.aio()
    await stranger.close.aio()


async def test_06_a_class_is_called_in_four_rpcs_then_in_two(modal_cloud: Cloud) -> None:
    served = modal_cloud.cls()()
    assert await served.echo.remote.aio("a", speed=1.5) == {"args": ["a"], "kwargs": {"speed": 1.5}}
    first = ["ClassGet", "FunctionGet", "FunctionMap", "FunctionGetOutputs"]
    assert sorted(modal_cloud.rpcs[:2]) == first[:2]
    assert modal_cloud.rpcs[2:] == first[2:]
    await served.echo.remote.aio("b")
    assert modal_cloud.rpcs[4:] == first[2:]


async def test_06_from_a_thread_without_an_event_loop(modal_cloud: Cloud) -> None:
    assert await asyncio.to_thread(modal_cloud.cls()().echo.remote, "a") == {"args": ["a"], "kwargs": {}}


async def test_13_chunks_arrive_in_order_and_complete(modal_cloud: Cloud) -> None:
    assert [item async for item in modal_cloud.cls()().count.remote_gen.aio(500)] == list(range(500))
