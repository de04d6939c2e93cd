"""Modal's conformance tests with other releases of its SDK: `python -m tests.conformance.sdk_versions [VERSION …]`.

Each release has an environment of its own under `var/`, with what it depends on; the rest is found in this one. The
emulator runs under this Python, as it does for anybody with an older client: it must know the messages of its own
release, and in its containers runs the SDK that is installed beside it.
"""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
import sysconfig
import venv
from importlib.metadata import version
from pathlib import Path

from tests.conformance.modal_emulated import SERVER_PYTHON

VERSIONS = ("1.5.4", "1.4.3")
"""Older minor releases; the one that is installed is tried, too."""
ROOT = Path(__file__).parents[2]
ENVIRONMENTS = ROOT / "var" / "modal-sdk"
TESTS = sorted(str(path.relative_to(ROOT)) for path in Path(__file__).parent.glob("test_modal_*.py"))


def main() -> int:
    """Prints what each release made of the tests; how many of them failed any."""
    versions = sys.argv[1:] or (version("modal"), *VERSIONS)
    results = {release: run(release) for release in versions}
    for release, (code, summary) in results.items():
        print(f"modal {release}: {'passed' if code == 0 else 'FAILED'}: {summary}")
    return sum(code != 0 for code, _ in results.values())


def run(release: str) -> tuple[int, str]:
    """pytest's exit code and its last line."""
    is_ours = release == version("modal")
    python, elsewhere = (sys.executable, {}) if is_ours else (environment(release), {SERVER_PYTHON: sys.executable})
    print(f"--- modal {release}", flush=True)
    done = subprocess.Popen(
        [python, "-m", "pytest", "-q", *TESTS],
        cwd=ROOT,
        env={**os.environ, **elsewhere},
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    )
    last = ""
    for line in done.stdout or ():
        print(line, end="", flush=True)
        last = line.strip() or last
    return done.wait(), re.sub(r" in .*", "", last).strip("= ")


def environment(release: str) -> Path:
    """The Python of a release's environment, made where it is not there."""
    folder = ENVIRONMENTS / release
    python = folder / "bin" / "python"
    if (folder / "ready").exists():
        return python
    shutil.rmtree(folder, ignore_errors=True)
    venv.create(folder, with_pip=True)
    ours = Path(sysconfig.get_path("purelib"))
    subprocess.run([python, "-m", "pip", "install", "-q", f"modal=={release}"], check=True, cwd=ROOT)
    theirs = folder / ours.relative_to(Path(sys.prefix))
    (theirs / "the-rest.pth").write_text(f"{ours}\n{ROOT}\n")
    (folder / "ready").touch()
    return python


if __name__ == "__main__":
    sys.exit(main())
