"""Sections of docs/benchmarks.md can be measured alone."""

from __future__ import annotations

from tests.bench.report import HEAD, machine, merged

OLD = f"{HEAD}\n\n## One\n\nold 1\n\n### Sub\n\ntext\n\n## Two\n\nold 2\n"


def test_a_section_takes_the_place_of_the_one_of_its_title() -> None:
    expected = f"{HEAD}\n\n## One\n\n{machine()}\n\nnew 1\n\n## Two\n\nold 2\n"
    assert merged(OLD, ["## One\n\nnew 1"]) == expected


def test_a_new_section_comes_last_and_the_others_stay() -> None:
    assert merged(OLD, ["## Three\n\nnew"]) == f"{OLD}\n## Three\n\n{machine()}\n\nnew\n"
    assert merged("", ["## One\n\nnew"]) == f"{HEAD}\n\n## One\n\n{machine()}\n\nnew\n"
