"""Where endpoints are deployed: RunPod, or an emulator, brought up where none runs."""

from __future__ import annotations

import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager

from infra.processes import answers, free_port, server, wait_for
from infra.runpod.settings import RunpodSettings, Target


@contextmanager
def reachable(target: Target, settings: RunpodSettings) -> Iterator[None]:
    """Raises `ConfigurationError` where an emulator is to be brought up and does not come."""
    if target == "runpod" or answers(f"{settings.emulator_url}/healthz"):
        yield
        return
    print(f"no emulator answers at {settings.emulator_url}: one is started for this command", file=sys.stderr)
    environ = {
        **os.environ,
        "EMULATOR_PORT": str(settings.emulator_port),
        "EMULATOR_MODAL_PORT": str(free_port()),
        "EMULATOR_API_KEY": settings.emulator_api_key.get_secret_value(),
        "TTS_PROCESSORS_FILE": str(settings.tts_processors_file),
    }
    with server("emulator", environ) as process:
        wait_for(f"{settings.emulator_url}/healthz", process)
        yield
