"""Starting what is measured, and waiting until it answers."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from infra.processes import EMULATOR_MODAL_KEY, EMULATOR_MODAL_TOKEN_ID, free_port, wait_for


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


def load(url: str, bodies: list[dict[str, Any]], *, clients: int, requests: int, **headers: str) -> dict[str, float]:
    plan = {"url": url, "bodies": bodies, "headers": headers, "clients": clients, "requests": requests}
    result = subprocess.run(
        [sys.executable, "-m", "tests.bench.load"], input=json.dumps(plan).encode(), capture_output=True, check=False
    )
    if result.returncode:
        raise RuntimeError(result.stderr.decode()[-800:])
    measured: dict[str, float] = json.loads(result.stdout)
    return measured


def modal_environ(port: int) -> dict[str, str]:
    """What a gateway needs for an emulated Modal whose key is "bench"."""
    token = {"MODAL_TOKEN_ID": EMULATOR_MODAL_TOKEN_ID, "MODAL_TOKEN_SECRET": "bench"}
    proxy_token = {"MODAL_KEY": EMULATOR_MODAL_KEY, "MODAL_SECRET": "bench"}
    return {"MODAL_SERVER_URL": f"http://127.0.0.1:{port}", **token, **proxy_token}


__all__ = ["free_port", "load", "modal_environ", "server"]
