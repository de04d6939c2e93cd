"""The whole product on this machine: `python -m infra.local emulate` and `… say TEXT`.

Both bring up the emulator and a gateway as processes of their own, over the routes in `tts_processors.json` and, for
every function without one, a route made up here: a new function is heard without touching another file.
"""

from __future__ import annotations

import argparse
import json
import os
import signal
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any

import httpx

from yapit.errors import ConfigurationError
from yapit.function_spec import FunctionSpec, discover, functions_root

GATEWAY_PORT, EMULATOR_PORT = 8000, 8900
START_TIMEOUT_S = 60.0
EMULATOR_API_KEY = "emulator"
_PROCESSORS = "yapit.gateway.processors.tts"


def emulator_routes(committed: list[dict[str, Any]], specs: dict[str, FunctionSpec], port: int) -> list[dict[str, Any]]:
    """The committed routes with local workers at `port`, and two (plain HTTP, RunPod) per function without any."""
    base = f"http://127.0.0.1:{port}/workers"
    default = f"http://127.0.0.1:{EMULATOR_PORT}/workers"
    routes = [
        {**route, "worker_url": route["worker_url"].replace(default, base)} if "worker_url" in route else route
        for route in committed
    ]
    served = {route.get("function", route["slug"]) for route in committed}
    for name in specs:
        if name not in served:
            local = {"slug": name, "processor": f"{_PROCESSORS}.local.LocalProcessor", "worker_url": f"{base}/{name}"}
            runpod = {"slug": f"{name}-runpod", "function": name, "runpod_endpoint_id": name}
            routes += [local, {**runpod, "processor": f"{_PROCESSORS}.runpod.RunpodProcessor"}]
    return routes


@contextmanager
def running(gateway_port: int, emulator_port: int) -> Iterator[str]:
    """Emulator and gateway up and answering; yields the gateway's base URL. Raises `ConfigurationError`."""
    specs = discover(functions_root())
    routes_file = Path(os.environ.get("TTS_PROCESSORS_FILE", "tts_processors.json"))
    committed = json.loads(routes_file.read_text(encoding="utf-8")) if routes_file.is_file() else []
    with ExitStack() as stack:
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="yapit-")))
        effective = folder / "tts_processors.json"
        effective.write_text(json.dumps(emulator_routes(committed, specs, emulator_port), indent=2), encoding="utf-8")
        environ = {
            **os.environ,
            "TTS_PROCESSORS_FILE": str(effective),
            "RUNPOD_API_BASE": f"http://127.0.0.1:{emulator_port}/v2",
            "RUNPOD_API_KEY": EMULATOR_API_KEY,
            "EMULATOR_API_KEY": EMULATOR_API_KEY,
            "EMULATOR_PORT": str(emulator_port),
            "GATEWAY_HOST": "127.0.0.1",
            "GATEWAY_PORT": str(gateway_port),
        }
        emulator = stack.enter_context(_process("emulator", environ))
        gateway = stack.enter_context(_process("yapit.gateway", environ))
        wait_for(f"http://127.0.0.1:{emulator_port}/healthz", emulator)
        wait_for(f"http://127.0.0.1:{gateway_port}/healthz", gateway)
        yield f"http://127.0.0.1:{gateway_port}"


@contextmanager
def _process(module: str, environ: dict[str, str]) -> Iterator[subprocess.Popen[bytes]]:
    process = subprocess.Popen([sys.executable, "-m", module], env={**environ, "LOG_LEVEL": "warning"})  # noqa: S603
    try:
        yield process
    finally:
        process.terminate()
        try:
            process.wait(timeout=10)
        except subprocess.TimeoutExpired:
            process.kill()


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


def free_port() -> int:
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        return int(listener.getsockname()[1])


def _check_free(port: int, variable: str) -> None:
    with socket.socket() as listener:
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            listener.bind(("127.0.0.1", port))
        except OSError:
            raise ConfigurationError(f"port {port} is taken; set {variable} to a free one") from None


def emulate(gateway_port: int, emulator_port: int) -> None:
    """Serve until interrupted."""
    _check_free(gateway_port, "GATEWAY_PORT")
    _check_free(emulator_port, "EMULATOR_PORT")
    with running(gateway_port, emulator_port) as url:
        models = [model["id"] for model in httpx.get(f"{url}/v1/models").json()["data"]]
        print(
            f"""
gateway   {url}/v1   (docs at {url}/docs)
RunPod    http://127.0.0.1:{emulator_port}/v2/<endpoint>   API key: {EMULATOR_API_KEY}
workers   http://127.0.0.1:{emulator_port}/workers/<function>
models    {", ".join(models)}

Try, from another terminal:
  make say TEXT="Hello from a function that has no server." OUT=hello.wav
  curl {url}/v1/audio/speech -d '{{"model": "tts-1", "voice": "alloy", "input": "Hello there."}}' -o hello.mp3
Ctrl-C stops it.""",
            flush=True,
        )
        signal.pause()  # ends by KeyboardInterrupt, or returns when one of the two processes dies
    raise ConfigurationError("a process ended by itself; see above")


def say(text: str, out: Path, *, model: str, voice: str, speed: float, gateway: str) -> str:
    """Speak through the gateway at `gateway`, or where none listens, through one brought up for this sentence.

    Returns a line for the person who asked. Raises `ConfigurationError` with what the gateway answered.
    """
    try:
        httpx.get(f"{gateway}/healthz", timeout=2.0)
    except httpx.TransportError:
        with running(free_port(), free_port()) as url:
            return _speak(text, out, model=model, voice=voice, speed=speed, gateway=url)
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
    data: dict[str, Any] = response.json()
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
    gateway_port = int(os.environ.get("GATEWAY_PORT", GATEWAY_PORT))
    sayer.add_argument("--gateway", default=f"http://127.0.0.1:{gateway_port}")
    chosen = parser.parse_args(arguments)
    try:
        if chosen.command == "emulate":
            signal.signal(signal.SIGTERM, signal.default_int_handler)
            signal.signal(signal.SIGCHLD, lambda *_: None)
            emulate(gateway_port, int(os.environ.get("EMULATOR_PORT", EMULATOR_PORT)))
        else:
            wanted = {"model": chosen.model, "voice": chosen.voice, "speed": chosen.speed}
            print(say(chosen.text, chosen.out, gateway=chosen.gateway, **wanted))
    except KeyboardInterrupt:
        print("stopped")
    except ConfigurationError as error:
        sys.exit(f"{chosen.command}: {error}")


if __name__ == "__main__":
    main()
