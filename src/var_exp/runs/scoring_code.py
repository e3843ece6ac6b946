"""The code that scores depend on, hashed by what it does.

Comments, docstrings and line breaks change nothing, nor do the rooms that no score depends on.
"""

import ast
import hashlib
import inspect
import sysconfig
from collections.abc import Mapping
from functools import cache
from pathlib import Path
from typing import Any

from var_exp.registry import locate

_PACKAGE = Path(__file__).parents[1]

SCORED_BY = (
    *(
        "errors",
        "types",
        "signatures",
        "seeds",
        "registry",
        "conf_files",
        "files",
        "text",
        "variants",
        "classes",
        "models",
        "data",
        "engine",
    ),
    *("methods", "refine", "metrics", "modules"),
    *(
        "results.rows",
        "results.batch_scores",
        "results.store",
        "results.store_file",
        "results.saved_maps",
    ),
    "runs.experiment",
)
"""Rooms of this package that scores depend on: a run goes on only with the same code in them.

They never import what is left out (a contract in pyproject.toml), such as summaries and reports,
which are made anew from the scores whenever a run ends.
"""


def code_hash(options: Mapping[str, Any]) -> str:
    """Hash of the code that scores depend on: ours, and the user's that the configuration names."""
    digest = hashlib.blake2b(digest_size=8)
    for file in _scoring_files():
        digest.update(f"{file.relative_to(_PACKAGE)} {_meaning(file)}".encode())
    for file in sorted(_own_files(options), key=lambda file: (file.name, file)):
        digest.update(f"{file.name} {_meaning(file)}".encode())
    return digest.hexdigest()


def _scoring_files() -> list[Path]:
    """Python files of the rooms that scores depend on."""
    places = [_PACKAGE.joinpath(*room.split(".")) for room in SCORED_BY]
    modules = [place.with_suffix(".py") for place in places]
    within = [file for place in places for file in place.rglob("*.py")]
    return sorted(file for file in {*modules, *within} if file.is_file())


def _own_files(options: Mapping[str, Any]) -> set[Path]:
    """The user's files that the configuration names; installed packages are known by version."""
    named = {value for key, value in options.items() if key.endswith("_target_")}
    installed = [Path(sysconfig.get_path(kind)) for kind in ("purelib", "platlib", "stdlib")]
    files = set()
    for target in named:
        try:
            file = Path(inspect.getfile(locate(target)))
        except TypeError:  # built in
            continue
        if not any(file.is_relative_to(folder) for folder in [_PACKAGE, *installed]):
            files.add(file)
    return files


def _meaning(file: Path) -> str:
    """Hash of the syntax tree of a file, which comments, docstrings, line breaks do not change."""
    return _hash_of_meaning(file.read_bytes())


@cache  # a sweep asks for every run, and the trees of all files take a third of a second
def _hash_of_meaning(source: bytes) -> str:
    tree = ast.parse(source)
    for node in ast.walk(tree):
        if not isinstance(node, ast.Module | ast.ClassDef | ast.FunctionDef | ast.AsyncFunctionDef):
            continue
        if ast.get_docstring(node, clean=False) is not None:
            node.body = node.body[1:]
    return hashlib.blake2b(ast.dump(tree).encode(), digest_size=8).hexdigest()
