"""`make bench`: everything side by side in one run, written to docs/benchmarks.md."""

from __future__ import annotations

import argparse
from pathlib import Path

from tests.bench import modal, overhead, throughput
from tests.bench.report import machine

PARTS = {"overhead": overhead.measure, "throughput": throughput.measure, "modal": modal.measure}

parser = argparse.ArgumentParser(prog="python -m tests.bench")
parser.add_argument("parts", nargs="*", choices=[*PARTS, []], help="default: all")
parser.add_argument("--out", type=Path, default=Path("docs/benchmarks.md"))
chosen = parser.parse_args()

sections = [PARTS[name]() for name in chosen.parts or PARTS]
text = "\n\n".join(["# Benchmarks", machine(), *sections]) + "\n"
chosen.out.write_text(text, encoding="utf-8")
print(text)
