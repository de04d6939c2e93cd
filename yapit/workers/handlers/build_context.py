"""What a Dockerfile copies, and no more, as a folder to build it from.

Modal's SDK finds that by looking at every file under the folder that it is given (modal 1.6.4,
`_create_context_mount`), and under the root of a project there may be an environment with hundreds of thousands.
"""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from pathlib import Path

from yapit.errors import ConfigurationError

_NOT_COPIED = shutil.ignore_patterns("__pycache__", "*.pyc")


def copy_context(dockerfile: Path, root: Path, into: Path) -> None:
    """Copy what the `COPY` lines of `dockerfile` name under `root`. Raises `ConfigurationError` for a file that is not
    there, or a line that is written in another form than `COPY source … target`."""
    for source in _sources(dockerfile):
        found, copied = (root / source).resolve(), into / source
        if not found.is_relative_to(root.resolve()) or not found.exists():
            raise ConfigurationError(f"{dockerfile}: COPY {source}: no such file under {root}")
        copied.parent.mkdir(parents=True, exist_ok=True)
        if found.is_dir():
            shutil.copytree(found, copied, ignore=_NOT_COPIED, dirs_exist_ok=True)
        else:
            shutil.copy(found, copied)


def _sources(dockerfile: Path) -> Iterator[str]:
    for line in dockerfile.read_text(encoding="utf-8").splitlines():
        words = line.split()
        if not words or words[0].upper() != "COPY" or any(word.startswith("--from=") for word in words):
            continue
        sources = [word for word in words[1:] if not word.startswith("--")][:-1]
        if not sources or line.rstrip().endswith("\\") or any(set(source) & set("[*?$\"'") for source in sources):
            raise ConfigurationError(f"{dockerfile}: {line.strip()!r}: write COPY source … target, on one line")
        yield from sources
