"""What is read from the source is what importing it says."""

import inspect
from typing import Any, Literal

import pytest
import yaml

from var_exp.conf_files import conf_dir
from var_exp.registry import locate
from var_exp.signatures import read_signature

PLAIN = (int, float, str, bool, int | None, float | None, str | None, bool | None, None)


def _targets(node: Any) -> set[str]:
    if isinstance(node, dict):
        own = {node["_target_"]} if isinstance(node.get("_target_"), str) else set()
        return own.union(*map(_targets, node.values()))
    return set().union(*map(_targets, node)) if isinstance(node, list) else set()


TARGETS = sorted(
    target
    for file in conf_dir().rglob("*.yaml")
    for target in _targets(yaml.safe_load(file.read_text()))
    if target.startswith("var_exp.") and target != "var_exp.sweep.MergeRuns"
)


@pytest.mark.parametrize("target", dict.fromkeys(TARGETS))
def test_every_configured_target_is_read_as_it_is(target):
    read = read_signature(target).parameters
    known = inspect.signature(locate(target)).parameters
    assert list(read) == list(known)
    for name, parameter in known.items():
        empty = inspect.Parameter.empty
        assert (read[name].default is empty) == (parameter.default is empty)
        assert read[name].kind == parameter.kind
        if parameter.annotation in PLAIN or read[name].annotation not in (Any, empty):
            assert read[name].annotation == parameter.annotation


def test_literals_are_choices():
    read = read_signature("var_exp.refine.var.VAR").parameters["scale"].annotation
    assert read in (Any, Literal["none", "max", "rms", "class_rms"])


@pytest.mark.parametrize(
    "target", ["lightning.Trainer", "var_exp.nowhere.Nothing", "var_exp.methods.Nothing", "x"]
)
def test_what_the_source_does_not_say_is_left_to_the_import(target):
    assert read_signature(target) is None
