"""The table of what a metric may ask for, and the pages that say it."""

import inspect
import re
from fnmatch import fnmatch

import pytest
import yaml

from var_exp.conf_files import aliases, conf_dir
from var_exp.metrics.inputs import INPUTS
from var_exp.registry import locate

DOCS = conf_dir().parent / "docs"
TABLE_ROW = re.compile(r"^\| (.*?) \| (.*?) \|$", re.MULTILINE)


def asked_for():
    """What each metric of `conf` cannot do without and some data cannot give."""
    found = {}
    for alias in aliases("metric"):
        node = yaml.safe_load((conf_dir() / "metric" / f"{alias}.yaml").read_text())
        for name, parameter in inspect.signature(
            locate(node["_target_"]).update
        ).parameters.items():
            if name != "self" and INPUTS[name].need and parameter.default is parameter.empty:
                found.setdefault(name, set()).add(alias)
    return found


def test_the_how_to_lists_exactly_what_there_is():
    page = (DOCS / "own.md").read_text(encoding="utf-8").split("\n## A metric\n")[1]
    rows = [(name, meaning) for name, meaning in TABLE_ROW.findall(page) if name.startswith("`")]
    assert rows == [(f"`{name}`", one.meaning) for name, one in INPUTS.items()]


def test_the_page_of_metrics_says_which_of_them_ask_the_data_for_more():
    page = (DOCS / "metrics.md").read_text(encoding="utf-8")
    page = page.split("\n## What they ask of the data\n")[1].split("\n## ")[0]
    told = {}
    for what, names in TABLE_ROW.findall(page)[1:]:
        if what.startswith("`"):
            patterns = re.findall(r"`(\S+?)`", names)
            matched = {a for a in aliases("metric") if any(fnmatch(a, p) for p in patterns)}
            told[re.match(r"`(\w+)`", what)[1]] = matched
            for pattern in patterns:
                assert any(fnmatch(alias, pattern) for alias in matched), pattern
    assert told == asked_for()


@pytest.mark.parametrize("name", INPUTS)
def test_what_can_be_missing_says_what_to_do(name):
    one = INPUTS[name]
    can_be_missing = name in asked_for()
    assert bool(one.need) == can_be_missing
    if can_be_missing:
        assert re.search(r"; use \w+", one.need)
