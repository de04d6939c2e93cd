"""The whole product on this machine: `python -m infra.local emulate` and `… say TEXT`.

Both bring up the emulator and a gateway as processes of their own, over the routes in `tts_processors.json` and, for
every function without one, a route made up here: a new function is heard without touching another file.
"""

from __future__ import annotations

import argparse
import json
import os
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import httpx

from infra.processes import (
    EMULATOR_API_KEY,
    EMULATOR_MODAL_KEY,
    EMULATOR_MODAL_PORT,
    EMULATOR_MODAL_TOKEN_ID,
    EMULATOR_PORT,
    GATEWAY_PORT,
    answers,
    check_free,
    free_port,
    server,
    wait_for,
)
from infra.routes_file import Entry, read_entries, routes_file, shared_fields
from yapit.errors import ConfigurationError
from yapit.function_spec import MODAL_CLASS, FunctionSpec, discover, functions_root

PORT_VARIABLES = {"gateway": "GATEWAY_PORT", "emulator": "EMULATOR_PORT", "modal": "EMULATOR_MODAL_PORT"}
REFRESH_S = 0.25
"""How often the committed routes are looked at: a deployment is heard this much later."""
_PROCESSORS = "yapit.gateway.processors.tts"


def emulator_routes(committed: list[Entry], specs: dict[str, FunctionSpec], port: int) -> list[Entry]:
    """The committed routes with local workers at `port`, and for every function those that are not there: one to its
    plain HTTP worker, two through RunPod's queue and load balancer, one through Modal's."""
    base = f"http://127.0.0.1:{port}/workers"
    default = f"http://127.0.0.1:{EMULATOR_PORT}/workers"
    routes = [
        {**route, "worker_url": route["worker_url"].replace(default, base)} if "worker_url" in route else route
        for route in committed
    ]
    taken = {name for route in routes for name in (route["slug"], *route.get("aliases", []))}
    for name, spec in specs.items():
        local = {"slug": name, "processor": f"{_PROCESSORS}.local.LocalProcessor", "worker_url": f"{base}/{name}"}
        runpod = {"slug": f"{name}-runpod", "function": name, "processor": f"{_PROCESSORS}.runpod.RunpodProcessor"}
        balanced = {**runpod, "slug": f"{name}-runpod-lb"}
        shared = shared_fields(name, committed)
        modal = {"slug": f"{name}-modal", "function": name, "processor": f"{_PROCESSORS}.modal.ModalProcessor"}
        made = [
            local,
            {**runpod, "runpod_endpoint_id": name, **shared},
            {**balanced, "runpod_endpoint_id": f"{name}-lb", "endpoint_type": "load_balancer", **shared},
            {**modal, "modal_app": spec.deployment_name, "modal_class": MODAL_CLASS, **shared},
        ]
        routes += [route for route in made if route["slug"] not in taken]
    return routes


class EffectiveRoutes:
    """The file that gateway and emulator read: `emulator_routes` over the committed one, kept up to date."""

    def __init__(self, committed: Path, effective: Path, emulator_port: int) -> None:
        self._committed, self._effective, self._port = committed, effective, emulator_port
        self._seen = ""

    def refresh(self) -> None:
        """Write the effective file again if the committed one has changed. Raises `ConfigurationError`."""
        found = self._committed.read_text(encoding="utf-8") if self._committed.is_file() else "[]"
        if found == self._seen:
            return
        try:
            routes = emulator_routes(read_entries(self._committed), discover(functions_root()), self._port)
        except (KeyError, TypeError, AttributeError) as error:
            raise ConfigurationError(f"{self._committed}: an entry is not as it must be: {error!r}") from None
        temporary = self._effective.with_suffix(".new")
        temporary.write_text(json.dumps(routes, indent=2), encoding="utf-8")
        temporary.replace(self._effective)
        self._seen = found


