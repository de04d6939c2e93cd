"""Real synthesis: hibari, bare and through each layer, in one run."""

from __future__ import annotations

import asyncio
import json
import subprocess
import sys
import tempfile
import time
from contextlib import ExitStack
from pathlib import Path
from statistics import median

from tests.bench.processes import free_port, load, modal_environ, server
from tests.bench.report import table
from tests.bench.texts import MINUTE, SENTENCES

CLIENTS = (8, 32)
REQUESTS = 160
ROUNDS = 3
LATENCY_RUNS = 15
MODELS = {"LocalProcessor": "hibari", "RunpodProcessor": "hibari-runpod", "ModalProcessor": "hibari-modal"}
PCM_BYTES_PER_S = 48_000


def measure() -> str:
    rates: dict[tuple[str, int], list[float]] = {}
    latencies = []
    with ExitStack() as stack:
        speech = _start(stack)
        for _ in range(ROUNDS):  # interleaved, so that a noisy minute hits all alike
            for clients in CLIENTS:
                rates.setdefault(("bare model", clients), []).append(bare_in_a_process(clients))
                for name, model in MODELS.items():
                    rates.setdefault((name, clients), []).append(_rate(speech, model, clients))
        for name, model in MODELS.items():
            body = _body(model, MINUTE)
            runs = load(speech, [body], clients=1, requests=LATENCY_RUNS)
            cells = [f"{runs[key]:.0f}" for key in ("first_ms", "p50_ms")]
            latencies.append([name, *cells, f"{runs['first_ms'] / runs['p50_ms']:.1%}"])
    header = ["path", *(f"{clients} clients" for clients in CLIENTS), *(f"of the bare model, {c}" for c in CLIENTS)]
    return "\n\n".join(
        [
            "## hibari",
            _NOTE,
            table(header, _rows(rates)),
            f"A text of one minute, one client, PCM; median of {LATENCY_RUNS} requests.",
            table(["path", "first audio ms", "whole text ms", "first of whole"], latencies),
        ]
    )


_NOTE = (
    "Audio seconds per second: sentences of mixed length, PCM, over kept connections, medians of "
    f"{ROUNDS} interleaved rounds. The bare model is the adapter in a process of its own, a thread per core and the "
    "same number of calls at once; through a processor the gateway, the worker and the load share those cores with it."
)


def bare_in_a_process(clients: int) -> float:
    command = [sys.executable, "-m", "tests.bench.throughput", str(clients)]
    return float(subprocess.run(command, capture_output=True, check=True).stdout.split()[-1])


async def bare(clients: int) -> float:
    """Audio seconds per second of the adapter alone."""
    from functions.hibari.adapter import HibariAdapter

    adapter = HibariAdapter()
    await adapter.initialize()
    waiting = iter(range(REQUESTS))
    made_bytes = 0

    async def client() -> None:
        nonlocal made_bytes
        for number in waiting:
            pcm = await adapter.synthesize(SENTENCES[number % len(SENTENCES)], voice="heart", speed=1.0)
            made_bytes += len(pcm)

    started_at = time.perf_counter()
    await asyncio.gather(*(client() for _ in range(clients)))
    spent_s = time.perf_counter() - started_at
    await adapter.close()
    return made_bytes / PCM_BYTES_PER_S / spent_s


def _rate(speech: str, model: str, clients: int) -> float:
    bodies = [_body(model, text) for text in SENTENCES]
    load(speech, bodies, clients=clients, requests=clients)  # warm
    measured = load(speech, bodies, clients=clients, requests=REQUESTS)
    return measured["bytes"] / PCM_BYTES_PER_S / measured["seconds"]


def _body(model: str, text: str) -> dict[str, str]:
    return {"model": model, "input": text, "voice": "heart", "response_format": "pcm"}


def _rows(rates: dict[tuple[str, int], list[float]]) -> list[list[str]]:
    rows = []
    for name in ("bare model", *MODELS):
        figures = [median(rates[name, clients]) for clients in CLIENTS]
        shares = [median(rates[name, clients]) / median(rates["bare model", clients]) for clients in CLIENTS]
        rows.append([name, *(f"{figure:.0f}" for figure in figures), *(f"{share:.0%}" for share in shares)])
    return rows


def _start(stack: ExitStack) -> str:
    emulator_port, gateway_port, worker_port, modal_port = free_port(), free_port(), free_port(), free_port()
    folder = Path(stack.enter_context(tempfile.TemporaryDirectory()))
    prefix = "yapit.gateway.processors.tts"
    local = {"slug": "hibari", "processor": f"{prefix}.local.LocalProcessor", "max_parallel": 32}
    queue = {"slug": "hibari-runpod", "function": "hibari", "processor": f"{prefix}.runpod.RunpodProcessor"}
    modal = {"slug": "hibari-modal", "function": "hibari", "processor": f"{prefix}.modal.ModalProcessor"}
    routes = [
        {**local, "worker_url": f"http://127.0.0.1:{worker_port}"},
        {**queue, "runpod_endpoint_id": "hibari", "max_parallel": 32},
        {**modal, "modal_app": "yapit-hibari", "modal_class": "TTS", "max_parallel": 32},
    ]
    (folder / "routes.json").write_text(json.dumps(routes))
    environ = {
        "TTS_PROCESSORS_FILE": str(folder / "routes.json"),
        "ADAPTER_CLASS": "functions.hibari.adapter.HibariAdapter",
        "PORT": str(worker_port),
        "EMULATOR_PORT": str(emulator_port),
        "EMULATOR_MODAL_PORT": str(modal_port),
        "EMULATOR_API_KEY": "bench",
        "RUNPOD_API_KEY": "bench",
        **modal_environ(modal_port),
        "RUNPOD_API_BASE": f"http://127.0.0.1:{emulator_port}/v2",
        "GATEWAY_PORT": str(gateway_port),
        "LOG_LEVEL": "error",
    }
    for module, port, path in (
        ("yapit.workers.handlers.local", worker_port, "health"),
        ("emulator", emulator_port, "healthz"),
        ("yapit.gateway", gateway_port, "healthz"),
    ):
        stack.enter_context(server(module, ready=f"http://127.0.0.1:{port}/{path}", **environ))
    return f"http://127.0.0.1:{gateway_port}/v1/audio/speech"


if __name__ == "__main__":
    print(asyncio.run(bare(int(sys.argv[1]))))
