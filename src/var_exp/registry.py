"""The `conf/` folder is the registry: an alias is a YAML file that names a class and its options.

A node is a mapping with `_target_` (a dotted name), its keyword arguments, and optionally
`_partial_: true` (give back a callable that still waits for arguments). This is the part of
Hydra's instantiation that we use, without Hydra: one builder serves the Python API and the command
line, and every argument is checked against the signature before anything is built.
"""

import functools
import importlib
import inspect
import sys
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from types import NoneType, UnionType
from typing import Any, Literal, Union, get_args, get_origin

import yaml

from var_exp.conf_files import aliases, conf_dir, did_you_mean
from var_exp.errors import ConfigError
from var_exp.signatures import read_signature

_RESERVED = {"_target_", "_partial_", "defaults"}
_MISSING = "???"  # how a YAML says that the user must give a value


def from_alias(group: str, alias: str, /, **options: Any) -> Any:
    """Build what the alias of a group names; keyword options replace those of the YAML file.

    Raises:
        ConfigError: no such alias, or an option that the class does not have.
    """
    known = aliases(group)
    if alias not in known:
        raise ConfigError(
            f"there is no {group} '{alias}'{did_you_mean(alias, known)}; known: {', '.join(known)}."
        )
    node = yaml.safe_load((conf_dir() / group / f"{alias}.yaml").read_text()) or {}
    return build({**node, **options}, where=f"{group}={alias}")


def build(node: Mapping[str, Any], *, where: str = "", **extra: Any) -> Any:
    """Check a node's arguments, then build it, nested nodes first.

    Args:
        node: Mapping with `_target_` and arguments.
        where: Name of the node in the user's words, for the error message.
        extra: Objects handed to the target when its signature has an argument of that name.

    Raises:
        ConfigError: every problem of the node in one text, before anything is built.
    """
    found = list(problems(node, where=where, provided=set(extra)))
    if found:
        raise ConfigError("\n".join(found))
    return _build(node, extra, where)


def problems(
    node: Mapping[str, Any],
    *,
    where: str = "",
    provided: set[str] | None = None,
    without_import: bool = False,
) -> Iterator[str]:
    """Yield one sentence for each argument that a target does not have or lacks.

    Args:
        node: Mapping with `_target_` and arguments.
        where: Name of the node in the user's words.
        provided: Arguments that need not be given.
        without_import: Only what the source of this package says, at once; see `signatures`.
    """
    target = str(node.get("_target_", ""))
    label = where or target
    if not target:
        yield f"{label}: nothing says what it is (_target_); choose one with {label}=NAME."
        return
    try:
        signature = read_signature(target) if without_import else inspect.signature(locate(target))
    except (ImportError, AttributeError, ValueError) as error:
        yield f"{label}: cannot import '{target}' ({error}); check the spelling of _target_."
        return
    if signature is None:
        return
    given = {str(key): value for key, value in node.items() if key not in _RESERVED}
    parameters = signature.parameters
    names = [
        name for name, p in parameters.items() if p.kind not in (p.VAR_KEYWORD, p.VAR_POSITIONAL)
    ]
    takes_any = any(p.kind is p.VAR_KEYWORD for p in parameters.values())
    for key in given:
        if key not in names and not takes_any:
            yield (
                f"{label}: there is no option '{key}'{did_you_mean(key, names)}; "
                f"options: {', '.join(names) or 'none'}."
            )
    if not node.get("_partial_", False):
        for name in names:
            missing = parameters[name].default is inspect.Parameter.empty and name not in given
            if (missing and name not in (provided or set())) or given.get(name) == _MISSING:
                yield f"{label}: option '{name}' must be given; add {label.split('=')[0]}.{name}=…"
    for key, value in given.items():
        if _is_node(value):
            yield from problems(
                value,
                where=f"{label}.{key}",
                provided=provided,
                without_import=without_import,
            )
        elif (
            key in parameters and value != _MISSING and not _fits(value, parameters[key].annotation)
        ):
            wanted = " | ".join(dict.fromkeys(_choices(parameters[key].annotation)))
            yield f"{label}: option '{key}' must be {wanted}, got {value!r}."


def _build(node: Mapping[str, Any], extra: Mapping[str, Any], where: str) -> Any:
    function = locate(str(node["_target_"]))
    arguments = {
        key: _build(value, extra, f"{where}.{key}") if _is_node(value) else value
        for key, value in node.items()
        if key not in _RESERVED
    }
    if node.get("_partial_", False):
        return functools.partial(function, **arguments)
    accepted = inspect.signature(function).parameters
    arguments = {key: value for key, value in extra.items() if key in accepted} | arguments
    try:
        return function(**arguments)
    except (TypeError, ValueError) as error:
        raise ConfigError(f"{where or node['_target_']}: {error}") from error


def _fits(value: Any, annotation: Any) -> bool:
    """Whether a value can be what a plain annotation says; anything else is left to the class."""
    if get_origin(annotation) in (Union, UnionType):
        return any(_fits(value, option) for option in get_args(annotation))
    if get_origin(annotation) is Literal:
        return value in get_args(annotation)
    if annotation in (None, NoneType):
        return value is None
    if annotation in (int, float):
        number = (int, float) if annotation is float else int
        return isinstance(value, number) and not isinstance(value, bool)
    return isinstance(value, annotation) if annotation in (bool, str) else True


def _choices(annotation: Any) -> Iterator[str]:
    """What may be given: the values where an annotation lists them, else the types."""
    if get_origin(annotation) is Literal:
        yield from map(str, get_args(annotation))
    elif get_origin(annotation) in (Union, UnionType):
        for option in get_args(annotation):
            yield from _choices(option)
    else:
        yield "None" if annotation is NoneType else inspect.formatannotation(annotation)


def _is_node(value: Any) -> bool:
    return isinstance(value, Mapping) and "_target_" in value


def locate(target: str) -> Callable[..., Any]:
    """Import what a dotted name stands for, also from the folder that the command is run in.

    That folder is searched after everything else, and only once a configuration names what lies in
    it: else a file there that happens to have a package's name would run unasked.
    """
    module, _, name = target.rpartition(".")
    try:
        imported = importlib.import_module(module)
    except ModuleNotFoundError as error:
        here, first = Path.cwd(), module.partition(".")[0]
        lies_here = (here / f"{first}.py").is_file() or (here / first).is_dir()
        if error.name != first or not lies_here or str(here) in sys.path:
            raise
        sys.path.append(str(here))  # stays: what was named may import its neighbours later
        importlib.invalidate_caches()
        imported = importlib.import_module(module)
    found: Callable[..., Any] = getattr(imported, name)
    return found
