"""A client that hangs up in the middle of the speech, again and again, leaves nothing behind, here or at Modal.

The emulator is a process of its own, so that what grows is the gateway's.
"""

from __future__ import annotations

import asyncio
import gc
import json
import os
import time
from collections.abc import AsyncIterator, Iterator
from dataclasses import dataclass
from pathlib import Path

import httpx
import modal
import pytest

from infra.processes import free_port, server, wait_for
from tests import gated
from tests.conftest import API_KEY, TEST_FUNCTIONS, gateway_server, serve
from yapit.gateway.settings import Settings

AT_A_TIME = 8
GIVE_UP_S = 20.0
TEXT = " again".join(["speaks"] + [""] * 40)
"""Long enough to be streamed (`MAX_WHOLE_CHARACTERS`)."""
TOKEN = {"modal_token_id": "ak-emulator", "modal_token_secret": API_KEY}
PROXY_TOKEN = {"modal_key": "wk-emulator", "modal_secret": API_KEY}
FEW = pytest.param(50, id="50")
MANY = pytest.param(1_000, id="1000", marks=pytest.mark.slow)


@dataclass(frozen=True)
class Held:
    """What this process holds: the gateway, and the client that hangs up."""

    rss_mib: float
    objects: int
    descriptors: int

    @classmethod
    def now(cls) -> Held:
        gc.collect()
        pages = int(Path("/proc/self/statm").read_text().split()[1])
        rss_mib = pages * os.sysconf("SC_PAGE_SIZE") / 2**20
        return cls(rss_mib, len(gc.get_objects()), len(os.listdir("/proc/self/fd")))


@pytest.fixture(scope="module")
def modal_url() -> Iterator[str]:
    port, modal_port = free_port(), free_port()
    environ = {
        **os.environ,
        "FUNCTIONS_DIR": str(TEST_FUNCTIONS),
        "TTS_PROCESSORS_FILE": str(TEST_FUNCTIONS / "none.json"),
        "EMULATOR_API_KEY": API_KEY,
        "EMULATOR_PORT": str(port),
        "EMULATOR_MODAL_PORT": str(modal_port),
        "PYTHONPATH": str(Path(__file__).parents[2]),
    }
    with server("emulator", environ) as process:
        wait_for(f"http://127.0.0.1:{port}/healthz", process)
        yield f"http://127.0.0.1:{modal_port}"


@pytest.fixture(params=[{}, PROXY_TOKEN], ids=["remote_gen", "web"])
def gateway(request: pytest.FixtureRequest, tmp_path: Path, modal_url: str) -> Iterator[str]:
    route = {"slug": "gated", "processor": "yapit.gateway.processors.tts.modal.ModalProcessor"}
    routes = tmp_path / "routes.json"
    routes.write_text(json.dumps([{**route, "modal_app": "yapit-gated", "modal_class": "TTS"}]))
    settings = Settings(
        _env_file=None,
        tts_processors_file=routes,
        functions_dir=TEST_FUNCTIONS,
        modal_server_url=modal_url,
        **TOKEN,
        **request.param,
    )
    with serve(lambda _: gateway_server(settings)) as (url, _):
        yield url


@pytest.fixture
async def client(modal_url: str, monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[modal.Client]:
    monkeypatch.setenv("MODAL_SERVER_URL", modal_url)
    client = await modal.Client.from_credentials.aio(*TOKEN.values())
    yield client
    await client.close.aio()


async def hang_up(url: str, times: int) -> None:
    waiting = iter(range(times))

    async def one_after_the_other(client: httpx.AsyncClient) -> None:
        body = {"model": "gated", "voice": "any", "input": TEXT, "response_format": "pcm"}
        for _ in waiting:
            async with client.stream("POST", f"{url}/v1/audio/speech", json=body) as response:
                assert response.status_code == 200
                assert await anext(response.aiter_raw()) == gated.FIRST

    async with httpx.AsyncClient() as client:
        await asyncio.gather(*(one_after_the_other(client) for _ in range(AT_A_TIME)))


async def at_rest(client: modal.Client) -> int:
    """Waits until Modal runs no input any more; its containers then."""
    tts = modal.Cls.from_name("yapit-gated", "TTS", client=client)()
    give_up_at = time.monotonic() + GIVE_UP_S
    while True:
        stats = await tts.stream.get_current_stats.aio()
        if stats.backlog == 0 and stats.num_running_inputs == 0:
            return stats.num_total_runners
        assert time.monotonic() < give_up_at, stats
        await asyncio.sleep(0.01)


@pytest.mark.parametrize("times", [FEW, MANY])
async def test_hanging_up_leaves_no_job_no_growth_and_the_same_workers(
    gateway: str, client: modal.Client, times: int
) -> None:
    await hang_up(gateway, 40)  # what is made once is made now
    workers, before = await at_rest(client), Held.now()
    await hang_up(gateway, times)
    assert await at_rest(client) == workers
    after = Held.now()
    print(f"\n{times} hang-ups: {before} → {after}")
    assert after.descriptors <= before.descriptors + 2
    assert after.objects - before.objects < 300
    if times >= 1_000:  # a few pages more or less, beside all other tests, say nothing
        assert after.rss_mib - before.rss_mib < 8
