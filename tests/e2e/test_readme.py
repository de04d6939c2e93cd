"""The README's commands, as a newcomer types them, in a copy of what is committed."""

from __future__ import annotations

import os
import re
import shutil
import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import pytest

from infra.processes import free_port
from yapit import audio

ROOT = Path(__file__).parents[2]
README = (ROOT / "README.md").read_text()
READY = "Ctrl-C stops it."


def blocks(language: str) -> list[str]:
    return re.findall(rf"```{language}\n(.*?)```", README, re.DOTALL)


COMMANDS = [line for block in blocks("sh") for line in block.replace("\\\n", " ").splitlines() if line.strip()]


@dataclass
class Clone:
    folder: Path
    ports: dict[str, str]

    def shell(self, command: str) -> str:
        # the environment is the one that runs this test: it must not be installed again from here
        command = command.replace("make ", "make -o .venv/.run -o .venv/.dev ").replace(
            ":8000", f":{self.gateway_port}"
        )
        environ = {**os.environ, **self.ports}
        result = subprocess.run(
            command, shell=True, cwd=self.folder, env=environ, capture_output=True, text=True, timeout=100
        )
        assert result.returncode == 0, f"{command}\n{result.stdout}{result.stderr}"
        return result.stdout

    @property
    def gateway_port(self) -> str:
        return self.ports["GATEWAY_PORT"]

    @contextmanager
    def emulating(self) -> Iterator[None]:
        process = subprocess.Popen(
            ["make", "-o", ".venv/.run", "emulate"],
            cwd=self.folder,
            env={**os.environ, **self.ports},
            stdout=subprocess.PIPE,
            text=True,
            start_new_session=True,
        )
        assert process.stdout is not None
        try:
            assert any(READY in line for line in process.stdout), "make emulate ended"
            yield
        finally:
            os.killpg(process.pid, signal.SIGINT)
            process.communicate(timeout=20)


@pytest.fixture(scope="module")
def clone(tmp_path_factory: pytest.TempPathFactory) -> Clone:
    folder = tmp_path_factory.mktemp("clone")
    listed = subprocess.run(
        ["git", "ls-files", "--cached", "--others", "--exclude-standard"],
        cwd=ROOT, capture_output=True, text=True, check=True,
    )  # fmt: skip
    for name in listed.stdout.splitlines():
        if (ROOT / name).is_file():
            (folder / name).parent.mkdir(parents=True, exist_ok=True)
            shutil.copy(ROOT / name, folder / name)
    (folder / ".venv").symlink_to(sys.prefix)
    ports = ("GATEWAY_PORT", "EMULATOR_PORT", "EMULATOR_MODAL_PORT")
    return Clone(folder, {name: str(free_port()) for name in ports})


def duration_s(path: Path) -> float:
    samples, rate = audio.decode(path.read_bytes())
    return len(samples) / rate


def test_make_say_is_the_first_command_and_leaves_a_playing_file(clone: Clone) -> None:
    assert COMMANDS[0].startswith("make say")
    said = clone.shell(COMMANDS[0])
    assert "hello.wav" in said
    assert 2 < duration_s(clone.folder / "hello.wav") < 4


def test_while_it_runs_curl_and_the_openai_sdk_speak(clone: Clone) -> None:
    (curl,) = [command for command in COMMANDS if command.startswith("curl")]
    (example,) = [block for block in blocks("python") if "OpenAI" in block]
    with clone.emulating():
        clone.shell(curl)
        assert duration_s(clone.folder / "hello.mp3") > 0.5
        (clone.folder / "example.py").write_text(example.replace(":8000", f":{clone.gateway_port}"))
        clone.shell(".venv/bin/python example.py")
        assert duration_s(clone.folder / "hello.opus") > 1
        gateway = f"http://127.0.0.1:{clone.gateway_port}"
        said = clone.shell(f'make say TEXT="Still here." OUT=again.flac MODEL=hibari-runpod GATEWAY={gateway}')
        assert "hibari-runpod" in said


def test_other_languages_and_a_model_of_ones_own(clone: Clone) -> None:
    for command in COMMANDS:
        if "MODEL=espeak" in command or "humming" in command:
            clone.shell(command)
    assert duration_s(clone.folder / "morgen.wav") > 0.5
    assert duration_s(clone.folder / "humming.wav") > 0.5


@pytest.mark.parametrize("command", [command for command in COMMANDS if command.startswith("make")])
def test_every_make_target_exists_and_is_listed(clone: Clone, command: str) -> None:
    target = command.split()[1]
    clone.shell(f"make -n {target} NAME=x FUNCTION=x")
    assert target in clone.shell("make help")


def test_every_link_leads_somewhere() -> None:
    for name in re.findall(r"\]\(([^)#:]+)\)", README):
        assert (ROOT / name).exists(), name
