"""Writes `docs/emulator-coverage.md`: `python -m tests.coverage_page`, or with `--check` says whether it is up to date.

Made from each provider's `facts.OPERATIONS` and its marks [?], from `conformance/checklists.py`, and from the
conformance tests as pytest collects them: what proves item 7 is called `test_07_…`, in
`conformance/test_{provider}_….py`.
"""

from __future__ import annotations

import inspect
import re
import sys
from collections import defaultdict
from collections.abc import Iterable, Sequence
from contextlib import redirect_stdout
from dataclasses import dataclass, field
from io import StringIO
from pathlib import Path
from types import ModuleType

import pytest

from emulator.modal import facts as modal_facts
from emulator.operations import Operation
from emulator.runpod import facts as runpod_facts
from tests.conformance import checklists

ROOT = Path(__file__).parents[1]
TESTS = ROOT / "tests" / "conformance"
PAGE = ROOT / "docs" / "emulator-coverage.md"

BACK_ENDS = {
    "virtual clock": "the emulator with the test's own handler and clock: what takes hours takes milliseconds",
    "in-process": "workers in the emulator's process",
    "process": "worker processes that run RunPod's own loop",
    "container": "containers that run Modal's own runtime",
    "cloud": "the provider itself, with a key: never run by default",
}
"""By the parameter of a test's back end."""
OF_FIXTURE = {"cloud": "virtual clock", "remote": "virtual clock", "process_stack": "process", "gated": "process"}
"""Of tests without such a parameter, by a fixture that they use; all others are in-process."""

INTRODUCTION = """# What the emulator covers

Made by `make coverage-page` from the lists of operations in `emulator/*/facts.py` and from the conformance tests; a
test fails when it is out of date. Sources are marked as `facts.py` explains. What is not here answers 501 or
UNIMPLEMENTED. A star: the provider's own SDK, or a worker under it, breaks without.

Back ends of a test:

"""


@dataclass(frozen=True)
class Provider:
    name: str
    facts: ModuleType
    checklist: dict[int, str]

    @property
    def operations(self) -> Sequence[Operation]:
        found: Sequence[Operation] = self.facts.OPERATIONS
        return found


PROVIDERS = (
    Provider("RunPod", runpod_facts, checklists.RUNPOD),
    Provider("Modal", modal_facts, checklists.MODAL),
)


@dataclass
class Proof:
    """One test of an item, and what it runs against."""

    path: str
    name: str
    back_ends: set[str] = field(default_factory=set)


Proofs = dict[tuple[str, int], dict[str, Proof]]
"""By provider and number, then by the test's name and file."""


def proofs_among(items: Iterable[pytest.Item]) -> Proofs:
    """The tests that prove an item, sorted by it."""
    proofs: Proofs = defaultdict(dict)
    for item in items:
        file = re.fullmatch(r"test_([a-z]+)_\w+\.py", item.path.name)
        if file is None or item.path.parent != TESTS or not isinstance(item, pytest.Function):
            continue
        path = item.path.relative_to(ROOT).as_posix()
        for number in numbers_in(item.originalname):
            found = proofs[file[1], number]
            proof = found.setdefault(f"{path}::{item.originalname}", Proof(path, item.originalname))
            proof.back_ends.add(_back_end(item))
    return proofs


def numbers_in(name: str) -> set[int]:
    """`test_07_…`, `test_07_and_12_…`, `test_33_to_38_…`."""
    found = re.match(r"test_(\d\d)(?:_(and|to)_(\d\d))?_", name)
    if found is None:
        return set()
    first, last = int(found[1]), int(found[3] or found[1])
    return set(range(first, last + 1)) if found[2] == "to" else {first, last}


def _back_end(item: pytest.Function) -> str:
    parameters = item.callspec.params.values() if hasattr(item, "callspec") else ()
    named = [value for value in parameters if isinstance(value, str) and value in BACK_ENDS]
    by_fixture = [OF_FIXTURE[name] for name in item.fixturenames if name in OF_FIXTURE]
    return (named or by_fixture or ["in-process"])[0]


