"""Every function of this project, deployed to the emulated Modal by Modal's own command line, run by Modal's own
container runtime, and heard through the gateway."""

from __future__ import annotations

import time
from collections.abc import Iterator

import httpx
import pytest

from tests.conftest import Stack, running_stack
from yapit.function_spec import discover, functions_root

pytestmark = pytest.mark.slow

SPECS = {name: spec for name, spec in discover(functions_root()).items() if spec.install == "default"}
DEPLOY_TIMEOUT_S, SPEECH_TIMEOUT_S = 90.0, 60.0
POLL_S = 0.05


@pytest.fixture(scope="module")
def stack(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Stack]:
    """Once the emulator has deployed its functions, which it begins when it is up."""
    with running_stack(functions_root(), tmp_path_factory.mktemp("routes"), workers="process") as stack:
        give_up_at = time.monotonic() + DEPLOY_TIMEOUT_S
        apps = {spec.deployment_name for spec in SPECS.values()}
        while not apps <= set(httpx.get(f"{stack.emulator_url}/healthz").json()["modal_apps"]):
            assert time.monotonic() < give_up_at, "the functions were not deployed"
            time.sleep(POLL_S)
        yield stack


def speak(stack: Stack, model: str, name: str) -> bytes:
    example = SPECS[name].examples[0]
    body = {"model": model, "input": example.text, "voice": example.voice, "response_format": "pcm"}
    response = httpx.post(f"{stack.url}/v1/audio/speech", json=body, timeout=SPEECH_TIMEOUT_S)
    assert response.status_code == 200, response.text
    return response.content


@pytest.mark.parametrize("name", SPECS)
def test_a_function_in_modals_containers_sounds_as_it_does_elsewhere(stack: Stack, name: str) -> None:
    containers = stack.emulator.modal.deployment.containers
    app_id = stack.emulator.modal.registry.app_id(SPECS[name].deployment_name)
    assert speak(stack, f"{name}-modal", name) == speak(stack, name, name)
    assert containers.running(str(app_id)) == 1
