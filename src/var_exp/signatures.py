"""What a class or a function of this package can be given, read from its source.

Importing it would import torch and whatever it is built on, which takes seconds; a misspelt option
is known before. What cannot be read this way is None, and left to the import.
"""

import ast
import functools
import inspect
from collections.abc import Iterator
from inspect import Parameter, Signature
from pathlib import Path
from typing import Any, Literal

_PACKAGE = Path(__file__).parent
_PLAIN = {"int": int, "float": float, "str": str, "bool": bool}
_HAS_DEFAULT = object()


def read_signature(target: str) -> Signature | None:
    """Signature of what a dotted name in this package stands for.

    Names, which of them must be given, and annotations of plain types are those of
    `inspect.signature`; other annotations are `Any`, and values of defaults are not told.

    Args:
        target: Such as "var_exp.methods.rise.RISE".

    Returns:
        The signature; None for names of other packages, and where the source does not say.
    """
    module, _, name = target.rpartition(".")
    parameters = _of_name(module, name)
    return None if parameters is None else Signature(list(parameters.values()))


def _of_name(module: str, name: str) -> dict[str, Parameter] | None:
    for node in _definitions(module):
        if isinstance(node, ast.ImportFrom) and node.module:
            for alias in node.names:
                if (alias.asname or alias.name) == name:
                    return _of_name(node.module, alias.name)
        elif isinstance(node, ast.FunctionDef) and node.name == name:
            return _of_function(node)
        elif isinstance(node, ast.ClassDef) and node.name == name:
            return _of_class(module, node)
    return None


@functools.cache
def _definitions(module: str) -> list[ast.stmt]:
    """Statements of a module of this package; none of others."""
    package, *rest = module.split(".")
    place = _PACKAGE.joinpath(*rest)
    for file in (place.with_suffix(".py"), place / "__init__.py") if package == "var_exp" else ():
        if file.is_file():
            return ast.parse(file.read_bytes()).body
    return []


def _of_function(node: ast.FunctionDef, skipped: int = 0) -> dict[str, Parameter]:
    given = node.args
    positional = [*given.posonlyargs, *given.args]
    first_default = len(positional) - len(given.defaults)
    found: dict[str, Parameter] = {}
    for place, argument in enumerate(positional[skipped:], skipped):
        found[argument.arg] = _parameter(argument, place >= first_default)
    for argument, default in zip(given.kwonlyargs, given.kw_defaults, strict=True):
        found[argument.arg] = _parameter(argument, default is not None, Parameter.KEYWORD_ONLY)
    if given.kwarg is not None:
        found[given.kwarg.arg] = Parameter(given.kwarg.arg, Parameter.VAR_KEYWORD)
    return found


def _parameter(
    argument: ast.arg,
    has_default: bool,
    kind: Any = Parameter.POSITIONAL_OR_KEYWORD,
) -> Parameter:
    default = _HAS_DEFAULT if has_default else Parameter.empty
    return Parameter(argument.arg, kind, default=default, annotation=_type(argument.annotation))


def _of_class(module: str, node: ast.ClassDef) -> dict[str, Parameter] | None:
    """What its constructor takes: written out, made of fields, or inherited."""
    for each in node.body:
        if isinstance(each, ast.FunctionDef) and each.name == "__init__":
            return _of_function(each, skipped=1)
    of_bases = [
        found
        for base in node.bases
        if isinstance(base, ast.Name) and (found := _of_name(module, base.id)) is not None
    ]
    if not any("dataclass" in ast.unparse(decorator) for decorator in node.decorator_list):
        return of_bases[0] if of_bases else None
    fields: dict[str, Parameter] = {}
    for found in reversed(of_bases):
        fields |= found
    for each in node.body:
        if isinstance(each, ast.AnnAssign) and isinstance(each.target, ast.Name):
            own = {one.name: one for one in _field(each.target.id, each)}
            fields |= own  # one that is there already keeps its place
            if not own:
                fields.pop(each.target.id, None)
    order = (Parameter.POSITIONAL_OR_KEYWORD, Parameter.KEYWORD_ONLY)
    return {one.name: one for kind in order for one in fields.values() if one.kind is kind}


def _field(name: str, node: ast.AnnAssign) -> Iterator[Parameter]:
    """The parameter of a dataclass field that has one."""
    if "ClassVar" in ast.unparse(node.annotation):
        return
    has_default = node.value is not None
    kind: Any = Parameter.POSITIONAL_OR_KEYWORD
    if isinstance(node.value, ast.Call) and ast.unparse(node.value.func) == "field":
        said = {word.arg: word.value for word in node.value.keywords}
        if "init" in said:  # False, or nobody would say it
            return
        has_default = bool({"default", "default_factory"} & said.keys())
        kind = Parameter.KEYWORD_ONLY if "kw_only" in said else kind
    yield Parameter(
        name,
        kind,
        default=_HAS_DEFAULT if has_default else Parameter.empty,
        annotation=_type(node.annotation),
    )


def _type(node: ast.expr | None) -> Any:
    """A plain type, a union or a choice of literals; Any for all else."""
    if isinstance(node, ast.Name) and node.id in _PLAIN:
        return _PLAIN[node.id]
    if isinstance(node, ast.Constant) and node.value is None:
        return None
    if isinstance(node, ast.BinOp):
        left, right = _type(node.left), _type(node.right)
        return Any if left is Any or right is Any else left | right
    if isinstance(node, ast.Subscript) and ast.unparse(node.value) == "Literal":
        return Literal[ast.literal_eval(node.slice)]
    return inspect.Parameter.empty if node is None else Any
