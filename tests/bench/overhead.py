"""What each layer costs around an adapter that costs nothing: one second of 24 kHz PCM per request."""

from __future__ import annotations

import json
import tempfile
from contextlib import ExitStack
from pathlib import Path
from statistics import median
from typing import Any

from tests.bench.processes import free_port, load, modal_environ, server
from tests.bench.report import table

CLIENTS = (1, 8, 64)
REQUESTS = {1: 150, 8: 400, 64: 800}
ROUNDS = 3
FUNCTIONS = Path(__file__).parent / "functions"
JOB = {"text": "Hello.", "voice": "free"}
SPEECH = {"input": "Hello.", "voice": "free", "response_format": "pcm"}
_PROCESSORS = "yapit.gateway.processors.tts"

Target = tuple[str, dict[str, Any], dict[str, str]]


def measure() -> str:
    with ExitStack() as stack:
        targets = _start(stack)
        results: dict[tuple[str, int], list[dict[str, float]]] = {}
        for _ in range(ROUNDS):  # interleaved, so that a noisy minute hits all alike
            for clients in CLIENTS:
                for name, (url, body, headers) in targets.items():
                    load(url, [body], clients=clients, requests=clients * 4, **headers)  # warm
                    measured = load(url, [body], clients=clients, requests=REQUESTS[clients], **headers)
                    results.setdefault((name, clients), []).append(measured)
    return "\n\n".join(["## Overhead", _NOTE, *(_table(clients, targets, results) for clients in CLIENTS)])


_NOTE = (
    "One second of 24 kHz PCM per answer (48,128 bytes), from an adapter that costs nothing. Each server is a "
    f"process of its own, the load another. Medians of {ROUNDS} interleaved rounds. The floor answers raw bytes; the "
    "workers answer JSON with base64; the gateway answers raw PCM. `rp_serve_api` is the test server of the runpod "
    "package. Ratios are to the floor."
)


def _start(stack: ExitStack) -> dict[str, Target]:
    targets: dict[str, Target] = {}

    def start(name: str, path: str, body: dict[str, Any]) -> int:
        port = free_port()
        stack.enter_context(
            server("tests.bench.servers", name, str(port), ready=f"http://127.0.0.1:{port}/", LITSERVE_LOG="error")
        )
        targets[name] = (f"http://127.0.0.1:{port}{path}", body, {})
        return port

    start("floor", "/", JOB)
    worker_port = start("worker", "/synthesize", JOB)
    start("litserve", "/predict", JOB)
    start("rp_serve_api", "/runsync", {"input": JOB})
    emulator_port, gateway_port, modal_port = free_port(), free_port(), free_port()
    folder = Path(stack.enter_context(tempfile.TemporaryDirectory()))
    common = {"max_parallel": 64, "function": "free"}
    local = {"slug": "free", "processor": f"{_PROCESSORS}.local.LocalProcessor"}
    queue = {"slug": "free-runpod", "processor": f"{_PROCESSORS}.runpod.RunpodProcessor", "runpod_endpoint_id": "free"}
    modal = {"slug": "free-modal", "processor": f"{_PROCESSORS}.modal.ModalProcessor"}
    deployed = {"modal_app": "yapit-free", "modal_class": "TTS"}
    routes = [{**local, "worker_url": f"http://127.0.0.1:{worker_port}", **common}, {**queue, **common}]
    routes.append({**modal, **deployed, **common})
    (folder / "routes.json").write_text(json.dumps(routes))
    environ = {
        "FUNCTIONS_DIR": str(FUNCTIONS),
        "TTS_PROCESSORS_FILE": str(folder / "routes.json"),
        "EMULATOR_PORT": str(emulator_port),
        "EMULATOR_MODAL_PORT": str(modal_port),
        "EMULATOR_API_KEY": "bench",
        "RUNPOD_API_KEY": "bench",
        **modal_environ(modal_port),
        "RUNPOD_API_BASE": f"http://127.0.0.1:{emulator_port}/v2",
        "GATEWAY_PORT": str(gateway_port),
        "LOG_LEVEL": "error",
    }
    stack.enter_context(server("emulator", ready=f"http://127.0.0.1:{emulator_port}/healthz", **environ))
    stack.enter_context(server("yapit.gateway", ready=f"http://127.0.0.1:{gateway_port}/healthz", **environ))
    speech = f"http://127.0.0.1:{gateway_port}/v1/audio/speech"
    key = {"Authorization": "Bearer bench"}
    targets["runpod /runsync"] = (f"http://127.0.0.1:{emulator_port}/v2/free/runsync", {"input": JOB}, key)
    targets["gateway → worker"] = (speech, {"model": "free", **SPEECH}, {})
    targets["gateway → runpod"] = (speech, {"model": "free-runpod", **SPEECH}, {})
    targets["gateway → modal"] = (speech, {"model": "free-modal", **SPEECH}, {})
    return targets


def _table(clients: int, targets: dict[str, Target], results: dict[tuple[str, int], list[dict[str, float]]]) -> str:
    floor = results["floor", clients]
    rows = []
    for name in targets:
        runs = results.get((name, clients))
        if runs is None:
            continue
        figures = {key: median(run[key] for run in runs) for key in ("p50_ms", "p99_ms", "requests_per_s")}
        ratio = figures["p50_ms"] / median(run["p50_ms"] for run in floor)
        rows.append(
            [
                name,
                f"{figures['p50_ms']:.2f}",
                f"{figures['p99_ms']:.2f}",
                f"{figures['requests_per_s']:.0f}",
                f"{ratio:.1f}×",
            ]
        )
    header = ["server", "p50 ms", "p99 ms", "requests/s", "p50 to floor"]
    return f"### {clients} client{'s' if clients > 1 else ''}\n\n{table(header, rows)}"
