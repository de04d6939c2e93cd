"""Endpoints that the routes file names come and go with it."""

from __future__ import annotations

import json
import logging
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import httpx
import pytest
import pytest_asyncio

from emulator.app import Emulator
from tests.conftest import API_KEY, TEST_FUNCTIONS
from tests.unit.emulator.test_management import BODY, SPEAK
from tests.waiting import until
from yapit.errors import ConfigurationError

NAMED = {"slug": "tone-runpod", "function": "tone", "runpod_endpoint_id": "abc123"}


def write(path: Path, entries: object) -> None:
    (path.parent / "new").write_text(json.dumps(entries))
    (path.parent / "new").replace(path)


@pytest_asyncio.fixture
async def emulator(tmp_path: Path) -> AsyncIterator[Emulator]:
    write(tmp_path / "routes.json", [{"slug": "tone", "worker_url": "http://127.0.0.1:1"}])
    emulator = Emulator(TEST_FUNCTIONS, api_key=API_KEY, routes_file=tmp_path / "routes.json")
    yield emulator
    await emulator.close()


async def ask(emulator: Emulator, method: str, path: str, body: object = None) -> httpx.Response:
    transport = httpx.ASGITransport(emulator.app)
    async with httpx.AsyncClient(transport=transport, base_url="http://emulator/v2") as client:
        return await client.request(method, path, json=body, headers={"Authorization": API_KEY})


async def status_of(emulator: Emulator, endpoint_id: str) -> int:
    return (await ask(emulator, "GET", f"/{endpoint_id}/health")).status_code


async def test_a_named_endpoint_is_there_from_the_next_request_on(emulator: Emulator, tmp_path: Path) -> None:
    path = tmp_path / "routes.json"
    assert await status_of(emulator, "abc123") == 404
    write(path, [NAMED])
    assert (await ask(emulator, "POST", "/abc123/runsync", SPEAK)).json()["status"] == "COMPLETED"
    pool = emulator.endpoints["abc123"].pool
    write(path, [{**NAMED, "endpoint_type": "load_balancer"}])
    assert (await ask(emulator, "GET", "../lb/abc123/health")).json()["function"] == "tone"
    assert emulator.endpoints["abc123"].type.value == "LOAD_BALANCER"
    write(path, [])
    assert await status_of(emulator, "abc123") == 404
    await until(lambda: not pool.workers())
    assert await status_of(emulator, "tone") == 200


async def test_a_deployed_endpoint_is_not_the_files_to_remove(emulator: Emulator, tmp_path: Path) -> None:
    endpoint_id: str = (await ask(emulator, "POST", "/serverless", BODY)).json()["id"]
    for entries in ([{**NAMED, "runpod_endpoint_id": endpoint_id}], []):
        write(tmp_path / "routes.json", entries)
        assert await status_of(emulator, endpoint_id) == 200


@pytest.mark.parametrize(
    "entries", [{}, [5], [{**NAMED, "function": "nobody"}], [{**NAMED, "endpoint_type": "x"}], "text"]
)
async def test_a_file_that_cannot_be_served_is_told_and_changes_nothing(
    emulator: Emulator, tmp_path: Path, entries: Any, caplog: pytest.LogCaptureFixture
) -> None:
    write(tmp_path / "routes.json", [NAMED])
    assert await status_of(emulator, "abc123") == 200
    write(tmp_path / "routes.json", entries)
    with caplog.at_level(logging.ERROR):
        assert await status_of(emulator, "abc123") == 200
    assert "endpoints stay as they were" in caplog.text
    with pytest.raises(ConfigurationError):
        Emulator(TEST_FUNCTIONS, routes_file=tmp_path / "routes.json")
