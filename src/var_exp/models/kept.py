"""What was found in a network, kept until its weights, parts or options are others."""

from collections.abc import Callable
from typing import Any, TypeVar
from weakref import WeakKeyDictionary

import torch
from torch import nn

from var_exp.models.frozen import frozen

_T = TypeVar("_T")
_OPTIONS = (bool, int, float, str, type(None))
_FOUND: WeakKeyDictionary[nn.Module, dict[object, tuple[int, Any]]] = WeakKeyDictionary()
"""By network and question: the state that it was found in, and what was found."""


def kept(model: nn.Module, question: object, find: Callable[[], _T]) -> _T:
    """What was found before in the same state of the network, or is found now.

    Args:
        model: What it is found in.
        question: Hashable; what is asked, and of which pictures.
        find: Finds it, or raises, which is not kept; must not hold on to a graph.
    """
    with frozen(model):
        if not is_kept(model, question):
            keep(model, question, find())
        found: _T = _FOUND[model][question][1]
        return found


def is_kept(model: nn.Module, question: object) -> bool:
    """Whether something was found in the present state of a network; call it inside `frozen`."""
    known = _FOUND.get(model, {})
    return question in known and known[question][0] == _state(model)


def keep(model: nn.Module, question: object, found: object = None) -> None:
    """Keep what was found in the present state of a network; call it inside `frozen`."""
    _FOUND.setdefault(model, {})[question] = (_state(model), found)


def _state(model: nn.Module) -> int:
    """A number that changes with the weights, the parts and the options of a network."""
    told: list[object] = [torch.is_autocast_enabled()]
    for module in model.modules():  # once, and without calls: a method asks several times
        told.append(id(module))
        told += [item for item in vars(module).items() if isinstance(item[1], _OPTIONS)]
        told += [
            (id(t), 0 if t.is_inference() else t._version, t.data_ptr(), t.dtype, t.shape)
            for t in (*module._parameters.values(), *module._buffers.values())
            if t is not None
        ]
    return hash(tuple(told))
