"""The small relatives of all networks: every method does on them what docs/support.md says."""

import re
from pathlib import Path

import pytest
from architectures import ARCHITECTURES, subject
from support_page import page, read

from var_exp.methods import list_methods
from var_exp.support.checks import CHECKS
from var_exp.support.findings import Finding, examine

DOCS = Path(__file__).parents[2] / "docs"
WRITTEN = {(row.method, row.network): row for row in read(DOCS / "support.csv")}


def facts(found: Finding) -> tuple[str, ...]:
    """What does not depend on the size of a network: no numbers."""
    reason = re.sub(r"\d+", "…", found.reason)
    return found.status, reason, *(call.split()[0] for call in found.guided.split(", ") if call)


def test_every_method_has_a_check():
    assert sorted(CHECKS) == list_methods()


def test_the_docs_hold_every_row_and_the_page_is_that_of_the_rows():
    assert set(WRITTEN) == {(alias, each.name) for alias in CHECKS for each in ARCHITECTURES}
    assert page(list(WRITTEN.values())) == (DOCS / "support.md").read_text()


@pytest.mark.parametrize("architecture", ARCHITECTURES, ids=lambda each: each.name)
def test_every_method_does_as_the_docs_say(architecture):
    on = subject(architecture, small=True)
    for alias in CHECKS:
        found = examine(alias, on)
        assert found.status in ("acts", "refused"), f"{alias}: {found.reason}"
        assert facts(found) == facts(WRITTEN[alias, architecture.name]), alias
