"""Starting what is measured, and waiting until it answers."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import httpx

from infra.local import free_port

START_TIMEOUT_S = 90.0


@contextmanager
def server(module: str, *arguments: str, ready: str = "/", **environ: str) -> Iterator[subprocess.Popen[bytes]]:
    """A process that is over when the block is."""
    process = subprocess.Popen(
        [sys.executable, "-m", module, *arguments],
        env={**os.environ, **environ},
        stdout=subprocess.DEVNULL,
        stderr=subprocess.STDOUT,
        start_new_session=True,
    )
    try:
        wait_for(ready, process)
        yield process
    finally:
        os.killpg(process.pid, 15)
        try:
            process.wait(timeout=10)
        except subprocess.TimeoutExpired:
            os.killpg(process.pid, 9)


def wait_for(url: str, process: subprocess.Popen[bytes]) -> None:
    give_up_at = time.monotonic() + START_TIMEOUT_S
    while time.monotonic() < give_up_at and process.poll() is None:
        try:
            httpx.get(url, timeout=1.0)
        except httpx.TransportError:
            time.sleep(0.05)
        else:
            return
    raise RuntimeError(f"{process.args} does not answer at {url}")


def load(url: str, bodies: list[dict[str, Any]], *, clients: int, requests: int, **headers: str) -> dict[str, float]:
    plan = {"url": url, "bodies": bodies, "headers": headers, "clients": clients, "requests": requests}
    result = subprocess.run(
        [sys.executable, "-m", "tests.bench.load"], input=json.dumps(plan).encode(), capture_output=True, check=False
    )
    if result.returncode:
        raise RuntimeError(result.stderr.decode()[-800:])
    measured: dict[str, float] = json.loads(result.stdout)
    return measured


__all__ = ["free_port", "load", "server"]
