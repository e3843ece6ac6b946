"""The registry builds what a YAML names and refuses the rest in a sentence."""

import subprocess
import sys
from typing import Literal

import pytest

from var_exp.conf_files import aliases, conf_dir, did_you_mean
from var_exp.registry import build, from_alias, locate, problems
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
        ({"mode": "c"}, "option 'mode' must be a | b, got 'c'"),
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


def test_the_working_folder_is_searched_only_when_a_configuration_names_what_lies_there(
    tmp_path, monkeypatch
):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "path", [*sys.path])
    (tmp_path / "named_here.py").write_text("import neighbour_here\nmake = neighbour_here.make\n")
    (tmp_path / "neighbour_here.py").write_text("def make(): return 5\n")
    (tmp_path / "json.py").write_text("raise SystemExit('a file hid a package')\n")
    assert locate("json.dumps")(1) == "1"
    with pytest.raises(ModuleNotFoundError):
        locate("not_here.make")
    assert str(tmp_path) not in sys.path
    assert locate("named_here.make")() == 5
    assert sys.path[-1] == str(tmp_path)


def test_a_command_imports_nothing_of_the_folder_that_it_runs_in(tmp_path):
    for name in ("tabulate", "hydra", "yaml", "timm", "wandb", "var_exp_extra"):
        (tmp_path / f"{name}.py").write_text(f"open({str(tmp_path / 'ran')!r}, 'a')")
    (tmp_path / "hydra_plugins").mkdir()
    (tmp_path / "hydra_plugins" / "mine.py").write_text(f"open({str(tmp_path / 'ran')!r}, 'a')")
    evaluate = [str(conf_dir().parent / "evaluate.py"), "--cfg", "job"]
    for words in (["-m", "var_exp.sweep", "--help"], evaluate):
        done = subprocess.run(
            [sys.executable, *words], cwd=tmp_path, capture_output=True, text=True
        )
        assert done.returncode == 0, done.stderr
    assert not (tmp_path / "ran").exists()
