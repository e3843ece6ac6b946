"""The registry builds what a YAML names and refuses the rest in a sentence."""

from typing import Literal

import pytest

from var_exp.registry import aliases, build, did_you_mean, from_alias, problems
from var_exp.types import ConfigError

HERE = __name__


class Leaf:
    def __init__(
        self, size: int, share: float = 0.5, mode: Literal["a", "b"] = "a", note: str | None = None
    ) -> None:
        if size < 0:
            raise ValueError(f"size must be positive, got {size}")
        self.size, self.share, self.mode, self.note = size, share, mode, note


class Branch:
    def __init__(self, leaf: Leaf, make: object = None, spec: str = "none") -> None:
        self.leaf, self.make, self.spec = leaf, make, spec


@pytest.fixture(autouse=True)
def importable(monkeypatch):
    import sys

    monkeypatch.setitem(sys.modules, "leaves", sys.modules[HERE])


LEAF = {"_target_": "leaves.Leaf", "size": 3}


def test_builds_nested_nodes_and_partials_and_hands_extras_to_who_takes_them():
    node = {"_target_": "leaves.Branch", "leaf": LEAF, "make": {**LEAF, "_partial_": True}}
    branch = build(node, spec="given", unused="nobody takes this")
    assert branch.leaf.size == 3
    assert branch.spec == "given"
    assert branch.make(share=1).share == 1


@pytest.mark.parametrize(
    ("change", "sentence"),
    [
        ({"siez": 4}, "there is no option 'siez' (did you mean 'size'?)"),
        ({"size": "three"}, "option 'size' must be int, got 'three'"),
        ({"size": True}, "option 'size' must be int, got True"),
        ({"mode": "c"}, "option 'mode' must be"),
        ({"note": 3}, "option 'note' must be str | None, got 3"),
        ({"size": "???"}, "option 'size' must be given"),
        ({"_target_": "leaves.Lief"}, "cannot import 'leaves.Lief'"),
        ({"_target_": "Leaf"}, "cannot import 'Leaf'"),
    ],
)
def test_each_problem_is_one_sentence(change, sentence):
    (found,) = problems({**LEAF, **change}, where="method")
    assert sentence in found


def test_all_problems_are_told_at_once_also_of_nested_nodes():
    node = {"_target_": "leaves.Branch", "leaf": {**LEAF, "x": 1, "y": 2}, "z": 3}
    with pytest.raises(ConfigError) as caught:
        build(node, where="root")
    assert [line.split("'")[1] for line in str(caught.value).splitlines()] == ["z", "x", "y"]


def test_numbers_fit_where_floats_are_wanted_and_none_where_it_is_allowed():
    assert not list(problems({**LEAF, "share": 1, "note": None}))


def test_what_a_class_refuses_names_the_node():
    with pytest.raises(ConfigError, match="method: size must be positive, got -1"):
        build({**LEAF, "size": -1}, where="method")


def test_unknown_alias_lists_what_exists():
    with pytest.raises(ConfigError, match=r"no method 'gpb' \(did you mean 'gbp'\?\)"):
        from_alias("method", "gpb")
    assert "gbp" in aliases("method")


def test_hint_is_empty_when_nothing_is_near():
    assert did_you_mean("zzz", ["gbp", "ig"]) == ""
