"""Backward rules of activations: hooks on the activations' nodes in the autograd graph."""

from collections.abc import Callable, Iterator
from typing import Any

from torch import Tensor

from var_exp.support.checks.case import Case, Unchecked, per_class, relative_error

_NODES = (
    *("Relu", "Hardtanh", "LeakyRelu", "Prelu", "Rrelu", "Elu", "Celu"),
    *("Gelu", "Silu", "Mish", "Hardswish", "Softplus"),
)


def guided_backprop(case: Case) -> float:
    """Autograd with hooks that cut negative gradients behind each activation's node."""
    return relative_error(case.maps, guided(case))


def deconvnet(case: Case) -> float:
    """Autograd with hooks that make each activation's node a ReLU of the gradient."""
    return relative_error(case.maps, _with_rule(case, lambda _, arriving: arriving.relu()))


def guided(case: Case) -> Tensor:
    """Guided backpropagation [K, C, H, W]."""
    return _with_rule(case, lambda leaving, _: leaving.relu())


def _with_rule(case: Case, rule: Callable[[Tensor, Tensor], Tensor]) -> Tensor:
    """Gradients [K, C, H, W] where what leaves an activation is rule(leaving plainly, arriving)."""
    leaf = case.pair().requires_grad_()
    scores = case.scores(leaf.clone())[0]

    def hook(leaving: tuple[Tensor, ...], arriving: tuple[Tensor, ...]) -> tuple[Tensor, ...]:
        return (rule(leaving[0], arriving[0]), *leaving[1:])

    for node in _graph(scores):
        if node.name().startswith(_NODES):
            node.register_hook(hook)
        elif "CopySlices" in node.name():
            raise Unchecked("an activation may be hidden in a call in place on part of a tensor")
    return per_class(scores, leaf)[::2]


def _graph(output: Tensor) -> Iterator[Any]:
    """All nodes of the autograd graph behind a tensor."""
    waiting, seen = [output.grad_fn], set()
    while waiting:
        node = waiting.pop()
        if node is not None and node not in seen:
            seen.add(node)
            waiting += [before for before, _ in node.next_functions]
            yield node
