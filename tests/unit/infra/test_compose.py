"""Compose files and Dockerfiles without an engine: whatever they name is there."""

from __future__ import annotations

import json
import re
import tomllib
from pathlib import Path
from typing import Any

import pytest
import yaml

from yapit.function_spec import discover
from yapit.gateway.routes import load_routes
from yapit.gateway.settings import Settings

ROOT = Path(__file__).parents[3]
COMPOSE = ROOT / "infra" / "compose"
FILES = sorted(COMPOSE.glob("*.yml"))
DOCKERFILES = [*sorted(ROOT.glob("functions/*/Dockerfile")), ROOT / "infra" / "gateway.Dockerfile"]
VARIABLE = re.compile(r"\$\{([A-Z_]+)")


def services() -> list[Any]:
    return [
        pytest.param(path, name, service, id=f"{path.name}-{name}")
        for path in FILES
        for name, service in yaml.safe_load(path.read_text())["services"].items()
    ]


@pytest.mark.parametrize(("path", "name", "service"), services())
def test_a_service_is_built_from_what_is_there(path: Path, name: str, service: dict[str, Any]) -> None:
    build = service["build"]
    assert (path.parent / build["context"]).resolve() == ROOT
    dockerfile = build["dockerfile"].replace("${FUNCTION}", "hibari")
    assert (ROOT / dockerfile).is_file()
    for volume in service.get("volumes", []):
        source, target = volume.split(":")[:2]
        routes = service["environment"]["TTS_PROCESSORS_FILE"].removeprefix(f"{target}/")
        assert (path.parent / source).is_dir()  # of a file that is replaced, a container keeps the old one
        assert (path.parent / source / routes).is_file()
    exposed = re.search(r"EXPOSE (\d+)", (ROOT / dockerfile).read_text())
    assert exposed is not None
    for port in service.get("ports", []):
        assert port.startswith("127.0.0.1:")
        assert port.rpartition(":")[2] == exposed[1]


@pytest.mark.parametrize("path", FILES, ids=lambda path: path.name)
def test_every_variable_is_a_setting_and_the_commands_name_it(path: Path) -> None:
    text = path.read_text()
    settings = {name.upper() for name in Settings.model_fields}
    for service in yaml.safe_load(text)["services"].values():
        assert set(service.get("environment", {})) <= settings
    needed = {name for name, rest in re.findall(r"\$\{([A-Z_]+)(:\?)?", text) if rest}
    heading = text[: text.index("services:")]
    assert all(f"{name}=" in heading for name in needed)
    known = settings | {"FUNCTION", "WORKER_PORT"}
    assert set(VARIABLE.findall(text)) <= known


def test_the_gateways_routes_lead_to_its_services() -> None:
    compose = yaml.safe_load((COMPOSE / "gateway.yml").read_text())
    routes = load_routes(COMPOSE / "tts_processors.json")
    specs = discover(ROOT / "functions")
    assert set(compose["services"]["gateway"]["depends_on"]) == {route.slug for route in routes}
    for route in routes:
        assert route.options["worker_url"] == f"http://{route.slug}:8000"
        assert f"functions/{route.function_name}/" in compose["services"][route.slug]["build"]["dockerfile"]
        assert route.function_name in specs
    committed = [e for e in json.loads((ROOT / "tts_processors.json").read_text()) if "worker_url" in e]
    ours = json.loads((COMPOSE / "tts_processors.json").read_text())
    strip = [{key: value for key, value in entry.items() if key != "worker_url"} for entry in committed]
    assert [{key: value for key, value in entry.items() if key != "worker_url"} for entry in ours] == strip


def test_the_health_check_is_a_route_of_the_worker() -> None:
    from yapit.workers.handlers.local import create_app

    app = create_app("tests.adapters.Tone")
    paths = {route.path for route in app.routes}  # type: ignore[attr-defined]
    for path in FILES:
        for _, service in yaml.safe_load(path.read_text())["services"].items():
            for command in service.get("healthcheck", {}).get("test", [])[-1:]:
                assert re.search(r":8000(/\w+)", command)[1] in paths  # type: ignore[index]


@pytest.mark.parametrize("path", DOCKERFILES, ids=lambda path: path.parent.name)
def test_an_image_runs_anywhere(path: Path) -> None:
    text = path.read_text()
    instructions = [line.split()[0] for line in re.sub(r"\\\n", " ", text).splitlines() if line and line[0] != "#"]
    assert "ENTRYPOINT" not in instructions  # RunPod cannot replace it
    assert instructions[-1] == "CMD"
    assert instructions.index("USER") > max(i for i, name in enumerate(instructions) if name in ("RUN", "COPY"))
    assert "chown" not in re.sub(r"#.*", "", text)
    ignored = (ROOT / ".dockerignore").read_text().splitlines()
    for line in text.splitlines():
        if line.startswith("COPY "):
            for source in line.split()[1:-1]:
                assert (ROOT / source).exists(), source
                assert f"!{source.split('/')[0]}" in ignored, source
    (command,) = re.findall(r"^CMD (\[.*\])$", text, re.MULTILINE)
    module = json.loads(command)[-1].replace(".", "/")
    assert (ROOT / f"{module}.py").is_file() or (ROOT / module / "__main__.py").is_file()


@pytest.mark.parametrize("path", DOCKERFILES[:-1], ids=lambda path: path.parent.name)
def test_a_functions_image_serves_its_adapter_and_installs_its_packages(path: Path) -> None:
    spec = tomllib.loads((path.parent / "pyproject.toml").read_text())["tool"]["yapit"]["function"]
    text = path.read_text()
    assert f"ADAPTER_CLASS=functions.{path.parent.name}.{spec['adapter']}\n" in text
    first, second = re.findall(r"^RUN python -c \"(.*)\" \\$", text, re.MULTILINE)
    assert f"functions/{path.parent.name}/pyproject.toml" in first
    assert "['optional-dependencies']['runpod']" in second
    assert text.index("COPY pyproject.toml") > text.index(first)  # its layer stays while the project's file changes
    assert text.index("COPY yapit") > text.index(second)
