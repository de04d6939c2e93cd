"""From a function's folder to an image that a provider can pull."""

from __future__ import annotations

import sys
from pathlib import Path

from infra.images.engine import Engine


def provide(reference: str, dockerfile: Path, context: Path, *, engine: str = "") -> None:
    """Build and push, unless the registry has the image: its tag says what is in it.

    Raises `ConfigurationError` without an engine, `DeploymentFailed` where the engine fails.
    """
    found = Engine.find(engine)
    if found.has_pushed(reference):
        print(f"image {reference}: pushed already", file=sys.stderr, flush=True)
        return
    print(f"image {reference}: built with {found.name}", file=sys.stderr, flush=True)
    found.build(reference, dockerfile, context)
    found.push(reference)
