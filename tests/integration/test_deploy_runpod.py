"""plan, deploy and destroy against the emulator over real sockets, heard through a gateway by the openai SDK."""

from __future__ import annotations

import json
import os
import shutil
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from unittest.mock import Mock

import httpx
import numpy as np
import openai
import pytest

from emulator.app import Emulator
from emulator.server import Server
from infra import smoke
from infra.routes_file import read_entries
from infra.runpod.__main__ import main
from tests.conftest import API_KEY, TEST_FUNCTIONS, gateway_server, serve
from tests.unit.infra.test_images import make_engine
from yapit.errors import ConfigurationError, DeploymentFailed
from yapit.gateway.settings import Settings

LOCAL = {
    "slug": "tone",
    "processor": "yapit.gateway.processors.tts.local.LocalProcessor",
    "worker_url": "http://127.0.0.1:1",
    "voice_aliases": {"alloy": "sine"},
}
BROKEN = """
from yapit.workers.adapters.base import SynthAdapter
import a_package_that_is_not_installed
class Broken(SynthAdapter): ...
"""


@dataclass
class Project:
    """A clone with functions and a routes file."""

    folder: Path

    @property
    def functions(self) -> Path:
        return self.folder / "functions"

    @property
    def routes_file(self) -> Path:
        return self.folder / "tts_processors.json"

    @property
    def slugs(self) -> list[str]:
        return [entry["slug"] for entry in read_entries(self.routes_file)]

    def add_function(self, name: str, source: str) -> None:
        shutil.copytree(TEST_FUNCTIONS / "tone", self.functions / name)
        pyproject = self.functions / name / "pyproject.toml"
        text = pyproject.read_text().replace("adapter.Tone", f"adapter.{name.capitalize()}")
        pyproject.write_text(text)
        (self.functions / name / "adapter.py").write_text(source)
        (self.functions / name / "Dockerfile").write_text("FROM scratch\n")


@contextmanager
def gateway_in_a_thread(_: str, environ: Mapping[str, str]) -> Iterator[Mock]:
    """In place of the gateway's process, which takes seconds to start (tests/unit/infra/test_smoke.py has that)."""
    settings = Settings(
        _env_file=None,
        tts_processors_file=environ["TTS_PROCESSORS_FILE"],
        functions_dir=environ["FUNCTIONS_DIR"],
        runpod_api_base=environ["RUNPOD_API_BASE"],
        runpod_lb_base=environ["RUNPOD_LB_BASE"],
        runpod_api_key=environ["RUNPOD_API_KEY"],
    )
    with serve(lambda _: gateway_server(settings), port=int(environ["GATEWAY_PORT"])):
        yield Mock(**{"poll.return_value": None})


