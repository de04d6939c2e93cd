"""`make deploy-modal TARGET=emulator`: through Modal's own CLI, into containers that run Modal's own runtime.

tests/e2e/test_modal_docs.py deploys as a newcomer does; `make test-deploy` deploys every function.
"""

from __future__ import annotations

import json
import os
import shutil
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import modal
import pytest
from modal_proto import api_pb2

from emulator.app import Emulator
from emulator.modal.rpc import Caller
from emulator.server import Server
from infra.modal.__main__ import main
from infra.modal.cli import ModalCli
from infra.new_function import create_function
from infra.processes import EMULATOR_MODAL_TOKEN_ID, free_port, server, wait_for
from tests.conftest import API_KEY, serve
from yapit.errors import DeploymentFailed
from yapit.function_spec import FunctionSpec, discover

ROOT = Path(__file__).parents[2]
FUNCTIONS = ROOT / "functions"
DEFAULT = [name for name, spec in discover(FUNCTIONS).items() if spec.install == "default"]


@dataclass
class Place:
    """An emulator without functions of its own, and the routes file that the commands write."""

    routes_file: Path
    client: modal.Client

    def routes(self) -> list[dict[str, object]]:
        return json.loads(self.routes_file.read_text())

    def ids(self, function: str) -> tuple[str, str | None]:
        """Of the class, and the address of its web endpoint."""
        found = modal.Cls.from_name(f"yapit-{function}", "TTS", client=self.client).hydrate()
        return found.object_id, found().web.get_web_url()


@pytest.fixture
def place(root: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Place]:
    """The commands deploy functions under `root`, whose parent holds what their Dockerfiles copy."""
    ports = {"EMULATOR_PORT": str(free_port()), "EMULATOR_MODAL_PORT": str(free_port())}
    routes_file = tmp_path / "tts_processors.json"
    routes_file.write_text("[]")
    ours = {
        **ports,
        "FUNCTIONS_DIR": str(root),
        "TTS_PROCESSORS_FILE": str(routes_file),
        "EMULATOR_API_KEY": API_KEY,
        "EMULATOR_WORKERS": "process",
        "EMULATOR_STATE_FILE": str(tmp_path / "state.json"),
        "PYTHONPATH": str(ROOT),
        "MODAL_SERVER_URL": f"http://127.0.0.1:{ports['EMULATOR_MODAL_PORT']}",
    }
    for name in ("MODAL_TOKEN_ID", "MODAL_TOKEN_SECRET", "MODAL_ENVIRONMENT", "MODAL_KEY", "MODAL_SECRET"):
        monkeypatch.setenv(name, "")  # so that it is put back after a command has set it
    for name, value in ours.items():
        monkeypatch.setenv(name, value)
    nothing = tmp_path / "functions"
    nothing.mkdir()
    with server("emulator", {**os.environ, "FUNCTIONS_DIR": str(nothing)}) as process:  # what is there is deployed
        wait_for(f"http://127.0.0.1:{ports['EMULATOR_PORT']}/healthz", process)
        client = modal.Client.from_credentials(EMULATOR_MODAL_TOKEN_ID, API_KEY)
        yield Place(routes_file, client)
        client.close()


def run(command: str, function: str) -> str:
    return main([command, function, "--target", "emulator"])


@pytest.mark.slow
@pytest.mark.parametrize("root", [FUNCTIONS], ids=["functions"])
@pytest.mark.parametrize("name", DEFAULT)
def test_every_function_is_deployed_and_heard_and_deployed_again_and_destroyed(place: Place, name: str) -> None:
    assert f"create the app yapit-{name}" in run("plan", name)
    said = run("deploy", name)
    assert "s of audio in" in said
    assert said.endswith(f"{name}-modal is written")
    before = place.ids(name)
    assert f"deploy the app yapit-{name} again: its ids stay" in run("plan", name)
    assert run("deploy", name).endswith(f"{name}-modal was there")
    assert place.ids(name) == before
    assert [route["slug"] for route in place.routes()] == [f"{name}-modal"]
    assert run("destroy", name) == f"the app yapit-{name} is stopped; its route is removed"
    assert run("destroy", name) == f"there was no app yapit-{name}; it had no route"
    assert place.routes() == []


CRASHING = """
    async def initialize(self) -> None:
        print("weights.bin: no such file")
        raise FileNotFoundError("weights.bin")
"""


