"""Items 28 to 30 of the checklist: failures of the control plane, limits, and regions."""

from __future__ import annotations

import asyncio
from pathlib import Path
from typing import Any

import httpx
import modal
import pytest
from grpclib.const import Status
from grpclib.exceptions import GRPCError
from modal_proto import api_pb2

from emulator.engine.clock import VirtualClock
from emulator.engine.faults import Effect, FaultRule
from emulator.modal import facts
from emulator.modal.limits import ModalLimits
from tests.conformance.modal_cloud import RELEASE, Cloud
from tests.conformance.modal_in_process import in_process
from tests.conformance.modal_raw import raw
from tests.conformance.modal_served import appeared


async def test_28_unavailable_once_is_not_seen(modal_cloud: Cloud) -> None:
    modal_cloud.faults.set([FaultRule(Effect.STATUS, match="RPC FunctionMap", count=1, value=503)])
    assert (await modal_cloud.cls()().echo.remote.aio("a"))["args"] == ["a"]
    assert modal_cloud.rpcs.count("FunctionMap") == 2


async def test_28_resource_exhausted_is_seen_at_once(modal_cloud: Cloud) -> None:
    modal_cloud.faults.set([FaultRule(Effect.STATUS, match="RPC FunctionMap", value=429)])
    with pytest.raises(modal.exception.ResourceExhaustedError):
        await modal_cloud.cls()().echo.remote.aio("a")
    assert modal_cloud.rpcs.count("FunctionMap") == 1


async def test_29_over_the_queue_limit(modal_cloud: Cloud) -> None:
    async with raw(modal_cloud) as rpcs:
        with pytest.raises(GRPCError, match="2,000 inputs") as refused:
            await rpcs.map("echo", inputs=facts.MAX_QUEUED + 1)
        assert refused.value.status is Status.RESOURCE_EXHAUSTED
        await rpcs.map("echo", inputs=facts.MAX_QUEUED)


async def test_29_what_waits_counts(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    gate = tmp_path / "gate"
    async with in_process(monkeypatch, limits=ModalLimits(max_queued=1)) as cloud:
        single = cloud.cls("Single")()
        running = await single.hold.spawn.aio(str(gate))
        await appeared(f"{gate}.started")
        waiting = asyncio.create_task(single.echo.remote.aio("a"))
        await _until_backlog(single.echo, 1)
        with pytest.raises(modal.exception.ResourceExhaustedError, match="waiting"):
            await single.echo.remote.aio("b")
        response = await _get(cloud, "/modal/web/conformance-single-web/echo")
        assert (response.status_code, response.headers["retry-after"]) == (429, "1")
        gate.touch()
        assert (await waiting)["args"] == ["a"]
        assert await running.get.aio() == "held"


async def test_29_over_the_rate_limit(monkeypatch: pytest.MonkeyPatch) -> None:
    clock = VirtualClock()
    async with in_process(monkeypatch, clock, ModalLimits(inputs_per_s=2.0, burst_s=1.0)) as cloud:
        served = cloud.cls()()
        for _ in range(2):
            await served.echo.remote.aio()
        with pytest.raises(modal.exception.ResourceExhaustedError, match="2 inputs per second"):
            await served.echo.remote.aio()
        assert (await _get(cloud, "/modal/web/conformance-served-web/echo")).status_code == 429
        await clock.advance(0.5)
        await served.echo.remote.aio()


async def test_30_a_region_is_called_over_its_input_plane(modal_cloud: Cloud, tmp_path: Path) -> None:
    regional = modal_cloud.cls("Regional")()
    assert (await regional.echo.remote.aio("a"))["args"] == ["a"]
    assert modal_cloud.rpcs[2:] == ["AuthTokenGet", "AttemptStart", "AttemptAwait"]
    await regional.echo.remote.aio("b")
    assert modal_cloud.rpcs[5:] == ["AttemptStart", "AttemptAwait"]
    with pytest.raises(modal.exception.RemoteError, match="bad text"):
        await modal_cloud.cls("Regional").with_options(retries=0)().fail.remote.aio("bad text")
    assert await regional.try_again.remote.aio(str(tmp_path / "tries"), 1) == 1
    assert [size async for size in regional.size_of.map.aio([b"", b"a", b"ab"])] == [0, 1, 2]
    assert "FunctionMap" not in modal_cloud.rpcs


async def test_30_a_region_neither_spawns_nor_streams(modal_cloud: Cloud) -> None:
    regional = modal_cloud.cls("Regional")()
    with pytest.raises(modal.exception.InvalidError, match="eu-west"):
        await regional.echo.spawn.aio("a")
    with pytest.raises(modal.exception.InvalidError, match="eu-west"):
        [_ async for _ in regional.count.remote_gen.aio(3)]


async def test_30_an_input_plane_wants_its_own_token(modal_cloud: Cloud) -> None:
    async with raw(modal_cloud) as rpcs:
        request = api_pb2.AttemptStartRequest(function_id=await rpcs.function_id("Regional.*"))
        with pytest.raises(GRPCError) as refused:
            await rpcs.call("AttemptStart", request, x_modal_auth_token="made.up.token")
        assert refused.value.status is Status.UNAUTHENTICATED


async def test_what_is_not_here_says_so(modal_cloud: Cloud) -> None:
    async with raw(modal_cloud) as rpcs:
        with pytest.raises(GRPCError, match="does not implement DictGet") as refused:
            await rpcs.call("DictGet", api_pb2.DictGetRequest())
        assert refused.value.status is Status.UNIMPLEMENTED


async def test_what_is_not_here_is_logged(monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture) -> None:
    async with in_process(monkeypatch) as cloud, raw(cloud) as rpcs:
        with pytest.raises(GRPCError):
            await rpcs.call("DictGet", api_pb2.DictGetRequest())
    assert "DictGet was called and is not implemented" in caplog.text


async def _until_backlog(method: Any, backlog: int) -> None:
    """A poll of the API itself, each of which is an RPC."""
    while (await method.get_current_stats.aio()).backlog < backlog:
        pass


async def _get(cloud: Cloud, path: str) -> httpx.Response:
    async with httpx.AsyncClient(base_url=cloud.control_plane.addresses.http, headers=cloud.proxy_headers) as http:
        return await http.get(path)


@pytest.mark.skipif(RELEASE < (1, 6), reason="the SDK's Function.autoscaler is of 1.6")
async def test_the_autoscaler_is_asked_and_told(virtual_modal: tuple[Cloud, VirtualClock]) -> None:
    cloud, _ = virtual_modal
    echo = cloud.cls("Short")().echo
    assert (await echo.autoscaler.settings.aio()).max_containers == 2
    await echo.autoscaler.update.aio(min_containers=1, max_containers=3, buffer_containers=1, scaledown_window=30)
    found = await echo.autoscaler.settings.aio()
    settings = (found.min_containers, found.max_containers, found.buffer_containers, found.scaledown_window)
    assert settings == (1, 3, 1, 30)
    assert (await echo.get_current_stats.aio()).num_total_runners >= 1
    await echo.autoscaler.update.aio(min_containers=0, max_containers=2, buffer_containers=0, scaledown_window=60)
