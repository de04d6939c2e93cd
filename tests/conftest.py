"""Servers for tests that need real sockets, and the functions of the tests."""

from __future__ import annotations

import asyncio
import json
import os
import socket
import threading
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
import uvicorn

from emulator.app import Emulator
from emulator.endpoints import WorkerKind
from emulator.server import Server
from yapit.gateway.app import create_app
from yapit.gateway.settings import Settings

# before anything imports modal, which reads its configuration then: never the one of whoever runs the tests
os.environ["MODAL_CONFIG_PATH"] = str(Path(__file__).parent / "no-such-file.toml")

TEST_FUNCTIONS = Path(__file__).parent / "functions"
PROCESSORS = "yapit.gateway.processors.tts"
API_KEY = "emulator"


COLLECTED = pytest.StashKey[list[pytest.Item]]()


@pytest.hookimpl(tryfirst=True)
def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    """Keep what was collected, before anything is deselected, for the test of the coverage page."""
    config.stash[COLLECTED] = list(items)


@contextmanager
def serve(make_server: Callable[[str], uvicorn.Server], port: int = 0) -> Iterator[tuple[str, uvicorn.Server]]:
    """A server on a real socket, in a thread with an event loop of its own; made there from its URL, closed there."""
    listener = socket.socket(proto=socket.IPPROTO_TCP)  # asyncio turns Nagle off only where the protocol is named
    listener.bind(("127.0.0.1", port))
    url = f"http://127.0.0.1:{listener.getsockname()[1]}"
    started = threading.Event()
    holder: dict[str, Any] = {}

    async def main() -> None:
        server = holder["server"] = make_server(url)
        start_up = server.startup

        async def announce(sockets: list[socket.socket] | None = None) -> None:
            await start_up(sockets)
            started.set()

        server.startup = announce  # type: ignore[method-assign]
        await server.serve(sockets=[listener])

    def run() -> None:
        try:
            asyncio.run(main())
        except BaseException as error:
            holder["error"] = error
        finally:
            started.set()

    thread = threading.Thread(target=run, daemon=True)
    thread.start()
    started.wait(30)
    if "error" in holder:
        raise holder["error"]
    try:
        yield url, holder["server"]
    finally:
        holder["server"].should_exit = True
        thread.join(20)
        listener.close()


@dataclass
class Stack:
    """A gateway over an emulator, both on real sockets."""

    url: str
    emulator_url: str
    emulator: Emulator


def routes_of(emulator_url: str, functions: list[str]) -> list[dict[str, Any]]:
    routes: list[dict[str, Any]] = []
    for name in functions:
        worker = {"worker_url": f"{emulator_url}/workers/{name}", "processor": f"{PROCESSORS}.local.LocalProcessor"}
        queue = {"runpod_endpoint_id": name, "processor": f"{PROCESSORS}.runpod.RunpodProcessor"}
        balanced = {**queue, "runpod_endpoint_id": f"{name}-lb", "endpoint_type": "load_balancer"}
        app = {"modal_app": f"yapit-{name}", "modal_class": "TTS", "processor": f"{PROCESSORS}.modal.ModalProcessor"}
        routes.append({"slug": name, **worker})
        ways = {"runpod": queue, "runpod-lb": balanced, "modal": app}
        routes += [{"slug": f"{name}-{at}", "function": name, **way} for at, way in ways.items()]
    return routes


def modal_settings(emulator: Emulator) -> dict[str, str]:
    """What a gateway needs for the emulator's Modal."""
    modal = emulator.modal
    token = {"modal_token_id": modal.token.token_id, "modal_token_secret": modal.token.token_secret}
    proxy_token = {"modal_key": modal.proxy_token.key, "modal_secret": modal.proxy_token.secret}
    return {"modal_server_url": modal.server_url, **token, **proxy_token}


def gateway_server(settings: Settings) -> uvicorn.Server:
    app = create_app(settings)
    return uvicorn.Server(uvicorn.Config(app, log_level="warning", access_log=False, timeout_graceful_shutdown=2))


@contextmanager
def running_stack(
    functions_dir: Path,
    folder: Path,
    routes: list[dict[str, Any]] | None = None,
    *,
    workers: WorkerKind = "in-process",
) -> Iterator[Stack]:
    made: list[Emulator] = []

    def make_emulator(url: str) -> Server:
        modal_address = ("127.0.0.1", 0)
        made.append(
            Emulator(functions_dir, api_key=API_KEY, workers=workers, base_url=url, modal_address=modal_address)
        )
        return Server(made[0])

    with ExitStack() as stack:
        emulator_url, _ = stack.enter_context(serve(make_emulator))
        routes = routes or routes_of(emulator_url, list(made[0].specs))
        for route in routes:
            if route.get("worker_url", "").startswith("/"):
                route["worker_url"] = emulator_url + route["worker_url"]
        routes_file = folder / "tts_processors.json"
        routes_file.write_text(json.dumps(routes))
        settings = Settings(
            _env_file=None,
            tts_processors_file=routes_file,
            functions_dir=functions_dir,
            runpod_api_base=f"{emulator_url}/v2",
            runpod_lb_base=f"{emulator_url}/lb/{{id}}",
            runpod_api_key=API_KEY,
            **modal_settings(made[0]),
        )
        url, _ = stack.enter_context(serve(lambda _: gateway_server(settings)))
        yield Stack(url, emulator_url, made[0])


@pytest.fixture(scope="session")
def tone_stack(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Stack]:
    """The gateway over the tests' own functions."""
    with running_stack(TEST_FUNCTIONS, tmp_path_factory.mktemp("routes")) as stack:
        yield stack


@pytest.fixture(scope="session")
def process_stack(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Stack]:
    """The same, with the vendor's own worker loop in processes behind RunPod's endpoints."""
    with running_stack(TEST_FUNCTIONS, tmp_path_factory.mktemp("routes"), workers="process") as stack:
        yield stack