@pytest.fixture
def root(tmp_path: Path, request: pytest.FixtureRequest) -> Path:
    """A folder like this project's with two functions: one whose container crashes, one that wants a secret."""
    root = tmp_path / "project" / "functions"
    shutil.copytree(FUNCTIONS / "_template", root / "_template")
    for name in ("pyproject.toml", "README.md", "constraints.txt"):
        shutil.copy(ROOT / name, root.parent)
    shutil.copytree(ROOT / "yapit", root.parent / "yapit", ignore=shutil.ignore_patterns("__pycache__"))
    crashing, wanting = (create_function(name, root) for name in ("crashing", "wanting"))
    adapter = crashing / "adapter.py"
    before, _, after = adapter.read_text().partition("    async def initialize(self) -> None:")
    adapter.write_text(before + CRASHING.lstrip("\n") + after[after.index("    async def synthesize") :])
    with (wanting / "pyproject.toml").open("a") as file:
        file.write('\n[[tool.yapit.function.modal.secrets]]\nname = "hf"\nkeys = ["HF_TOKEN"]\n')
    return root


def test_a_container_that_crashes_shows_its_log_and_gets_no_route(place: Place) -> None:
    with pytest.raises(DeploymentFailed) as caught:
        run("deploy", "crashing")
    said = str(caught.value)
    assert "crashing-modal did not speak" in said
    assert "its containers said:" in said
    assert "weights.bin: no such file" in said
    assert "FileNotFoundError" in said
    assert "the route was not written" in said
    assert place.routes() == []


@pytest.mark.usefixtures("place")
def test_a_missing_secret_fails_the_deployment_before_it_begins_and_at_the_cli(
    root: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(DeploymentFailed, match=r"HF_TOKEN is missing: \.venv/bin/python -m modal secret create"):
        run("deploy", "wanting")
    assert "modal secret create" in run("plan", "wanting")
    with pytest.raises(DeploymentFailed, match=r"modal deploy ended with 1"):
        ModalCli().deploy(FunctionSpec.load(root / "wanting"))
    assert "hf" in capfd.readouterr().err


ASKED = """
[tool.yapit.function.modal]
gpus = ["L4", "A10G"]
cpus = 2
memory_mib = 4096
snapshot = "{snapshot}"
target_concurrency = 3
buffer_workers = 1
volumes = {{ "/models" = "tts-models" }}
secrets = [{{ name = "hf", keys = ["HF_TOKEN"] }}]
"""


@pytest.mark.parametrize("snapshot", ["gpu", pytest.param("memory", marks=pytest.mark.slow)])
def test_what_the_spec_says_is_what_modal_is_asked_for(
    root: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, snapshot: str
) -> None:
    spec_file = root / "crashing" / "pyproject.toml"  # it is deployed, and nothing runs it
    spec_file.write_text(spec_file.read_text() + ASKED.format(snapshot=snapshot))
    nothing = tmp_path / "functions"
    nothing.mkdir()
    made: list[Emulator] = []
    asked: list[api_pb2.FunctionCreateRequest] = []

    def make(url: str) -> Server:
        address, secrets = ("127.0.0.1", 0), {"hf": {"HF_TOKEN": "x"}}
        made.append(Emulator(nothing, workers="process", base_url=url, modal_address=address, modal_secrets=secrets))
        handlers = made[0].modal.rpc._handlers
        create = handlers["FunctionCreate"]

        async def noted(request: api_pb2.FunctionCreateRequest, caller: Caller) -> api_pb2.FunctionCreateResponse:
            asked.append(request)
            return await create(request, caller)

        handlers["FunctionCreate"] = noted
        return Server(made[0])

    with serve(make):
        monkeypatch.setenv("MODAL_SERVER_URL", made[0].modal.server_url)
        monkeypatch.setenv("MODAL_TOKEN_ID", EMULATOR_MODAL_TOKEN_ID)
        monkeypatch.setenv("MODAL_TOKEN_SECRET", API_KEY)
        monkeypatch.setenv("FUNCTIONS_DIR", str(root))
        client = modal.Client.from_credentials(EMULATOR_MODAL_TOKEN_ID, API_KEY)
        modal.Volume.from_name("tts-models", create_if_missing=True, client=client).hydrate()
        client.close()
        ModalCli().deploy(FunctionSpec.load(root / "crashing"))
    (request,) = asked
    ranked = [entry.function for entry in request.function_data.ranked_functions]
    assert [function.resources.gpu_config.gpu_type for function in ranked] == ["L4", "A10G"]
    function, data = ranked[0], request.function_data
    assert (function.resources.milli_cpu, function.resources.memory_mb) == (2_000, 4_096)
    assert (data.timeout_secs, data.startup_timeout_secs) == (310, 300)
    assert (function.max_concurrent_inputs, function.target_concurrent_inputs) == (4, 3)
    scaling = data.autoscaler_settings
    assert (scaling.min_containers, scaling.max_containers, scaling.buffer_containers) == (0, 2, 1)
    assert scaling.scaledown_window == 60
    assert [(mount.mount_path, mount.read_only) for mount in function.volume_mounts] == [("/models", True)]
    assert len(function.secret_ids) == 1
    assert function.checkpointing_enabled
    assert data.experimental_options.get("enable_gpu_snapshot", "") == ("True" if snapshot == "gpu" else "")
    web = function.method_definitions["web"].webhook_config
    assert web.requires_proxy_auth
