"""Let a network compute with tensors of its own, and look whether it changed them."""

import copy
from collections.abc import Callable, Iterator, MutableMapping
from contextlib import contextmanager
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn

from var_exp.text import first_line
from var_exp.types import UnsupportedModel

_TABLES = ("_parameters", "_buffers", "_modules")  # where a module keeps its tensors and parts


def copied(model: nn.Module, memo: dict[int, object] | None = None) -> nn.Module:
    """Copy a network, also one whose weights are computed anew in each forward pass.

    Args:
        model: Not altered.
        memo: What stands in the copy for some of its tensors, by their id.

    Raises:
        UnsupportedModel: a part of it cannot be copied.
    """
    memo = dict(memo or {})
    for module in model.modules():
        for value in vars(module).values():
            if isinstance(value, Tensor) and value.grad_fn is not None:  # no copy of a graph
                memo[id(value)] = value.detach().clone()
    try:
        return copy.deepcopy(model, memo)
    except Exception as error:  # what a part may raise is its own affair
        reason = first_line(error).rstrip(" .")
        raise UnsupportedModel(
            f"{type(model).__name__} cannot be copied ({reason[:200]}); remove the parametrisation "
            "or the part that refuses, or use another method or metric."
        ) from error


class Watched(NamedTuple):
    """What can be asked about forward passes inside `private_tensors`.

    Attributes:
        changed: Names the first buffer that a pass has changed; "" for none.
        keeps: Whether a pass has put something into the modules' attributes, such as its result.
    """

    changed: Callable[[], str]
    keeps: Callable[[], bool]


def _differ(named: MutableMapping[str, Any], own: dict[str, Any], held: list[list[int]]) -> bool:
    """Whether attributes, or what they hold, are others than they were."""
    same = named.keys() == own.keys() and all(named[key] is own[key] for key in own)
    return not same or _contents(named) != held


def _contents(named: MutableMapping[str, Any]) -> list[list[int]]:
    """What the dictionaries and lists among some attributes hold, by identity."""
    held = (list(value.values()) if type(value) is dict else value for value in named.values())
    return [[id(each) for each in some] for some in held if type(some) is list]


@contextmanager
def private_tensors(model: nn.Module, dtype: torch.dtype | None = None) -> Iterator[Watched]:
    """Put copies in place of a network's tensors; its own ones are back afterwards, unchanged.

    Copied are buffers and the tensors among the modules' attributes, and with a `dtype` the
    parameters, too; floating-point copies have that type. What a module computes into its
    attributes is undone as well. TorchScript modules are left alone.

    Args:
        model: Altered inside.
        dtype: Of the copies; None keeps that of each tensor.

    """
    copies: dict[int, Tensor] = {}

    def private(tensor: Tensor) -> Tensor:
        if id(tensor) not in copies:
            wanted = dtype if dtype is not None and tensor.is_floating_point() else tensor.dtype
            with torch.no_grad():
                copies[id(tensor)] = tensor.detach().to(wanted, copy=True)
        return copies[id(tensor)]

    def exchanged(value: Any) -> Any:
        """The same with copies; containers are new, so that what is added to them goes, too."""
        if isinstance(value, Tensor):
            return private(value)
        if type(value) is dict:  # such as a cache
            return {key: exchanged(each) for key, each in value.items()}
        return [exchanged(each) for each in value] if type(value) is list else value

    before: list[tuple[MutableMapping[str, Any], dict[str, Any]]] = []
    buffers: list[tuple[str, Tensor]] = []
    for name, module in model.named_modules():
        if isinstance(module, torch.jit.ScriptModule):
            continue
        for named in (vars(module), module._buffers, *([module._parameters] if dtype else [])):
            before.append((named, dict(named)))
            for key, value in dict(named).items():
                if key not in _TABLES:
                    named[key] = exchanged(value)
        buffers += [
            (f"{name}.{key}".lstrip("."), b) for key, b in module._buffers.items() if b is not None
        ]
    starts = [(name, buffer, buffer._version) for name, buffer in buffers]
    given = [(named, dict(named), _contents(named)) for named, _ in before]

    def changed() -> str:
        return next((name for name, buffer, version in starts if buffer._version != version), "")

    def keeps() -> bool:
        return any(_differ(*each) for each in given)

    try:
        yield Watched(changed, keeps)
    finally:
        for named, old in before:
            for key in named.keys() - old.keys():
                del named[key]
            named.update(old)