@dataclass(frozen=True)
class Running:
    """Gateway and emulator, up and answering."""

    url: str
    routes: EffectiveRoutes
    processes: tuple[subprocess.Popen[bytes], ...]

    def keep_up_to_date(self) -> None:
        """Follow changes of the committed routes until one of the processes ends."""
        told = ""
        while all(process.poll() is None for process in self.processes):
            try:
                self.routes.refresh()
                told = ""
            except ConfigurationError as error:
                if str(error) != told:
                    print(f"the routes stay as they were: {error}", file=sys.stderr, flush=True)
                told = str(error)
            time.sleep(REFRESH_S)


@dataclass(frozen=True)
class Ports:
    """Where they listen; `modal` is the emulator's gRPC."""

    gateway: int
    emulator: int
    modal: int

    @classmethod
    def free(cls) -> Ports:
        return cls(free_port(), free_port(), free_port())

    @classmethod
    def from_environment(cls) -> Ports:
        found = {"gateway": GATEWAY_PORT, "emulator": EMULATOR_PORT, "modal": EMULATOR_MODAL_PORT}
        return cls(**{name: int(os.environ.get(PORT_VARIABLES[name], default)) for name, default in found.items()})


@contextmanager
def running(ports: Ports) -> Iterator[Running]:
    """Bring up both as processes of their own. Raises `ConfigurationError`."""
    with ExitStack() as stack:
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="yapit-")))
        effective = folder / "tts_processors.json"
        routes = EffectiveRoutes(routes_file(), effective, ports.emulator)
        routes.refresh()
        emulator_url, url = f"http://127.0.0.1:{ports.emulator}", f"http://127.0.0.1:{ports.gateway}"
        environ = {
            **os.environ,
            "TTS_PROCESSORS_FILE": str(effective),
            "RUNPOD_API_BASE": f"{emulator_url}/v2",
            "RUNPOD_LB_BASE": f"{emulator_url}/lb/{{id}}",
            "RUNPOD_API_KEY": EMULATOR_API_KEY,
            "MODAL_SERVER_URL": f"http://127.0.0.1:{ports.modal}",
            "MODAL_TOKEN_ID": EMULATOR_MODAL_TOKEN_ID,
            "MODAL_TOKEN_SECRET": EMULATOR_API_KEY,
            "MODAL_KEY": EMULATOR_MODAL_KEY,
            "MODAL_SECRET": EMULATOR_API_KEY,
            "EMULATOR_API_KEY": EMULATOR_API_KEY,
            "EMULATOR_PORT": str(ports.emulator),
            "EMULATOR_MODAL_PORT": str(ports.modal),
            "GATEWAY_API_KEYS": "",  # on loopback, for whoever sits here
            "GATEWAY_HOST": "127.0.0.1",
            "GATEWAY_PORT": str(ports.gateway),
        }
        emulator = stack.enter_context(server("emulator", environ))
        gateway = stack.enter_context(server("yapit.gateway", environ))
        wait_for(f"{emulator_url}/healthz", emulator)
        wait_for(f"{url}/healthz", gateway)
        yield Running(url, routes, (emulator, gateway))


def emulate(ports: Ports) -> None:
    """Serve until interrupted."""
    for name, variable in PORT_VARIABLES.items():
        check_free(getattr(ports, name), variable)
    with running(ports) as up:
        url = up.url
        models = [model["id"] for model in httpx.get(f"{url}/v1/models").json()["data"]]
        print(
            f"""
gateway   {url}/v1   (docs at {url}/docs)
RunPod    http://127.0.0.1:{ports.emulator}/v2/<endpoint>   API key: {EMULATOR_API_KEY}
          http://127.0.0.1:{ports.emulator}/lb/<endpoint>   its load balancers
Modal     http://127.0.0.1:{ports.modal} (gRPC)   token: {EMULATOR_MODAL_TOKEN_ID}, {EMULATOR_API_KEY}
          http://127.0.0.1:{ports.emulator}/modal/web/<label>   proxy token: {EMULATOR_MODAL_KEY}, {EMULATOR_API_KEY}
workers   http://127.0.0.1:{ports.emulator}/workers/<function>
models    {", ".join(models)}

Try, from another terminal:
  make say TEXT="Hello from a function that has no server." OUT=hello.wav
  curl {url}/v1/audio/speech -d '{{"model": "tts-1", "voice": "alloy", "input": "Hello there."}}' -o hello.mp3
Ctrl-C stops it.""",
            flush=True,
        )
        up.keep_up_to_date()  # ends by KeyboardInterrupt, or returns when one of the two processes dies
    raise ConfigurationError("a process ended by itself; see above")


