"""The emulator as the target of a deployment: the one that runs, or one for as long as the command takes."""

from __future__ import annotations

import os
import sys
from collections.abc import Iterator, Mapping
from contextlib import contextmanager

from infra.processes import answers, server, wait_for


@contextmanager
def emulator_at(url: str, environ: Mapping[str, str]) -> Iterator[None]:
    """Leaves one alone that answers at `url`; else starts one with `environ`, until the block ends.

    Raises `ConfigurationError` where it does not come up.
    """
    if answers(f"{url}/healthz"):
        yield
        return
    print(f"no emulator answers at {url}: one is started for this command", file=sys.stderr)
    with server("emulator", {**os.environ, **environ}) as process:
        wait_for(f"{url}/healthz", process)
        yield
