"""The small relatives of all networks: every method does on them what docs/support.md says."""

import re
from pathlib import Path

import pytest
from var_exp.support.architectures import ARCHITECTURES
from var_exp.support.cells import Cell, run_cell, subject
from var_exp.support.page import page, read

from var_exp.methods import list_methods
from var_exp.support.checks import CHECKS

DOCS = Path(__file__).parents[2] / "docs"
WRITTEN = {(cell.method, cell.architecture): cell for cell in read(DOCS / "support.csv")}


def facts(cell: Cell) -> tuple[str, ...]:
    """What does not depend on the size of a network: no numbers."""
    reason = re.sub(r"\d+", "…", cell.reason)
    return cell.status, reason, *(call.split()[0] for call in cell.guided.split(", ") if call)


def test_every_method_has_a_check():
    assert sorted(CHECKS) == list_methods()


def test_the_docs_hold_every_cell_and_the_page_is_that_of_the_cells():
    assert set(WRITTEN) == {(alias, each.name) for alias in CHECKS for each in ARCHITECTURES}
    assert page(list(WRITTEN.values())) == (DOCS / "support.md").read_text()


@pytest.mark.parametrize("architecture", ARCHITECTURES, ids=lambda each: each.name)
def test_every_method_does_as_the_docs_say(architecture):
    on = subject(architecture, small=True)
    for alias in CHECKS:
        cell = run_cell(alias, on)
        assert cell.status != "failed", f"{alias}: {cell.reason}"
        assert facts(cell) == facts(WRITTEN[alias, architecture.name]), alias
