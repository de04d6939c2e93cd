"""What an emulated account holds, kept in a file so that deployments outlive a restart of the emulator."""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Any

from yapit.errors import ConfigurationError

VERSION = 1
KINDS = ("endpoints", "templates", "registries", "networkVolumes")

Resources = dict[str, dict[str, dict[str, Any]]]
"""Kind → id → the resource's JSON."""


def empty() -> Resources:
    return {kind: {} for kind in KINDS}


class StateFile:
    """Without a path nothing is kept."""

    def __init__(self, path: Path | None) -> None:
        self._path = path

    def load(self) -> Resources:
        """Raises `ConfigurationError` for a file that this version did not write."""
        if self._path is None or not self._path.is_file():
            return empty()
        try:
            found = json.loads(self._path.read_text(encoding="utf-8"))
            if found["version"] != VERSION:
                raise ValueError(f"version {found['version']!r}")
            return {kind: dict(found[kind]) for kind in KINDS}
        except (ValueError, KeyError, TypeError) as error:
            raise ConfigurationError(
                f"{self._path}: no state of this emulator ({error!r}); delete it to start with an empty account"
            ) from None

    def save(self, resources: Resources) -> None:
        """All or nothing, readable by the owner only: an endpoint's variables may be secrets."""
        if self._path is None:
            return
        self._path.parent.mkdir(parents=True, exist_ok=True)
        temporary = self._path.with_name(f".{self._path.name}.{os.getpid()}")
        descriptor = os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600)
        with os.fdopen(descriptor, "w", encoding="utf-8") as file:
            json.dump({"version": VERSION, **resources}, file, indent=2)
        os.replace(temporary, self._path)