@pytest.fixture
def project(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Project:
    project = Project(tmp_path / "clone")
    for name in ("tone", "gated"):
        shutil.copytree(TEST_FUNCTIONS / name, project.functions / name)
        (project.functions / name / "Dockerfile").write_text("FROM scratch\n")
    project.routes_file.write_text(json.dumps([LOCAL], indent=2))
    for name in [name for name in os.environ if name.startswith(("RUNPOD_", "IMAGE", "REGISTRY_", "EMULATOR_"))]:
        monkeypatch.delenv(name)
    monkeypatch.setenv("FUNCTIONS_DIR", str(project.functions))
    monkeypatch.chdir(project.folder)
    monkeypatch.setattr(smoke, "server", gateway_in_a_thread)
    return project


@contextmanager
def emulating(project: Project, monkeypatch: pytest.MonkeyPatch, **options: Any) -> Iterator[httpx.Client]:
    """An emulator at `EMULATOR_PORT`; a client of its management API."""

    def make_server(url: str) -> Server:
        return Server(Emulator(project.functions, api_key=API_KEY, base_url=url, **options))

    with serve(make_server) as (url, _):
        monkeypatch.setenv("EMULATOR_PORT", url.rpartition(":")[2])
        headers = {"Authorization": f"Bearer {API_KEY}"}
        with httpx.Client(base_url=f"{url}/v2", headers=headers) as client:
            yield client


@pytest.fixture
def cloud(project: Project, monkeypatch: pytest.MonkeyPatch) -> Iterator[httpx.Client]:
    with emulating(project, monkeypatch) as client:
        yield client


@pytest.fixture
def as_runpod(cloud: httpx.Client, monkeypatch: pytest.MonkeyPatch) -> httpx.Client:
    """The same, taken for the cloud: with a key, and images that are built."""
    url = str(cloud.base_url).removesuffix("/v2/")
    monkeypatch.setenv("RUNPOD_API_KEY", API_KEY)
    monkeypatch.setenv("RUNPOD_API_BASE", f"{url}/v2")
    monkeypatch.setenv("RUNPOD_LB_BASE", f"{url}/lb/{{id}}")
    monkeypatch.setenv("RUNPOD_MANAGEMENT_BASE", f"{url}/v2")
    monkeypatch.setenv("IMAGE_REGISTRY", "ghcr.io/me")
    return cloud


def endpoints(cloud: httpx.Client) -> list[dict[str, Any]]:
    found: list[dict[str, Any]] = cloud.get("/serverless").json()["endpoints"]
    return found


@pytest.mark.parametrize(("type_", "slug"), [("queue", "tone-runpod"), ("load_balancer", "tone-runpod-lb")])
def test_deployed_twice_heard_and_destroyed(project: Project, cloud: httpx.Client, type_: str, slug: str) -> None:
    before = project.routes_file.read_text()
    arguments = ["tone", "--target", "emulator", "--type", type_]
    assert "create the endpoint" in main(["plan", *arguments])
    assert (endpoints(cloud), project.routes_file.read_text()) == ([], before)

    said = main(["deploy", *arguments])
    (endpoint,) = endpoints(cloud)
    assert "'This is a test.': 0.8 s of audio" in said
    assert f"{slug} is {endpoint['id']}" in said
    assert read_entries(project.routes_file)[-1]["voice_aliases"] == {"alloy": "sine"}

    settings = Settings(
        _env_file=None,
        tts_processors_file=project.routes_file,
        functions_dir=project.functions,
        runpod_api_base=str(cloud.base_url),
        runpod_lb_base=str(cloud.base_url).removesuffix("/v2/") + "/lb/{id}",
        runpod_api_key=API_KEY,
    )
    with serve(lambda _: gateway_server(settings)) as (url, _):
        client = openai.OpenAI(base_url=f"{url}/v1", api_key="unused", max_retries=0)
        with client.audio.speech.with_streaming_response.create(
            model=slug, voice="alloy", input="It plays.", response_format="pcm"
        ) as response:
            pcm = np.frombuffer(response.read(), "<i2")
        assert len(pcm) / 24_000 == pytest.approx(0.45)
        assert np.abs(pcm).max() > 5_000

        written = project.routes_file.stat()
        assert f"{slug} was already {endpoint['id']}" in main(["deploy", *arguments])
        assert "is as it should be" in main(["plan", *arguments])
        assert endpoints(cloud) == [endpoint]
        assert len(cloud.get(f"/serverless/{endpoint['id']}/releases").json()["releases"]) == 1
        assert project.routes_file.stat().st_mtime_ns == written.st_mtime_ns

        assert "is deleted; its route is removed" in main(["destroy", *arguments])
        assert endpoints(cloud) == []
        assert json.loads(project.routes_file.read_text()) == json.loads(before)
        with pytest.raises(openai.NotFoundError):
            client.audio.speech.create(model=slug, voice="alloy", input="Gone.")
    assert main(["destroy", *arguments]) == (
        f"no endpoint yapit-tone{slug.removeprefix('tone-runpod')}; no route {slug}"
    )


def test_a_changed_function_is_a_release_of_the_same_endpoint(project: Project, cloud: httpx.Client) -> None:
    main(["deploy", "tone", "--target", "emulator"])
    (before,) = endpoints(cloud)
    put_by_hand = {**read_entries(project.routes_file)[-1], "max_parallel": 3}
    project.routes_file.write_text(json.dumps([LOCAL, put_by_hand]))
    (project.functions / "tone" / "Dockerfile").write_text("FROM scratch\n# changed\n")
    pyproject = project.functions / "tone" / "pyproject.toml"
    pyproject.write_text(pyproject.read_text() + "[tool.yapit.function.scaling]\nmax_workers = 4\n")
    planned = main(["plan", "tone", "--target", "emulator"])
    assert f"image: {before['image']} → emulator/yapit-tone:" in planned
    assert "workers.max: 2 → 4" in planned
    main(["deploy", "tone", "--target", "emulator"])
    (after,) = endpoints(cloud)
    assert (after["id"], after["workers"]["max"]) == (before["id"], 4)
    assert len(cloud.get(f"/serverless/{after['id']}/releases").json()["releases"]) == 2
    assert read_entries(project.routes_file)[-1] == put_by_hand


def test_workers_that_are_processes_serve_what_is_deployed(project: Project, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PYTHONPATH", str(Path(__file__).parents[2]))  # where the tests' adapters are
    with emulating(project, monkeypatch, workers="process") as cloud:
        assert "0.8 s of audio" in main(["deploy", "tone", "--target", "emulator"])
        (endpoint,) = endpoints(cloud)
        (worker,) = cloud.get(f"/serverless/{endpoint['id']}/workers").json()["workers"]
        assert worker["status"] in ("RUNNING", "IDLE")


def test_gpus_are_those_of_the_spec(project: Project, cloud: httpx.Client) -> None:
    pyproject = project.functions / "tone" / "pyproject.toml"
    pyproject.write_text(pyproject.read_text() + '[tool.yapit.function.runpod]\ngpu_pools = ["AMPERE_24", "ADA_24"]\n')
    main(["deploy", "tone", "--target", "emulator"])
    assert endpoints(cloud)[0]["gpu"]["pools"] == ["AMPERE_24", "ADA_24"]
    assert "runs on no CPU" in refused("deploy", "tone", "--target", "emulator", "--compute", "cpu")


def test_images_are_built_pushed_and_pulled_with_credentials(
    project: Project, as_runpod: httpx.Client, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    calls = make_engine(project.folder, "docker")
    monkeypatch.setenv("PATH", f"{project.folder}:{os.environ['PATH']}")
    monkeypatch.setenv("REGISTRY_USERNAME", "me")
    monkeypatch.setenv("REGISTRY_PASSWORD", "hunter2")
    assert "registry credentials for ghcr.io: made" in main(["plan", "tone"])
    assert as_runpod.get("/registries").json()["registries"] == []
    main(["deploy", "tone"])
    (endpoint,) = endpoints(as_runpod)
    _, built, pushed = calls.read_text().splitlines()
    assert f"--tag {endpoint['image']} --file {project.functions}/tone/Dockerfile {project.folder}" in built
    assert pushed == f"push {endpoint['image']}"
    assert endpoint["image"].startswith("ghcr.io/me/yapit-tone:")
    (registry,) = as_runpod.get("/registries").json()["registries"]
    assert (registry["name"], endpoint["registry"]) == ("ghcr.io", registry["id"])
    main(["deploy", "tone"])
    assert len(calls.read_text().splitlines()) == 3  # nothing is built that is deployed already
    assert endpoints(as_runpod) == [endpoint]
    told = "".join(capfd.readouterr())
    assert "hunter2" not in told


def test_an_image_of_ones_own_is_taken_as_it_is(as_runpod: httpx.Client, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", "")
    monkeypatch.setenv("IMAGE", "docker.io/me/mine:7")
    main(["deploy", "tone"])
    assert endpoints(as_runpod)[0]["image"] == "docker.io/me/mine:7"


def refused(*arguments: str) -> str:
    with pytest.raises((ConfigurationError, DeploymentFailed)) as caught:
        main([*arguments])
    return str(caught.value)


@pytest.mark.usefixtures("project")
def test_without_a_key_it_says_where_to_get_one() -> None:
    said = refused("deploy", "tone")
    assert "console.runpod.io/user/settings" in said
    assert "TARGET=emulator" in said


@pytest.mark.usefixtures("as_runpod")
def test_without_a_registry_or_an_engine_nothing_is_created(
    cloud: httpx.Client, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PATH", "")
    assert "not found on PATH" in refused("deploy", "tone")
    monkeypatch.setenv("IMAGE_REGISTRY", "")
    assert "set IMAGE_REGISTRY" in refused("deploy", "tone")
    assert endpoints(cloud) == []


def test_removing_takes_neither_registry_nor_engine(as_runpod: httpx.Client, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("IMAGE", "x/y:1")
    main(["deploy", "tone"])
    monkeypatch.setenv("PATH", "")
    for name in ("IMAGE", "IMAGE_REGISTRY"):
        monkeypatch.setenv(name, "")
    assert "is deleted" in main(["destroy", "tone"])
    assert endpoints(as_runpod) == []


@pytest.mark.usefixtures("as_runpod")
def test_a_failed_build_creates_nothing(project: Project, cloud: httpx.Client, monkeypatch: pytest.MonkeyPatch) -> None:
    make_engine(project.folder, "docker", fails="build")
    monkeypatch.setenv("PATH", f"{project.folder}:{os.environ['PATH']}")
    assert "no space left on device" in refused("deploy", "tone")
    assert (endpoints(cloud), project.slugs) == ([], ["tone"])


def test_a_key_that_runpod_does_not_know_is_told(as_runpod: httpx.Client, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("RUNPOD_API_KEY", "rpa_other")
    said = refused("plan", "tone")
    assert "check RUNPOD_API_KEY" in said
    assert "rpa_other" not in said


@pytest.mark.usefixtures("cloud")
def test_an_unknown_function_or_hardware_is_told() -> None:
    assert "FUNCTION='nobody' is no function; there is gated, tone" in refused("plan", "nobody", "--target", "emulator")
    assert "names no GPU" in refused("deploy", "tone", "--target", "emulator", "--compute", "gpu")


def test_a_name_taken_twice_is_nobodys_to_change(cloud: httpx.Client) -> None:
    main(["deploy", "tone", "--target", "emulator"])
    (endpoint,) = endpoints(cloud)
    body = {"name": "yapit-tone", "type": "QUEUE", "image": "x", "cpu": [{"id": "cpu5c", "vcpuCount": 2}]}
    other = cloud.post("/serverless", json={**body, "scaling": endpoint["scaling"]}).json()
    for command in ("deploy", "destroy"):
        said = refused(command, "tone", "--target", "emulator")
        assert f"2 endpoints are called 'yapit-tone' ({endpoint['id']}, {other['id']})" in said
    assert len(endpoints(cloud)) == 2


def test_a_quota_is_told(project: Project, monkeypatch: pytest.MonkeyPatch) -> None:
    with emulating(project, monkeypatch, max_workers_quota=1):
        said = refused("deploy", "tone", "--target", "emulator")
    assert "workers quota (1)" in said
    assert "Lower max_workers in this function's spec" in said
    assert project.slugs == ["tone"]


def test_a_worker_that_crashes_is_heard_out_and_no_route_is_written(
    project: Project, monkeypatch: pytest.MonkeyPatch
) -> None:
    project.add_function("broken", BROKEN)
    with emulating(project, monkeypatch) as cloud:
        said = refused("deploy", "broken", "--target", "emulator")
        (endpoint,) = endpoints(cloud)
    assert "broken-runpod did not speak" in said
    assert "the log of worker worker-2:" in said
    assert "No module named 'a_package_that_is_not_installed'" in said
    assert f"the route was not written; the endpoint {endpoint['id']} stays" in said
    assert project.slugs == ["tone"]


def test_the_route_goes_before_the_endpoint(project: Project, cloud: httpx.Client) -> None:
    main(["deploy", "tone", "--target", "emulator"])
    entries = read_entries(project.routes_file)
    project.routes_file.write_text(json.dumps([{**entries[0], "fallback": ["tone-runpod"]}, entries[1]]))
    assert "falls back to tone-runpod" in refused("destroy", "tone", "--target", "emulator")
    assert len(endpoints(cloud)) == 1
