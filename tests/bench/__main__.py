"""`make bench`: everything side by side in one run, written to docs/benchmarks.md; or only some of its sections, the
others staying as they are: `make bench ARGS="runpod"`."""

from __future__ import annotations

import argparse
from pathlib import Path

from tests.bench import modal, overhead, runpod_sdk, throughput
from tests.bench.report import merged

PARTS = {
    "overhead": overhead.measure,
    "throughput": throughput.measure,
    "runpod": runpod_sdk.measure,
    "modal": modal.measure,
}

parser = argparse.ArgumentParser(prog="python -m tests.bench")
parser.add_argument("parts", nargs="*", choices=[*PARTS, []], help="default: all")
parser.add_argument("--out", type=Path, default=Path("docs/benchmarks.md"))
chosen = parser.parse_args()

sections = [PARTS[name]() for name in chosen.parts or PARTS]
before = chosen.out.read_text(encoding="utf-8") if chosen.out.exists() else ""
chosen.out.write_text(merged(before, sections), encoding="utf-8")
print("\n\n".join(sections))
