"""Tables, and what they were measured on."""

from __future__ import annotations

import datetime
import os
import platform
from collections.abc import Sequence
from pathlib import Path


def machine() -> str:
    """One line naming the processor, its cores, Python and the day."""
    info = Path("/proc/cpuinfo").read_text().splitlines() if Path("/proc/cpuinfo").exists() else []
    model = next((line.partition(":")[2].strip() for line in info if line.startswith("model name")), platform.machine())
    today = datetime.datetime.now(tz=datetime.UTC).date()
    return (
        f"{model}, {os.cpu_count()} cores shared with the load, Python {platform.python_version()}, "
        f"{platform.system()}; {today}. Made by `make bench`; read the ratios, not the milliseconds."
    )


def table(header: Sequence[str], rows: Sequence[Sequence[object]]) -> str:
    lines = [header, ["---"] * len(header), *rows]
    return "\n".join("| " + " | ".join(map(str, line)) + " |" for line in lines)
