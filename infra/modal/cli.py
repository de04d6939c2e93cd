"""Modal's own command line, as a process: what it says is shown as it says it."""

from __future__ import annotations

import os
import subprocess
import sys
from collections import deque

from infra.modal.account import sdk
from yapit.errors import DeploymentFailed
from yapit.function_spec import FunctionSpec, functions_root

APP_MODULE = "yapit.workers.handlers.modal_app"
MAX_LOG_LINES = 100
LOGS_TIMEOUT_S = 30.0
_KEPT_LINES = 20


class ModalCli:
    """With the account's settings in the environment. Raises `ConfigurationError` where the CLI is not installed."""

    def __init__(self) -> None:
        sdk()
        self._environ = {**os.environ, "FUNCTIONS_DIR": str(functions_root()), "NO_COLOR": "1"}

    def deploy(self, spec: FunctionSpec) -> None:
        """Raises `DeploymentFailed` with the CLI's last words."""
        self._run("deploy", "-m", APP_MODULE, YAPIT_FUNCTION=spec.name)

    def stop(self, spec: FunctionSpec) -> None:
        """Stop the app and its containers; there is no app of that name any more. Raises `DeploymentFailed`."""
        self._run("app", "stop", "--yes", spec.deployment_name)

    def logs(self, spec: FunctionSpec) -> str:
        """The last lines that the app's containers wrote; empty where they cannot be had."""
        command = self._command("app", "logs", spec.deployment_name, "--tail", str(MAX_LOG_LINES))
        try:
            done = subprocess.run(  # noqa: S603
                command, env=self._environ, capture_output=True, text=True, timeout=LOGS_TIMEOUT_S, check=False
            )
        except subprocess.TimeoutExpired:
            return ""
        return done.stdout.rstrip() if done.returncode == 0 else ""

    def _command(self, *arguments: str) -> list[str]:
        return [sys.executable, "-m", "modal", *arguments]

    def _run(self, *arguments: str, **environ: str) -> None:
        last: deque[str] = deque(maxlen=_KEPT_LINES)
        with subprocess.Popen(  # noqa: S603
            self._command(*arguments),
            env={**self._environ, **environ},
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
        ) as process:
            for line in process.stdout or ():
                last.append(line.rstrip())
                print(f"  {line.rstrip()}", file=sys.stderr, flush=True)
        if process.returncode:
            said = "\n".join(line for line in last if line.strip())
            raise DeploymentFailed(f"modal {arguments[0]} ended with {process.returncode}:\n{said}")
