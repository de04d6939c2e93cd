"""Adding a model touches one folder: copied from the template, it is discovered, emulated, called and heard."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import httpx
import numpy as np

from infra.local import emulator_routes
from infra.new_function import main as new_function
from tests.conftest import running_stack
from yapit.function_spec import discover

ROOT = Path(__file__).parents[2]


def test_a_new_folder_is_all_it_takes(tmp_path: Path) -> None:
    functions = tmp_path / "functions"
    functions.mkdir()
    (functions / "_template").symlink_to(ROOT / "functions" / "_template")
    new_function(["humming", "--root", str(functions)])
    before = {path: path.stat().st_mtime_ns for path in ROOT.glob("*.*")}
    specs = discover(functions)
    assert list(specs) == ["humming"]
    routes = emulator_routes([], specs, 8900)
    for route in routes:
        if "worker_url" in route:
            route["worker_url"] = "/workers/humming"
    with running_stack(functions, tmp_path, routes) as stack:
        voice = httpx.get(f"{stack.url}/v1/audio/voices").json()["voices"][0]["id"]
        audio = []
        for model in ("humming", "humming-runpod", "humming-modal"):
            body = {"model": model, "voice": voice, "input": "Hello there, you.", "response_format": "pcm"}
            response = httpx.post(f"{stack.url}/v1/audio/speech", json=body, timeout=30)
            assert response.status_code == 200, response.text
            audio.append(response.content)
    assert audio[0] == audio[1] == audio[2]
    assert np.abs(np.frombuffer(audio[0], "<i2")).max() > 1_000
    assert {path: path.stat().st_mtime_ns for path in ROOT.glob("*.*")} == before


def test_the_http_worker_starts_as_its_module_says(tmp_path: Path) -> None:
    """`ADAPTER_CLASS=… python -m yapit.workers.handlers.local`, with nothing but a module of three methods."""
    (tmp_path / "mine.py").write_text(
        "from yapit.workers.adapters.base import SynthAdapter\n"
        "class Mine(SynthAdapter):\n"
        "    async def initialize(self): pass\n"
        "    async def synthesize(self, text, *, voice, speed): return b'\\1\\0' * 24_000\n"
        "    def calculate_duration_ms(self, audio_bytes): return len(audio_bytes) // 48\n"
    )
    code = (
        "import uvicorn, sys, yapit.workers.handlers.local as local\n"
        "from starlette.testclient import TestClient\n"
        "uvicorn.run = lambda app, **options: print(options['host'], options['port'], "
        "TestClient(app).post('/synthesize', json={'text': 'Hi', 'voice': 'x'}).text)\n"
        "local.main()\n"
    )
    environ = {**os.environ, "ADAPTER_CLASS": "mine.Mine", "PYTHONPATH": str(tmp_path)}
    result = subprocess.run([sys.executable, "-W", "ignore", "-c", code], env=environ, capture_output=True, text=True)
    host, port, answer = result.stdout.split(" ", 2)
    assert (host, port) == ("127.0.0.1", "8000"), result.stderr
    assert json.loads(answer)["duration_ms"] == 1_000