def say(text: str, out: Path, *, model: str, voice: str, speed: float, gateway: str) -> str:
    """Speak through the gateway at `gateway`, or where none listens, through one brought up for this sentence.

    Returns a line for the person who asked. Raises `ConfigurationError` with what the gateway answered.
    """
    if not answers(f"{gateway}/healthz"):
        with running(Ports.free()) as up:
            return _speak(text, out, model=model, voice=voice, speed=speed, gateway=up.url)
    return _speak(text, out, model=model, voice=voice, speed=speed, gateway=gateway)


def _speak(text: str, out: Path, *, model: str, voice: str, speed: float, gateway: str) -> str:
    started_at = time.perf_counter()
    with httpx.Client(base_url=gateway, timeout=300.0) as client:
        if not voice:
            voices = client.get("/v1/audio/voices", params={"model": model})
            voice = _checked(voices)["voices"][0]["id"]
        request = {"model": model, "input": text, "voice": voice, "speed": speed}
        with client.stream("POST", "/v1/audio/speech", json={**request, "response_format": _codec(out)}) as response:
            if response.status_code != 200:
                response.read()
                _checked(response)
            audio_bytes = 0
            with out.open("wb") as file:
                for part in response.iter_bytes():
                    file.write(part)
                    audio_bytes += len(part)
    return f"{out}: {audio_bytes:,} bytes from {model} ({voice}) in {time.perf_counter() - started_at:.2f} s"


def _checked(response: httpx.Response) -> dict[str, Any]:
    try:
        data: dict[str, Any] = response.json()
    except ValueError:
        server = response.headers.get("server", "something")
        raise ConfigurationError(
            f"{response.url}: {server} answered {response.status_code} {response.text[:200]!r}; is that the gateway?"
        ) from None
    if response.status_code != 200:
        raise ConfigurationError(data["error"]["message"])
    return data


def _codec(out: Path) -> str:
    codec = out.suffix.removeprefix(".").lower()
    if codec not in ("pcm", "wav", "flac", "mp3", "opus", "aac"):
        raise ConfigurationError(f"OUT={out}: the name must end in .wav, .mp3, .flac, .opus, .aac or .pcm")
    return codec


def main(arguments: Sequence[str] | None = None) -> None:
    parser = argparse.ArgumentParser(prog="python -m infra.local", description="The whole product on this machine.")
    commands = parser.add_subparsers(dest="command", required=True)
    commands.add_parser("emulate", help="emulator and gateway on loopback, until Ctrl-C")
    sayer = commands.add_parser("say", help="speak one text into a file")
    sayer.add_argument("text")
    sayer.add_argument("--out", type=Path, default=Path("hello.wav"))
    sayer.add_argument("--model", default="hibari")
    sayer.add_argument("--voice", default="", help="default: the model's first")
    sayer.add_argument("--speed", type=float, default=1.0)
    ports = Ports.from_environment()
    sayer.add_argument("--gateway", default=f"http://127.0.0.1:{ports.gateway}")
    chosen = parser.parse_args(arguments)
    try:
        if chosen.command == "emulate":
            signal.signal(signal.SIGTERM, signal.default_int_handler)
            emulate(ports)
        else:
            wanted = {"model": chosen.model, "voice": chosen.voice, "speed": chosen.speed}
            print(say(chosen.text, chosen.out, gateway=chosen.gateway, **wanted))
    except KeyboardInterrupt:
        print("stopped")
    except ConfigurationError as error:
        sys.exit(f"{chosen.command}: {error}")


if __name__ == "__main__":
    main()
