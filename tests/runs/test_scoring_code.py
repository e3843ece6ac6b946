"""A comment forbids nobody to go on with a run; a formula does."""

import shutil
import tomllib
from pathlib import Path

import pytest

import var_exp
from var_exp.runs import scoring_code
from var_exp.runs.scoring_code import SCORED_BY


@pytest.fixture
def package(tmp_path, monkeypatch):
    """A copy of the package's code that a test may alter, and its hash."""
    source, copy = Path(var_exp.__file__).parent, tmp_path / "var_exp"
    shutil.copytree(source, copy, ignore=lambda _, names: {n for n in names if n == "weights"})
    monkeypatch.setattr(scoring_code, "_PACKAGE", copy)
    return copy, lambda: scoring_code.code_hash({"method._target_": "torch.nn.ReLU"})


def altered(file, old, new):
    text = file.read_text()
    assert old in text
    file.write_text(text.replace(old, new, 1))


def test_a_comment_a_docstring_or_a_line_break_is_the_same_code(package):
    folder, code_hash = package
    known = code_hash()
    file = folder / "metrics" / "energy_share.py"
    file.write_text("# a comment\n" + file.read_text() + "\n\n# and another\n")
    altered(file, '"""', '"""Another word. ')
    for each in ("methods/gradient.py", "refine/var.py", "seeds.py"):
        altered(folder / each, '\n    """', '\n\n    """Another word. ')
    assert code_hash() == known


@pytest.mark.parametrize(
    "file",
    [
        *("report/page.py", "support/findings.py", "runs/gallery.py", "results/summary.py"),
        *("sweep.py", "figures.py", "training/from_scratch.py"),
    ],
)
def test_a_run_goes_on_whatever_became_of_code_that_no_score_depends_on(package, file):
    folder, code_hash = package
    known = code_hash()
    assert (folder / file).is_file()
    with (folder / file).open("a") as stream:
        stream.write("\nanother = 3\n")
    assert code_hash() == known


@pytest.mark.parametrize(
    ("file", "old", "new"),
    [
        ("refine/var.py", "temperature: float = 10.0", "temperature: float = 11.0"),
        ("engine/deeplift/multipliers.py", "x0.expand_as(x)[at]) / 2", "x0.expand_as(x)[at]) / 3"),
        ("seeds.py", '"little"', '"big"'),
        ("classes/rules.py", "descending=True", "descending=False"),
    ],
)
def test_a_formula_is_other_code(package, file, old, new):
    folder, code_hash = package
    known = code_hash()
    altered(folder / file, old, new)
    assert code_hash() != known


def test_a_new_file_among_the_metrics_or_a_gone_one_is_other_code(package):
    folder, code_hash = package
    hashes = [code_hash()]
    (folder / "metrics" / "mine.py").write_text("MINE = 1\n")
    hashes.append(code_hash())
    (folder / "metrics" / "mine.py").rename(folder / "metrics" / "yours.py")
    hashes.append(code_hash())
    (folder / "metrics" / "yours.py").rename(folder / "report" / "yours.py")
    hashes.append(code_hash())
    assert hashes[-1] == hashes[0]
    assert len(set(hashes)) == 3


def test_every_module_is_hashed_or_forbidden_to_what_is_hashed():
    """The contract on imports names the same rooms, and no module is in neither list."""
    root = Path(__file__).parents[2]
    contracts = tomllib.loads((root / "pyproject.toml").read_text())["tool"]["importlinter"]
    (contract,) = (each for each in contracts["contracts"] if each["type"] == "forbidden")
    hashed = {name.removeprefix("var_exp.") for name in contract["source_modules"]}
    left_out = {name.removeprefix("var_exp.") for name in contract["forbidden_modules"]}
    assert hashed == set(SCORED_BY)
    assert not hashed & left_out
    for file in (root / "src" / "var_exp").rglob("*.py"):
        name = ".".join(file.relative_to(root / "src" / "var_exp").with_suffix("").parts)
        name = name.removesuffix("__init__").removesuffix(".")
        if name in ("", "results", "runs"):  # holds other modules, and nothing itself
            continue
        rooms = {room for room in hashed | left_out if f"{name}.".startswith(f"{room}.")}
        assert len(rooms) == 1, name
