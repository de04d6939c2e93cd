"""A copy of what is committed, and commands in it as a newcomer types them."""

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

from infra.processes import free_port
from yapit import audio

ROOT = Path(__file__).parents[2]
READY = "Ctrl-C stops it."


def blocks(document: Path, language: str) -> list[str]:
    """The code blocks of that language."""
    return re.findall(rf"```{language}\n(.*?)```", document.read_text(), re.DOTALL)


def commands(document: Path) -> list[str]:
    """Every line of its shell blocks."""
    joined = [block.replace("\\\n", " ") for block in blocks(document, "sh")]
    return [line for block in joined for line in block.splitlines() if line.strip()]


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


def make_clone(folder: Path) -> Clone:
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
