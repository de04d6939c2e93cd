"""The tests' app deployed to the emulator and run by Modal's own container runtime. Containers take half a second to
start, so that one emulator, in a thread of its own, serves all tests of a run."""

from __future__ import annotations

import asyncio
import os
import subprocess
import sys
import threading
from collections.abc import AsyncIterator, Coroutine, Iterator
from concurrent.futures import Future
from contextlib import asynccontextmanager, contextmanager
from pathlib import Path
from typing import Any, TypeVar

import modal
import pytest

from emulator.engine.clock import RealClock
from emulator.engine.faults import Faults
from emulator.modal.control_plane import ControlPlane
from tests.conformance.modal_cloud import Cloud
from tests.conformance.modal_serving import PROXY_HEADERS, TOKEN, serving

T = TypeVar("T")
ROOT = Path(__file__).parents[2]
DEPLOY_TIMEOUT_S = 60
START_TIMEOUT_S = 20


class Emulated:
    """A control plane in a thread."""

    def __init__(self) -> None:
        self.clock, self.faults = RealClock(), Faults()
        self.control_plane: ControlPlane
        self._loop = asyncio.new_event_loop()
        self._is_up, self._over = threading.Event(), asyncio.Event()
        self._thread = threading.Thread(target=self._run, name="emulator")

    def start(self) -> None:
        self._thread.start()
        assert self._is_up.wait(START_TIMEOUT_S), "the emulator did not start"

    def stop(self) -> None:
        self._loop.call_soon_threadsafe(self._over.set)
        self._thread.join()

    def run(self, work: Coroutine[Any, Any, T]) -> Future[T]:
        """In the emulator's thread."""
        return asyncio.run_coroutine_threadsafe(work, self._loop)

    def modal(self, *arguments: str, **environment: str) -> subprocess.CompletedProcess[str]:
        """Modal's command line against it, with what it said on both streams."""
        inherited = {name: value for name, value in os.environ.items() if not name.startswith("MODAL_")}
        return subprocess.run(
            [sys.executable, "-m", "modal", *arguments],
            env={**inherited, "NO_COLOR": "1", "COLUMNS": "200", **self.control_plane.environment(), **environment},
            cwd=ROOT,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            timeout=DEPLOY_TIMEOUT_S,
            check=False,
        )

    def deploy(self, module: str, **environment: str) -> str:
        """What `modal deploy` said. Fails the test where it failed."""
        done = self.modal("deploy", "-m", module, **environment)
        assert done.returncode == 0, done.stdout
        return done.stdout

    def _run(self) -> None:
        asyncio.set_event_loop(self._loop)
        self._loop.run_until_complete(self._serve())
        self._loop.close()

    async def _serve(self) -> None:
        async with serving(self.clock, self.faults) as self.control_plane:
            self._is_up.set()
            await self._over.wait()


@contextmanager
def emulated() -> Iterator[Emulated]:
    emulator = Emulated()
    emulator.start()
    try:
        yield emulator
    finally:
        emulator.stop()


@asynccontextmanager
async def client_of(emulator: Emulated, monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[Cloud]:
    """What one test sees of it: its RPCs from now on, its faults."""
    monkeypatch.setenv("MODAL_SERVER_URL", emulator.control_plane.server_url)
    client = await modal.Client.from_credentials.aio(TOKEN.token_id, TOKEN.token_secret)
    emulator.control_plane.rpc.log.clear()
    yield Cloud(client, PROXY_HEADERS, emulator.control_plane, emulator.faults)
    emulator.faults.set([])
    await client.close.aio()
