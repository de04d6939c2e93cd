"""`python -m emulator`: on loopback, port 8900, and Modal's gRPC on 8901 (`EMULATOR_HOST`, `EMULATOR_PORT`,
`EMULATOR_MODAL_PORT`, `EMULATOR_API_KEY`).

`EMULATOR_WORKERS=process` serves RunPod's endpoints with processes that run RunPod's own worker loop, and Modal's apps
with containers that run Modal's own runtime. `EMULATOR_MODAL_SECRETS` is a file of Modal's secrets. What is deployed
here is kept in `EMULATOR_STATE_FILE` (`var/emulator.json`); `EMULATOR_MAX_WORKERS` is the account's quota.
"""

from __future__ import annotations

import logging
import os
import sys
from pathlib import Path

from emulator.app import DEFAULT_API_KEY, Emulator
from emulator.endpoints import WorkerKind
from emulator.modal.stored import Secrets, secrets_from
from emulator.server import Server
from yapit.errors import ConfigurationError
from yapit.function_spec import functions_root

LOOPBACK = ("127.0.0.1", "localhost", "::1")
EVERY_ADDRESS = ("", "0.0.0.0", "::")
DEFAULT_STATE_FILE = "var/emulator.json"
"""What is deployed here outlives a restart."""


def main() -> None:
    level = os.environ.get("LOG_LEVEL", "info")
    logging.basicConfig(level=level.upper(), format="emulator  %(levelname)s %(message)s")
    host, port = os.environ.get("EMULATOR_HOST", LOOPBACK[0]), int(os.environ.get("EMULATOR_PORT", "8900"))
    modal_port = int(os.environ.get("EMULATOR_MODAL_PORT", "8901"))
    api_key = os.environ.get("EMULATOR_API_KEY") or DEFAULT_API_KEY
    try:
        check_bind(host, api_key)
        emulator = Emulator(
            functions_root(),
            api_key=api_key,
            workers=_worker_kind(),
            base_url=f"http://{_reachable(host)}:{port}",
            modal_address=(host, modal_port),
            routes_file=Path(os.environ.get("TTS_PROCESSORS_FILE", "tts_processors.json")),
            state_file=Path(os.environ.get("EMULATOR_STATE_FILE", DEFAULT_STATE_FILE)),
            max_workers_quota=_quota(),
            modal_secrets=_secrets(),
        )
    except ConfigurationError as error:
        sys.exit(f"emulator: {error}")
    Server(emulator, host=host, port=port, log_level=level).run()


def check_bind(host: str, api_key: str) -> None:
    """Raises `ConfigurationError` where anybody on the network would know the key."""
    if host not in LOOPBACK and api_key == DEFAULT_API_KEY:
        raise ConfigurationError(
            f"EMULATOR_HOST={host} is reachable from other machines: set EMULATOR_API_KEY to a key of your own"
        )


def _quota() -> int | None:
    """Raises `ConfigurationError`."""
    value = os.environ.get("EMULATOR_MAX_WORKERS", "")
    if value and not value.isdecimal():
        raise ConfigurationError(
            f"EMULATOR_MAX_WORKERS is {value!r}; it is a number: how many workers an account may have"
        )
    return int(value) if value else None


def _secrets() -> Secrets:
    """Raises `ConfigurationError`."""
    path = os.environ.get("EMULATOR_MODAL_SECRETS", "")
    return secrets_from(Path(path)) if path else {}


def _reachable(host: str) -> str:
    """As it stands in a URL, for workers of this machine."""
    if host in EVERY_ADDRESS:
        return LOOPBACK[0]
    return f"[{host}]" if ":" in host else host


def _worker_kind() -> WorkerKind:
    """Raises `ConfigurationError`."""
    match os.environ.get("EMULATOR_WORKERS", "in-process"):
        case "in-process":
            return "in-process"
        case "process":
            return "process"
        case found:
            raise ConfigurationError(f"EMULATOR_WORKERS is {found!r}; it may be 'in-process' or 'process'")


if __name__ == "__main__":
    main()
