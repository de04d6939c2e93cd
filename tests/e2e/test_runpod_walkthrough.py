"""docs/runpod.md: what needs no account, from a clone that nothing was run in."""

from __future__ import annotations

import json
import re
import time
from pathlib import Path
from typing import Any

import httpx
import pytest

from tests.e2e.clone import ROOT, Clone, blocks, commands, duration_s, make_clone

DOCUMENT = ROOT / "docs" / "runpod.md"
PLAN, DEPLOY, EMULATE, SAY, DESTROY = commands(DOCUMENT)
KEY = {"Authorization": "Bearer emulator"}


@pytest.fixture(scope="module")
def clone(tmp_path_factory: pytest.TempPathFactory) -> Clone:
    return make_clone(tmp_path_factory.mktemp("clone"))


def entries(routes: Path) -> dict[str, dict[str, Any]]:
    """By slug."""
    return {entry["slug"]: entry for entry in json.loads(routes.read_text())}


def is_ready_again(clone: Clone) -> bool:
    """Whether `hibari-runpod` leads to an endpoint that is there: its route removed, the emulator's own."""
    give_up_at = time.monotonic() + 30
    while time.monotonic() < give_up_at:
        models = httpx.get(f"http://127.0.0.1:{clone.gateway_port}/readyz", timeout=20).json()["models"]
        if models["hibari-runpod"]:
            return True
    return False


@pytest.mark.timeout(300)
def test_deployed_as_the_first_command_heard_and_removed(clone: Clone) -> None:
    routes = clone.folder / "tts_processors.json"
    committed = entries(routes)
    said = clone.shell(DEPLOY)
    endpoint_id = entries(routes)["hibari-runpod"]["runpod_endpoint_id"]
    assert endpoint_id != committed["hibari-runpod"]["runpod_endpoint_id"]
    assert f"hibari-runpod is {endpoint_id}" in said
    assert EMULATE == "make emulate"
    assert {DEPLOY, DESTROY} < {*commands(ROOT / "README.md")}
    api = httpx.Client(base_url=f"http://127.0.0.1:{clone.ports['EMULATOR_PORT']}/v2", headers=KEY)
    with clone.emulating(), api:
        clone.shell(SAY)
        assert duration_s(clone.folder / "deployed.wav") > 1
        (example,) = [block for block in blocks(DOCUMENT, "python") if "OpenAI" in block]
        audio = clone.folder / "cloud.mp3"
        exec(example.replace(":8000", f":{clone.gateway_port}").replace("cloud.mp3", str(audio)), {})  # noqa: S102
        assert duration_s(audio) > 0.5
        assert api.get(f"/{endpoint_id}/health").json()["jobs"]["completed"] == 2
        assert f"({endpoint_id}) is deleted; its route is removed" in clone.shell(DESTROY)
        assert api.get(f"/{endpoint_id}/health").status_code == 404
        assert is_ready_again(clone), "the gateway that runs did not follow"
    del committed["hibari-runpod"]
    assert entries(routes) == committed


def test_every_command_and_setting_that_it_names_is_there(clone: Clone) -> None:
    text = DOCUMENT.read_text()
    targets = set(re.findall(r"(?:^|`)make ([a-z-]+)", text, re.MULTILINE))
    assert {"deploy-runpod", "plan-runpod", "destroy-runpod"} < targets
    makefile = (clone.folder / "Makefile").read_text()
    assert not [target for target in {*targets, PLAN.split()[1]} if f"\n{target}:" not in makefile]
    source = (ROOT / "infra" / "runpod" / "settings.py").read_text()
    for variable in re.findall(r"\b(RUNPOD_API_KEY|IMAGE_REGISTRY|REGISTRY_[A-Z]+|IMAGE)=", text):
        assert f"{variable.lower()}:" in source, variable
    for path in re.findall(r"infra/compose/[a-z.]+|functions/hibari/[A-Za-z.]+", text):
        assert (ROOT / path).exists(), path
