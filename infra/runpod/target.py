"""Where endpoints are deployed: RunPod, or an emulator, brought up where none runs."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

from infra.emulator import emulator_at
from infra.processes import free_port
from infra.runpod.settings import RunpodSettings, Target


@contextmanager
def reachable(target: Target, settings: RunpodSettings) -> Iterator[None]:
    """Raises `ConfigurationError` where an emulator is to be brought up and does not come."""
    if target == "runpod":
        yield
        return
    environ = {
        "EMULATOR_PORT": str(settings.emulator_port),
        "EMULATOR_MODAL_PORT": str(free_port()),
        "EMULATOR_API_KEY": settings.emulator_api_key.get_secret_value(),
        "TTS_PROCESSORS_FILE": str(settings.tts_processors_file),
    }
    with emulator_at(settings.emulator_url, environ):
        yield
