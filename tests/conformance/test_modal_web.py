"""Items 38 to 40 of the checklist: web endpoints."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import httpx
import pytest

from emulator.engine.clock import VirtualClock
from emulator.engine.faults import Effect, FaultRule
from emulator.modal import facts
from tests.conformance.modal_cloud import Cloud
from tests.conformance.modal_served import appeared

START_TIMEOUT_S = 60.0
"""A container that was lost may have to be replaced first."""


@asynccontextmanager
async def web(
    cloud: Cloud, headers: dict[str, str] | None = None, name: str = "Served"
) -> AsyncIterator[httpx.AsyncClient]:
    """A client of the class's web endpoint, with its proxy token unless told otherwise."""
    url = await cloud.cls(name)().web.get_web_url.aio()
    headers = cloud.proxy_headers if headers is None else headers
    async with httpx.AsyncClient(base_url=url, headers=headers, timeout=START_TIMEOUT_S) as http:
        yield http


async def test_38_without_the_proxy_token_no_container_is_started(modal_cloud: Cloud) -> None:
    key = modal_cloud.proxy_headers["Modal-Key"]
    for headers in ({}, {"Modal-Key": key}, {"Modal-Key": key, "Modal-Secret": "guessed"}):
        async with web(modal_cloud, headers, name="Unused") as http:
            assert (await http.get("/echo")).status_code == 401
    assert (await modal_cloud.cls("Unused")().echo.get_current_stats.aio()).num_total_runners == 0


async def test_38_with_it_the_request_is_served(modal_cloud: Cloud) -> None:
    async with web(modal_cloud) as http:
        response = await http.post("/echo", content=b"hello")
        assert (response.status_code, response.json()["body"]) == (200, "hello")
        assert response.json()["path"].endswith("/echo")
        assert (await http.get("/nothing")).status_code == 404
        assert (await http.get("/broken")).status_code == 500


async def test_07_parameters_of_a_web_endpoint_are_in_its_query(modal_cloud: Cloud) -> None:
    url = await modal_cloud.cls("Voiced")().web.get_web_url.aio()
    async with httpx.AsyncClient(base_url=url, headers=modal_cloud.proxy_headers) as http:
        assert (await http.get("/echo")).json()["who"] == "heart"
        assert (await http.get("/echo", params={"voice": "nova", "other": "thing"})).json()["who"] == "nova"


async def test_38_a_web_method_is_not_called_otherwise(modal_cloud: Cloud) -> None:
    with pytest.raises(Exception, match="webhook function cannot be invoked"):
        await modal_cloud.cls()().web.remote.aio()


async def test_39_a_long_request_leads_to_its_result(virtual_modal: tuple[Cloud, VirtualClock], tmp_path: Path) -> None:
    cloud, clock = virtual_modal
    gate = tmp_path / "gate"
    async with web(cloud) as http:
        asking = asyncio.create_task(http.post("/held", params={"gate": str(gate)}))
        await appeared(f"{gate}.started")
        await clock.advance(facts.WEB_TIMEOUT_S)
        redirection = await asking
        result_url = redirection.headers["location"]
        assert redirection.status_code == 303
        assert "__modal_function_call_id=fc-" in result_url
        polling = asyncio.create_task(http.get(result_url))
        while not polling.done():  # it hangs, as the request did
            await clock.advance(1.0)
        assert (await polling).headers["location"] == result_url
        gate.touch()
        assert (await http.get(result_url)).json() == {"held": True}
        assert (await http.get(result_url, headers={"Modal-Key": "", "Modal-Secret": ""})).status_code == 401
        unknown = await http.get("/held", params={facts.WEB_CALL_PARAMETER: "fc-unknown"})
        assert unknown.status_code == 404


async def test_40_hanging_up_cancels(modal_cloud: Cloud, tmp_path: Path) -> None:
    gate, served = tmp_path / "gate", modal_cloud.cls()()
    before = await served.who.remote.aio()
    async with web(modal_cloud) as http:
        asking = asyncio.create_task(http.get("/held", params={"gate": str(gate)}))
        await appeared(f"{gate}.started")
        asking.cancel()
        await appeared(f"{gate}.cancelled")
    assert await served.who.remote.aio() == before


async def test_40_hanging_up_in_mid_stream_cancels(modal_cloud: Cloud, tmp_path: Path) -> None:
    gate = tmp_path / "gate"
    async with web(modal_cloud) as http:
        async with http.stream("GET", "/streamed", params={"gate": str(gate)}) as response:
            assert await anext(response.aiter_bytes()) == b"first\n"
        await appeared(f"{gate}.closed")


async def test_a_stream_comes_as_it_is_made(modal_cloud: Cloud, tmp_path: Path) -> None:
    gate = tmp_path / "gate"
    async with web(modal_cloud) as http, http.stream("GET", "/streamed", params={"gate": str(gate)}) as response:
        parts = response.aiter_bytes()
        assert await anext(parts) == b"first\n"
        gate.touch()
        assert await anext(parts) == b"last\n"


async def test_a_container_that_dies_before_it_answers_is_replaced(modal_cloud: Cloud) -> None:
    """The body is read again from its beginning."""
    modal_cloud.faults.set([FaultRule(Effect.KILL_BEFORE, match="modal/*", count=1)])
    async with web(modal_cloud) as http:
        assert (await http.post("/echo", content=b"hello")).json()["body"] == "hello"


async def test_a_container_that_dies_in_mid_stream_breaks_the_connection_off(
    virtual_modal: tuple[Cloud, VirtualClock], tmp_path: Path
) -> None:
    cloud, clock = virtual_modal
    cloud.faults.set([FaultRule(Effect.OUT_OF_MEMORY, match="modal/*", count=1, value=5.0)])
    async with (
        web(cloud) as http,
        http.stream("GET", "/streamed", params={"gate": str(tmp_path / "gate")}) as response,
    ):
        parts = response.aiter_bytes()
        assert await anext(parts) == b"first\n"
        await clock.advance(5.0)
        with pytest.raises(httpx.RemoteProtocolError):
            await anext(parts)


async def test_a_container_that_always_dies_is_an_error(modal_cloud: Cloud) -> None:
    modal_cloud.faults.set([FaultRule(Effect.KILL_BEFORE, match="modal/*")])
    async with web(modal_cloud) as http:
        response = await http.get("/echo")
        assert (response.status_code, facts.LOST in response.text) == (500, True)
