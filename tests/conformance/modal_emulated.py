"""An emulator in a process of its own, as the tests' app and Modal's SDK meet it: over its sockets.

Containers take half a second to start, so that one emulator serves all tests of a run.
"""

from __future__ import annotations

import asyncio
import json
import os
import subprocess
import sys
from collections.abc import AsyncIterator, Iterable, Iterator
from contextlib import asynccontextmanager, contextmanager
from dataclasses import dataclass
from pathlib import Path

import httpx
import modal
import pytest

from emulator import fault_requests
from emulator.engine.faults import FaultRule
from tests.conformance.modal_cloud import Cloud, close
from tests.conformance.modal_serving import PROXY_HEADERS, TOKEN

RPCS_PATH, CLOCK_PATH = "/_test/rpcs", "/_test/clock"
ROOT = Path(__file__).parents[2]
SERVER_PYTHON = "MODAL_TEST_SERVER_PYTHON"
"""The Python that runs the emulator, where that is not the one that runs the tests (`sdk_versions`)."""
CLI_TIMEOUT_S, STOP_TIMEOUT_S = 90, 30
HTTP_TIMEOUT_S = 10.0


@dataclass(frozen=True, slots=True)
class Addresses:
    http: str


class RpcLog:
    """The names of the RPCs that were called, in order."""

    def __init__(self, http: httpx.Client) -> None:
        self._http = http

    def __iter__(self) -> Iterator[str]:
        return iter(self._http.get(RPCS_PATH).json())

    def clear(self) -> None:
        self._http.delete(RPCS_PATH).raise_for_status()


@dataclass(frozen=True, slots=True)
class Rpc:
    log: RpcLog


class RemoteFaults:
    """As `Faults`, of which the tests only set rules."""

    def __init__(self, http: httpx.Client) -> None:
        self._http = http

    def set(self, rules: Iterable[FaultRule]) -> None:
        told = [
            {
                "effect": rule.effect.value,
                "match": rule.match,
                "probability": rule.probability,
                "count": rule.count,
                "value": rule.value,
            }
            for rule in rules
        ]
        self._http.put(fault_requests.PATH, json={"rules": told}).raise_for_status()


class RemoteClock:
    """As `VirtualClock`."""

    def __init__(self, http: httpx.Client) -> None:
        self._http = http

    async def advance(self, seconds: float) -> None:
        answer = await asyncio.to_thread(self._http.post, CLOCK_PATH, content=str(seconds))
        answer.raise_for_status()


class Emulated:
    """It stands for its own control plane, with what the tests ask of one."""

    token = TOKEN

    def __init__(self, server_url: str, http_url: str) -> None:
        self.server_url, self.addresses = server_url, Addresses(http_url)
        self._http = httpx.Client(base_url=http_url, timeout=HTTP_TIMEOUT_S)
        self.rpc, self.faults, self.clock = Rpc(RpcLog(self._http)), RemoteFaults(self._http), RemoteClock(self._http)

    def close(self) -> None:
        self._http.close()

    def modal(self, *arguments: str, **environment: str) -> subprocess.CompletedProcess[str]:
        """Modal's command line against it, with what it said on both streams."""
        inherited = {name: value for name, value in os.environ.items() if not name.startswith("MODAL_")}
        account = {
            "MODAL_SERVER_URL": self.server_url,
            "MODAL_TOKEN_ID": TOKEN.token_id,
            "MODAL_TOKEN_SECRET": TOKEN.token_secret,
            "MODAL_BUILD_VALIDATION": "ignore",  # else a source that is saved meanwhile fails the deploy
        }
        return subprocess.run(
            [sys.executable, "-m", "modal", *arguments],
            env={**inherited, "NO_COLOR": "1", "COLUMNS": "200", **account, **environment},
            cwd=ROOT,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            timeout=CLI_TIMEOUT_S,
            check=False,
        )

    def deploy(self, module: str, **environment: str) -> str:
        """What `modal deploy` said. Fails the test where it failed."""
        done = self.modal("deploy", "-m", module, **environment)
        assert done.returncode == 0, done.stdout
        return done.stdout

    @asynccontextmanager
    async def cloud(self, monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[Cloud]:
        """What one test sees of it: its RPCs from now on, its faults."""
        monkeypatch.setenv("MODAL_SERVER_URL", self.server_url)
        client = await modal.Client.from_credentials.aio(TOKEN.token_id, TOKEN.token_secret)
        self.rpc.log.clear()
        yield Cloud(client, PROXY_HEADERS, self, self.faults)
        self.faults.set([])
        await close(client)


@contextmanager
def emulated(*options: str) -> Iterator[Emulated]:
    """Started with these options of `modal_server`."""
    python = os.environ.get(SERVER_PYTHON, sys.executable)
    with subprocess.Popen(
        [python, "-m", "tests.conformance.modal_server", *options],
        cwd=ROOT,
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    ) as process:
        assert process.stdout is not None
        line = process.stdout.readline()
        assert line, "the emulator did not start"
        emulator = Emulated(**json.loads(line))
        try:
            yield emulator
        finally:
            emulator.close()
            process.communicate("", timeout=STOP_TIMEOUT_S)


def runs_elsewhere() -> bool:
    """Whether the emulator is to run under another Python than the tests."""
    return SERVER_PYTHON in os.environ
