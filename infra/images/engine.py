"""The container engine that is found: docker, podman or buildah."""

from __future__ import annotations

import shutil
import subprocess
import sys
from collections import deque
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from yapit.errors import ConfigurationError, DeploymentFailed

PLATFORM = "linux/amd64"  # [DOCS] the only one that RunPod runs
ENGINES = ("docker", "podman", "buildah")
_INSPECT = {"docker": ["buildx", "imagetools", "inspect"], "podman": ["manifest", "inspect"]}
_KEPT_LINES = 20


@dataclass(frozen=True, slots=True)
class Engine:
    """`name` is one of `ENGINES`; `executable` its path."""

    name: str
    executable: str

    @classmethod
    def find(cls, wanted: str = "") -> Engine:
        """The wanted engine, or the first that is there. Raises `ConfigurationError`."""
        if wanted and wanted not in ENGINES:
            raise ConfigurationError(
                f"CONTAINER_ENGINE={wanted!r} is none that is known; there is {', '.join(ENGINES)}"
            )
        for name in [wanted] if wanted else ENGINES:
            if executable := shutil.which(name):
                return cls(name, executable)
        raise ConfigurationError(
            f"no container engine: {wanted or ', '.join(ENGINES)} not found on PATH. Install one (docs.docker.com, "
            "podman.io), or build the image elsewhere and name it: IMAGE=registry/name:tag"
        )

    def build(self, reference: str, dockerfile: Path, context: Path) -> None:
        """Build for `PLATFORM`. Raises `DeploymentFailed` with the engine's last words."""
        options = ["--platform", PLATFORM, "--tag", reference, "--file", str(dockerfile)]
        self._run(["build", *options, str(context)], f"building {reference} failed", "mend what it says; to try again")

    def push(self, reference: str) -> None:
        """Raises `DeploymentFailed`."""
        host = reference.split("/")[0]
        hint = f"is the engine logged in? {self.name} login {host}; then"
        self._run(["push", reference], f"pushing {reference} failed", hint)

    def has_pushed(self, reference: str) -> bool:
        """Whether the registry has the image already. buildah cannot say: then it has not."""
        if self.name not in _INSPECT:
            return False
        command = [self.executable, *_INSPECT[self.name], reference]
        return subprocess.run(command, capture_output=True, check=False).returncode == 0  # noqa: S603

    def _run(self, arguments: Sequence[str], failure: str, hint: str) -> None:
        command = [self.executable, *arguments]
        last: deque[str] = deque(maxlen=_KEPT_LINES)
        with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True) as process:  # noqa: S603
            for line in process.stdout or ():
                last.append(line.rstrip())
                print(f"  {line.rstrip()}", file=sys.stderr, flush=True)
        if process.returncode:
            words = "\n".join(last)
            again = " ".join([self.name, *arguments])
            raise DeploymentFailed(
                f"{failure} ({self.name} ended with {process.returncode}); {hint}\n  {again}\n{words}"
            )
