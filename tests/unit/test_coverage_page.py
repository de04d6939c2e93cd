"""The page about the emulator's coverage, and what it is made from."""

import subprocess
import sys

import pytest

from tests import coverage_page
from tests.conformance import checklists
from tests.conftest import COLLECTED


def test_the_committed_page_is_up_to_date(request: pytest.FixtureRequest) -> None:
    """From the tests of this run where it has collected all of them, else from a run of its own."""
    items = request.config.stash[COLLECTED]
    is_narrowed = any("::" in argument for argument in request.config.args)
    if not is_narrowed and set(coverage_page.TESTS.glob("test_*.py")) <= {item.path for item in items}:
        assert coverage_page.is_up_to_date(coverage_page.proofs_among(items)), "run: make coverage-page"
    else:
        command = (sys.executable, "-m", "tests.coverage_page", "--check")
        result = subprocess.run(command, cwd=coverage_page.ROOT, capture_output=True, text=True, check=False)
        assert (result.returncode, result.stderr) == (0, "")


@pytest.mark.parametrize(
    ("name", "numbers"),
    [
        ("test_07_it_works", {7}),
        ("test_11_and_12_both_work", {11, 12}),
        ("test_33_to_35_all_work", {33, 34, 35}),
        ("test_it_works", set()),
        ("test_7_it_works", set()),
    ],
)
def test_a_name_says_which_items_it_proves(name: str, numbers: set[int]) -> None:
    assert coverage_page.numbers_in(name) == numbers


def test_every_number_of_a_test_is_an_items(request: pytest.FixtureRequest) -> None:
    proofs = coverage_page.proofs_among(request.config.stash[COLLECTED])
    known = {"runpod": checklists.RUNPOD, "modal": checklists.MODAL}
    assert [key for key in proofs if key[1] not in known.get(key[0], {})] == []


def test_the_checklists_have_no_gaps() -> None:
    for checklist, length in ((checklists.RUNPOD, 50), (checklists.MODAL, 40)):
        assert list(checklist) == list(range(1, length + 1))


def test_an_item_without_tests_and_an_operation_that_is_missing_are_shown_as_such() -> None:
    page = coverage_page.page({})
    assert "| 1 | * Every success is exactly 200 | **none** |  |" in page
    assert "0 of 50 items have tests" in page
    assert "Not implemented: `webhookV2`, `s3Config`" in page


@pytest.mark.parametrize("provider", coverage_page.PROVIDERS, ids=lambda provider: provider.name)
def test_operations_are_named_once_and_have_sources(provider: coverage_page.Provider) -> None:
    names = [operation.name for operation in provider.operations]
    assert len(names) == len(set(names))
    assert all(operation.source.startswith("[") for operation in provider.operations)
