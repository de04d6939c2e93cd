"""Which files an image is made of, and the tag that says so: built twice from the same files, it is the same image."""

from __future__ import annotations

import hashlib
import re
from collections.abc import Iterator
from pathlib import Path

from yapit.errors import ConfigurationError

SHARED = ("pyproject.toml", "constraints.txt", "yapit", ".dockerignore")
"""What every function's Dockerfile copies besides its own folder."""
_TAG_LENGTH = 12
_IGNORED_PARTS = {"__pycache__", ".mypy_cache", ".ruff_cache"}
_PART = r"[a-z0-9]+([._-]+[a-z0-9]+)*"
_REPOSITORY = re.compile(rf"{_PART}(:\d+)?(/{_PART})*")


def image_files(function: str, root: Path) -> list[Path]:
    """The files that the function's image holds, sorted. Raises `ConfigurationError` where it has no Dockerfile."""
    folder = root / "functions" / function
    if not (folder / "Dockerfile").is_file():
        raise ConfigurationError(f"{folder}/Dockerfile: no such file; copy the one in functions/_template")
    return sorted(path for part in (*(root / name for name in SHARED), folder) for path in _files(part))


def content_tag(function: str, root: Path) -> str:
    """12 hex digits over the names, contents and executable bits of `image_files`."""
    digest = hashlib.sha256()
    for path in image_files(function, root):
        name, content = path.relative_to(root).as_posix(), path.read_bytes()
        is_executable = bool(path.stat().st_mode & 0o100)
        digest.update(f"{name}\0{is_executable}\0{len(content)}\0".encode())
        digest.update(content)
    return digest.hexdigest()[:_TAG_LENGTH]


def image_reference(function: str, root: Path, registry: str) -> str:
    """`registry/yapit-<function>:<content tag>`. Raises `ConfigurationError` for a registry that is none."""
    registry = registry.rstrip("/")
    if not registry:
        raise ConfigurationError(
            "no registry to push the image to: set IMAGE_REGISTRY, for example IMAGE_REGISTRY=docker.io/your-name or "
            "ghcr.io/your-name, and log your container engine in to it"
        )
    if not _REPOSITORY.fullmatch(registry):
        raise ConfigurationError(
            f"IMAGE_REGISTRY={registry!r} is no place for images; write host/name in lower case, without https://"
        )
    return f"{registry}/yapit-{function.replace('_', '-').strip('-')}:{content_tag(function, root)}"


def _files(path: Path) -> Iterator[Path]:
    if path.is_file():
        yield path
    elif path.is_dir():
        for child in path.rglob("*"):
            if child.is_file() and not _IGNORED_PARTS.intersection(child.parts) and child.suffix != ".pyc":
                yield child
