"""Items 1 to 12 of the checklist: lookup, calls, parameters, payloads and errors."""

from __future__ import annotations

import asyncio
import pickle
from pathlib import Path

import modal
import pytest
from grpclib.const import Status
from grpclib.exceptions import GRPCError
from modal_proto import api_pb2

from emulator.engine.clock import VirtualClock
from tests.conformance.modal_cloud import APP, REMEMBERS_VARIANTS, Cloud, close
from tests.conformance.modal_raw import raw
from tests.conformance.modal_served import appeared


async def test_01_unknown_app_or_class(modal_cloud: Cloud) -> None:
    with pytest.raises(modal.exception.NotFoundError, match="'nowhere'"):
        await modal.Cls.from_name("nowhere", "Served", client=modal_cloud.client)().echo.remote.aio()
    with pytest.raises(modal.exception.NotFoundError, match="Nobody"):
        await modal_cloud.cls("Nobody")().echo.remote.aio()
    with pytest.raises(modal.exception.NotFoundError, match="nothing"):
        await modal_cloud.function("nothing").remote.aio()


async def test_01_unknown_environment(modal_cloud: Cloud) -> None:
    elsewhere = modal.Cls.from_name(APP, "Served", environment_name="nowhere", client=modal_cloud.client)
    with pytest.raises(modal.exception.NotFoundError, match="nowhere"):
        await elsewhere().echo.remote.aio()


async def test_02_a_class_looked_up_as_a_function(modal_cloud: Cloud) -> None:
    with pytest.raises(modal.exception.NotFoundError, match=r"Use `modal.Cls.from_name` instead|is a class"):
        await modal_cloud.function("Served").remote.aio()


async def test_03_unknown_method(modal_cloud: Cloud) -> None:
    with pytest.raises(modal.exception.NotFoundError, match="no method"):
        await modal_cloud.cls()().nothing.remote.aio()


async def test_04_a_wrong_token_is_refused(modal_cloud: Cloud) -> None:
    stranger = await modal.Client.from_credentials.aio("ak-test", "as-guessed")
    with pytest.raises(modal.exception.AuthError):
        await modal.Cls.from_name(APP, "Served", client=stranger)().echo.remote.aio()
    await close(stranger)


