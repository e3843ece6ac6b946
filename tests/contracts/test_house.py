"""The house is measured: short files, short functions, names of its own, imports that go down.

What is longer is named here, and nothing that has become short again stays named.
"""

import ast
import sys
import tomllib
from pathlib import Path

import pytest
import yaml

SOURCE = Path(__file__).parents[2] / "src" / "var_exp"
FILES = sorted(SOURCE.rglob("*.py"))

MOST_LINES = 300  # of a file
LONG_FILES: set[str] = set()
MOST_LINES_OF_A_FUNCTION = 50  # without its docstring
LONG_FUNCTIONS = {
    "models/torchvision_models.py torchvision_model",  # one sentence for each thing that goes wrong
    "report/page.py write_report",  # what a page shows, one line each
    "runs/evaluation.py _conclude",  # what a run writes, one after another
    "runs/experiment.py prepare",  # the parts of a run, one after another
}
SHADOWS = {
    "types.py",  # the shape letters and errors, known by this name to all who build on us
    "refine/cgi.py",  # the name of a paper's method; the module it shadows left Python in 3.13
}


def name(file):
    return file.relative_to(SOURCE).as_posix()


def functions(tree):
    """Each function and how many lines it has without its docstring."""
    for node in ast.walk(tree):
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
            documented = ast.get_docstring(node) is not None
            docstring = node.body[0].end_lineno - node.body[0].lineno + 1 if documented else 0
            yield node.name, node.end_lineno - node.lineno + 1 - docstring


def test_no_file_is_long():
    long = {name(file) for file in FILES if len(file.read_text().splitlines()) > MOST_LINES}
    assert long == LONG_FILES


def test_no_function_is_long():
    long = {
        f"{name(file)} {function}"
        for file in FILES
        for function, lines in functions(ast.parse(file.read_text()))
        if lines > MOST_LINES_OF_A_FUNCTION
    }
    assert long == LONG_FUNCTIONS


def test_no_module_has_the_name_of_one_of_the_standard_library():
    own = {name(file) for file in FILES if file.stem in sys.stdlib_module_names}
    folders = {each.parent.name for each in FILES if each.name == "__init__.py"}
    assert own == SHADOWS
    assert not folders & sys.stdlib_module_names


def test_no_drawer_for_what_has_no_place():
    words = {word for file in FILES for word in file.relative_to(SOURCE).with_suffix("").parts}
    assert not words & {"utils", "util", "helpers", "misc", "common", "extras", "tools"}


@pytest.mark.parametrize("file", FILES, ids=name)
def test_nothing_is_left_to_do_and_nothing_is_mocked(file):
    text = file.read_text()
    assert not [word for word in ("TODO", "FIXME", "XXX", "unittest.mock") if word in text]


def test_lines_are_counted_without_the_docstring():
    text = 'def f():\n    """One.\n\n    Two.\n    """\n    x = 1\n    return x\n'
    assert list(functions(ast.parse(text))) == [("f", 3)]


def test_what_is_said_of_the_package_elsewhere_agrees_with_it():
    root = SOURCE.parents[1]
    project = tomllib.loads((root / "pyproject.toml").read_text())["project"]
    cited = yaml.safe_load((root / "CITATION.cff").read_text())
    assert (cited["title"], cited["version"]) == (project["name"], project["version"])
    workflow = yaml.safe_load((root / ".github/workflows/ci.yml").read_text())
    job = workflow["jobs"]["test"]
    assert {"run": ".ci/run"}.items() <= job["steps"][-1].items()
    oldest, *_, newest = job["strategy"]["matrix"]["python"]
    assert project["requires-python"] == f">={oldest}"
    assert oldest.split(".") < newest.split(".")
