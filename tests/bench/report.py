"""Tables, and what they were measured on."""

from __future__ import annotations

import datetime
import os
import platform
from collections.abc import Sequence
from pathlib import Path

HEAD = "# Benchmarks\n\nMade by `make bench`; read the ratios, not the milliseconds."


def machine() -> str:
    """One line naming the processor, its cores, Python and the day."""
    info = Path("/proc/cpuinfo").read_text().splitlines() if Path("/proc/cpuinfo").exists() else []
    model = next((line.partition(":")[2].strip() for line in info if line.startswith("model name")), platform.machine())
    today = datetime.datetime.now(tz=datetime.UTC).date()
    return (
        f"{model}, {os.cpu_count()} cores shared with the load, Python {platform.python_version()}, "
        f"{platform.system()}; {today}."
    )


def merged(document: str, sections: Sequence[str]) -> str:
    """The document with these sections in the place of those of the same title, or behind all others. Each says what it
    was measured on."""
    _, *parts = f"\n{document}".split("\n## ")
    kept = {part.partition("\n")[0]: f"## {part.strip()}" for part in parts}
    for section in sections:
        title, _, body = section.removeprefix("## ").partition("\n")
        kept[title] = f"## {title}\n\n{machine()}\n\n{body.strip()}"
    return "\n\n".join([HEAD, *kept.values()]) + "\n"


def table(header: Sequence[str], rows: Sequence[Sequence[object]]) -> str:
    lines = [header, ["---"] * len(header), *rows]
    return "\n".join("| " + " | ".join(map(str, line)) + " |" for line in lines)