def page(proofs: Proofs) -> str:
    parts = [INTRODUCTION, *(f"- **{name}**: {what}\n" for name, what in BACK_ENDS.items())]
    for provider in PROVIDERS:
        parts += [f"\n## {provider.name}\n\n", *_operations(provider), *_checklist(provider, proofs)]
        parts += _unverified(provider)
    return "".join(parts)


def _operations(provider: Provider) -> Iterable[str]:
    here = [operation for operation in provider.operations if operation.is_here]
    missing = [operation for operation in provider.operations if not operation.is_here]
    yield "### Operations\n\n| operation | source | known gaps |\n| --- | --- | --- |\n"
    for operation in here:
        yield f"| `{_cell(operation.name)}` | {_cell(operation.source)} | {_cell(operation.gaps)} |\n"
    names = ", ".join(f"`{it.name}`" + (f" ({it.gaps})" if it.gaps else "") for it in missing)
    yield f"\n{len(here)} of {len(provider.operations)} are here. Not implemented: {names or 'nothing'}.\n\n"


def _checklist(provider: Provider, proofs: Proofs) -> Iterable[str]:
    yield "### Checklist\n\n| | item | tests | back ends |\n| --- | --- | --- | --- |\n"
    for number, item in provider.checklist.items():
        found = proofs.get((provider.name.lower(), number), {}).values()
        tests = "<br>".join(f"[`{proof.name}`](../{proof.path})" for proof in found)
        reached = {back_end for proof in found for back_end in proof.back_ends}
        back_ends = ", ".join(name for name in BACK_ENDS if name in reached)
        yield f"| {number} | {_cell(item)} | {tests or '**none**'} | {back_ends} |\n"
    proven = sum((provider.name.lower(), number) in proofs for number in provider.checklist)
    yield f"\n{proven} of {len(provider.checklist)} items have tests.\n\n"


def _unverified(provider: Provider) -> Iterable[str]:
    """What stands in the facts with the mark [?]: only an account can tell."""
    yield "### Not verified without an account\n\n| constant | what is taken for true |\n| --- | --- |\n"
    for line in inspect.getsource(provider.facts).splitlines():
        if found := re.fullmatch(r"([A-Z][A-Z0-9_]*).* = (.*?)  # (.*\[\?\].*)", line):
            name, value, comment = found.groups()
            yield f"| `{name}` | `{_cell(value)}` {_cell(comment.replace('[?]', '').strip())} |\n"


def _cell(text: str) -> str:
    return text.replace("|", "\\|")


def is_up_to_date(proofs: Proofs) -> bool:
    return PAGE.is_file() and PAGE.read_text(encoding="utf-8") == page(proofs)


def collected() -> Proofs:
    """The conformance tests, none of which is run. Raises `SystemExit` where they cannot be collected."""
    collector = _Collector()
    quiet = ["-qqq", "-W", "ignore::pytest.PytestAssertRewriteWarning"]  # this module has imported what it warns of
    with redirect_stdout(StringIO()) as said:
        code = pytest.main(["--collect-only", *quiet, str(TESTS)], plugins=[collector])
    if code is not pytest.ExitCode.OK:
        raise SystemExit(f"the conformance tests cannot be collected:\n{said.getvalue()}")
    return proofs_among(collector.items)


class _Collector:
    """A pytest plugin that keeps what is collected, before anything is deselected."""

    def __init__(self) -> None:
        self.items: list[pytest.Item] = []

    @pytest.hookimpl(tryfirst=True)
    def pytest_collection_modifyitems(self, items: list[pytest.Item]) -> None:
        self.items = list(items)


def main() -> None:
    proofs = collected()
    if "--check" not in sys.argv[1:]:
        PAGE.write_text(page(proofs), encoding="utf-8")
    elif not is_up_to_date(proofs):
        sys.exit(f"{PAGE.relative_to(ROOT)} is out of date: make coverage-page")


if __name__ == "__main__":
    main()
