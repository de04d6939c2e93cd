"""The project's own servers as processes on this machine, started for a while."""

from __future__ import annotations

import socket
import subprocess
import sys
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager

import httpx

from yapit.errors import ConfigurationError

GATEWAY_PORT, EMULATOR_PORT, EMULATOR_MODAL_PORT = 8000, 8900, 8901
EMULATOR_API_KEY = "emulator"
EMULATOR_MODAL_TOKEN_ID = "ak-emulator"  # noqa: S105 - its secret is the key
EMULATOR_MODAL_KEY = "wk-emulator"  # of the proxy token in front of web endpoints; its secret is the key as well
START_TIMEOUT_S = 60.0
STOP_GRACE_S = 5.0


@contextmanager
def server(module: str, environ: Mapping[str, str]) -> Iterator[subprocess.Popen[bytes]]:
    """`python -m module` until the block ends."""
    process = subprocess.Popen([sys.executable, "-m", module], env={**environ, "LOG_LEVEL": "warning"})  # noqa: S603
    try:
        yield process
    finally:
        process.terminate()
        try:
            process.wait(timeout=STOP_GRACE_S)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()


def wait_for(url: str, process: subprocess.Popen[bytes]) -> None:
    """Until something answers at `url`. Raises `ConfigurationError` if the process ends before, or time is over."""
    give_up_at = time.monotonic() + START_TIMEOUT_S
    while time.monotonic() < give_up_at:
        if process.poll() is not None:
            raise ConfigurationError(f"a process ended with {process.returncode}; see above")
        try:
            httpx.get(url, timeout=1.0)
        except httpx.TransportError:
            time.sleep(0.02)
        else:
            return
    raise ConfigurationError(f"nothing answers at {url} after {START_TIMEOUT_S:g} s")


def answers(url: str) -> bool:
    """Whether a server listens there."""
    try:
        httpx.get(url, timeout=2.0)
    except httpx.TransportError:
        return False
    return True


def free_port() -> int:
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        return int(listener.getsockname()[1])


def check_free(port: int, variable: str) -> None:
    """Raises `ConfigurationError` where the port is taken, naming the variable that sets it."""
    with socket.socket() as listener:
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            listener.bind(("127.0.0.1", port))
        except OSError:
            raise ConfigurationError(f"port {port} is taken; set {variable} to a free one") from None