async def test_04_without_a_token_nothing_is_sent(modal_cloud: Cloud, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("MODAL_TOKEN_ID", "MODAL_TOKEN_SECRET"):
        monkeypatch.delenv(name, raising=False)
    with pytest.raises(modal.exception.AuthError, match="Token missing"):
        await modal.Cls.from_name(APP, "Served")().echo.remote.aio()
    assert modal_cloud.rpcs == []


async def test_05_a_function_is_called_in_three_rpcs_then_in_two(modal_cloud: Cloud) -> None:
    echo = modal_cloud.function("echo")
    assert await echo.remote.aio("a", speed=1.5) == {"args": ["a"], "kwargs": {"speed": 1.5}}
    assert modal_cloud.rpcs == ["FunctionGet", "FunctionMap", "FunctionGetOutputs"]
    await echo.remote.aio("b")
    assert modal_cloud.rpcs[3:] == ["FunctionMap", "FunctionGetOutputs"]


async def test_06_a_class_is_called_in_four_rpcs_then_in_two(modal_cloud: Cloud) -> None:
    served = modal_cloud.cls()()
    assert await served.echo.remote.aio("a", speed=1.5) == {"args": ["a"], "kwargs": {"speed": 1.5}}
    assert modal_cloud.rpcs == ["ClassGet", "FunctionGet", "FunctionMap", "FunctionGetOutputs"]
    await served.echo.remote.aio("b")
    assert modal_cloud.rpcs[4:] == ["FunctionMap", "FunctionGetOutputs"]


async def test_06_from_a_thread_without_an_event_loop(modal_cloud: Cloud) -> None:
    assert await asyncio.to_thread(modal_cloud.cls()().echo.remote, "a") == {"args": ["a"], "kwargs": {}}


async def test_07_parameters_reach_the_instance(modal_cloud: Cloud) -> None:
    voiced = modal_cloud.cls("Voiced")
    assert (await voiced().who.remote.aio())["voice"] == "heart"
    assert (await voiced(voice="nova").who.remote.aio())["voice"] == "nova"
    with pytest.raises(modal.exception.InvalidError, match="loudness"):
        await voiced(loudness="11").who.remote.aio()


async def test_07_parameters_the_sdk_would_not_send(modal_cloud: Cloud) -> None:
    async with raw(modal_cloud) as rpcs:
        value = api_pb2.ClassParameterValue(name="voice", type=api_pb2.PARAM_TYPE_UNKNOWN, pickle_value=b"\x80\x04N.")
        for name, parameters, complaint in (
            ("Voiced.*", api_pb2.ClassParameterSet(parameters=[value]).SerializeToString(), "not a string"),
            ("Served.*", pickle.dumps(((), {"voice": "nova"})), r"no modal\.parameter"),
        ):
            request = api_pb2.FunctionBindParamsRequest(
                function_id=await rpcs.function_id(name), serialized_params=parameters
            )
            with pytest.raises(GRPCError, match=complaint) as refused:
                await rpcs.call("FunctionBindParams", request)
            assert refused.value.status is Status.INVALID_ARGUMENT


async def test_08_the_same_parameters_the_same_containers(modal_cloud: Cloud) -> None:
    async def instance(**parameters: str) -> str:
        who: dict[str, str] = await modal_cloud.cls("Voiced")(**parameters).who.remote.aio()
        return who["instance"]

    first = await instance(voice="nova")
    assert await instance(voice="nova") == first
    assert await instance(voice="heart") != first
    assert await instance(voice="heart") == await instance()


async def test_09_options_make_a_variant_that_is_bound_once(modal_cloud: Cloud) -> None:
    served = modal_cloud.cls()
    base = (await served().who.remote.aio())["instance"]
    slow = served.with_options(timeout=900)
    variant = (await slow().who.remote.aio())["instance"]
    assert variant != base
    assert (await slow().who.remote.aio())["instance"] == variant
    assert (await served.with_options(timeout=900)().who.remote.aio())["instance"] == variant
    assert modal_cloud.rpcs.count("FunctionBindParams") == (1 if REMEMBERS_VARIANTS else 3)


async def test_10_the_sdk_sends_cbor_unasked(modal_cloud: Cloud) -> None:
    """A tuple survives a pickle, and is a list after CBOR."""
    assert (await modal_cloud.cls()().echo.remote.aio((1, b"\0", None)))["args"] == [[1, b"\0", None]]


async def test_10_a_pickle_is_refused_and_not_loaded(modal_cloud: Cloud, tmp_path: Path) -> None:
    async with raw(modal_cloud) as rpcs:
        evil = api_pb2.FunctionInput(
            args=pickle.dumps(((_Touch(tmp_path / "loaded"),), {})),
            data_format=api_pb2.DATA_FORMAT_PICKLE,
            method_name="echo",
        )
        request = api_pb2.FunctionMapRequest(
            function_id=await rpcs.function_id(),
            function_call_invocation_type=api_pb2.FUNCTION_CALL_INVOCATION_TYPE_SYNC,
            pipelined_inputs=[api_pb2.FunctionPutInputsItem(input=evil)],
        )
        with pytest.raises(GRPCError, match="CBOR") as refused:
            await rpcs.call("FunctionMap", request)
        assert refused.value.status is Status.INVALID_ARGUMENT
    assert not (tmp_path / "loaded").exists()


async def test_11_an_exception_arrives_in_words(modal_cloud: Cloud) -> None:
    with pytest.raises(modal.exception.RemoteError, match=r"ValueError\('bad text', 42\)"):
        await modal_cloud.cls()().fail.remote.aio("bad text")


async def test_12_a_function_that_takes_too_long(virtual_modal: tuple[Cloud, VirtualClock], tmp_path: Path) -> None:
    cloud, clock = virtual_modal
    gate = str(tmp_path / "gate")
    calling = asyncio.create_task(cloud.cls("Short")().hold.remote.aio(gate))
    await appeared(f"{gate}.started")
    await clock.advance(1.0)
    with pytest.raises(modal.exception.FunctionTimeoutError, match="1s"):
        await calling
    await appeared(f"{gate}.cancelled")


class _Touch:
    """Leaves a file behind where it is unpickled."""

    def __init__(self, path: Path) -> None:
        self._path = path

    def __reduce__(self) -> tuple[object, tuple[object, ...]]:
        return Path.touch, (self._path,)
