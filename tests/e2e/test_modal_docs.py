"""docs/modal.md: its commands, at the emulator, where no account is needed; and what it says of everything else."""

from __future__ import annotations

import json
import re
import subprocess
import sys
import tomllib
from pathlib import Path

import pytest

from tests.e2e.test_readme import Clone, clone, duration_s  # noqa: F401 - a fixture
from yapit.function_spec import ModalHardware
from yapit.gateway.processors.tts.modal import LONG_JOB_S, MAX_WHOLE_CHARACTERS

ROOT = Path(__file__).parents[2]
DOCS = (ROOT / "docs" / "modal.md").read_text()
SOURCE = "".join(path.read_text() for folder in ("yapit", "infra") for path in sorted((ROOT / folder).rglob("*.py")))


def blocks(language: str) -> list[str]:
    return re.findall(rf"```{language}\n(.*?)```", DOCS, re.DOTALL)


COMMANDS = [line for block in blocks("sh") for line in block.splitlines() if line.strip()]
MODAL = sorted(set(re.findall(r"-m modal ((?:[a-z][a-z-]+ ?)+)", DOCS)))
MESSAGES = re.findall(r"^\| `([^`]+)` \|", DOCS.partition("## Where it goes wrong")[2], re.MULTILINE)


def test_from_the_plan_to_audio_and_back(clone: Clone) -> None:  # noqa: F811
    """The commands in their order, with the emulator in the cloud's place."""
    modal, say = [line for line in COMMANDS if "-modal FUNCTION" in line], "make say"
    plan, deploy, destroy = [f"{line} TARGET=emulator" for line in modal]
    (speak,) = [line for line in COMMANDS if line.startswith(say)]
    routes = clone.folder / "tts_processors.json"
    before = json.loads(routes.read_text())
    with clone.emulating():
        assert "its ids stay" in clone.shell(plan)  # `make emulate` serves every function already
        assert "s of audio in" in clone.shell(deploy)
        assert '"modal_app": "yapit-hibari"' in routes.read_text()
        clone.shell(f"{speak} GATEWAY=http://127.0.0.1:{clone.gateway_port}")
        assert duration_s(clone.folder / "hello.wav") > 0.5
        assert "its route is removed" in clone.shell(destroy)
    assert json.loads(routes.read_text()) == [entry for entry in before if entry["slug"] != "hibari-modal"]


@pytest.mark.parametrize("command", MODAL)
def test_modals_own_commands_exist(command: str) -> None:
    words = [word for word in command.split() if word != "hf" and not word.startswith("yapit")]
    asked = subprocess.run([sys.executable, "-m", "modal", *words, "--help"], capture_output=True, text=True)
    assert asked.returncode == 0, asked.stderr
    assert f"modal {' '.join(words)} " in asked.stdout


def test_the_example_of_what_a_function_may_ask_for_names_every_key() -> None:
    (example,) = blocks("toml")
    table = tomllib.loads(example)["tool"]["yapit"]["function"]["modal"]
    ModalHardware.model_validate(table)
    assert set(table) == set(ModalHardware.model_fields)


def test_the_ways_of_a_job_are_those_of_the_code() -> None:
    assert (LONG_JOB_S, MAX_WHOLE_CHARACTERS) == (3_600, 200)
    assert "longer than an hour" in DOCS
    assert "of up to 200 characters" in DOCS


@pytest.mark.parametrize("message", MESSAGES)
def test_the_messages_are_those_of_the_code(message: str) -> None:
    assert message.split("yapit-")[0].strip() in SOURCE


def test_every_link_leads_somewhere() -> None:
    for name in re.findall(r"\]\(([^)#:]+)\)", DOCS):
        assert (ROOT / "docs" / name).exists(), name
