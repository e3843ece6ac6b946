"""Backward rules of activations, put in place of the activation calls during a forward pass.

Functional, in-place and reused activations are met alike (`engine.calls`). With f the activation, x
its input and g the gradient that arrives at its output, the gradient that leaves it is

    plain       f'(x) · g
    guided      relu(f'(x) · g)     Springenberg et al. 2015, arXiv 1412.6806
    deconvnet   relu(g)             Zeiler & Fergus 2014, arXiv 1311.2901

which for f = ReLU are the papers' rules. An activation written out by hand, such as
x * sigmoid(1.702 x) in CLIP's QuickGELU, is no activation call and keeps its plain gradient.
"""

from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager, nullcontext
from contextvars import ContextVar
from typing import Any, Literal, TypeAlias, get_args

import torch
from torch import Tensor, nn
from torch.utils.hooks import RemovableHandle

from var_exp.engine.calls import Call, Calls
from var_exp.types import UnsupportedModel

Backward: TypeAlias = Literal["guided", "deconvnet"]
Activations: TypeAlias = Literal["all", "relu", "relu_modules"]

_RELU = frozenset({"relu"})
# Rectifiers only: sigmoid, tanh and softmax act as gates in today's networks
# (squeeze-and-excitation, attention), where dropping the negative gradients has no meaning.
_RECTIFIERS = _RELU | {
    *("relu6", "hardtanh", "leaky_relu", "prelu", "rrelu", "elu", "selu", "celu"),
    *("gelu", "silu", "mish", "hardswish", "softplus"),
}

_guided: ContextVar[Counter[str] | None] = ContextVar("guided", default=None)


@contextmanager
def guided_calls() -> Iterator[Counter[str]]:
    """Count, by name, the activation calls that the rules of methods run inside alter."""
    counts: Counter[str] = Counter()
    token = _guided.set(counts)
    try:
        yield counts
    finally:
        _guided.reset(token)


def check_activations(activations: str) -> None:
    """Refuse an unknown choice of activations.

    Raises:
        ValueError: the choice is none of `Activations`.
    """
    if activations not in get_args(Activations):
        raise ValueError(
            f"activations must be one of {', '.join(get_args(Activations))}, got '{activations}'; "
            "choose one of these."
        )


@contextmanager
def activation_rule(
    model: nn.Module, backward: Backward, activations: Activations
) -> Iterator[Counter[str]]:
    """Give the activations of the forward passes inside this context another backward rule.

    Yields the number of altered calls by the activation's name, which grows as the model runs.

    Args:
        model: The network about to run.
        backward: "guided" or "deconvnet".
        activations: Which activations are altered: "all" rectifiers (ReLU and its relatives, GELU,
            SiLU, …), "relu" for every ReLU call, or "relu_modules" for only those ReLU calls that
            come from `nn.ReLU` modules, as in Captum and in the papers' code.

    Raises:
        UnsupportedModel: at the end, when no activation was met: the result would silently be the
            plain gradient.
    """
    swap = _SwapActivations(backward, _RECTIFIERS if activations == "all" else _RELU)
    only_modules = _within_relu_modules(model, swap) if activations == "relu_modules" else None
    with only_modules or nullcontext(), swap:
        yield swap.applied
    if (counts := _guided.get()) is not None:
        counts.update(swap.applied)
    if not swap.applied:
        fix = "use method=gradient" if activations == "all" else "use activations=all"
        raise UnsupportedModel(
            f"{type(model).__name__} has no activation that activations={activations} acts on, "
            f"so the result would be the plain gradient; {fix}."
        )


class _SwapActivations(Calls):
    """Alters the calls of the named activations, and counts them by name."""

    def __init__(self, backward: Backward, names: frozenset[str]) -> None:
        super().__init__()
        self.active = True
        self.applied: Counter[str] = Counter()
        self._backward = backward
        self._names = names

    def answer(self, call: Call) -> Any:
        if not self.active or call.name not in self._names:
            return call.run()
        self.applied[call.name] += 1
        if self._backward == "guided":
            return call.on(_PassPositive.apply(call.input, call.in_place))
        return _ReplaceByPositive.apply(call.input, call.in_place, call.on)


@contextmanager
def _within_relu_modules(model: nn.Module, swap: _SwapActivations) -> Iterator[None]:
    """Let the swap act only while an `nn.ReLU` module of the model runs."""

    def start(*_: object) -> None:
        swap.active = True

    def stop(*_: object) -> None:
        swap.active = False

    stop()
    handles: list[RemovableHandle] = []
    for module in model.modules():
        if isinstance(module, nn.ReLU):
            handles.append(module.register_forward_pre_hook(start))
            handles.append(module.register_forward_hook(stop))
    try:
        yield
    finally:
        for handle in handles:
            handle.remove()


class _PassPositive(torch.autograd.Function):
    """Identity whose backward keeps the positive part; in front of f it makes f's rule guided."""

    @staticmethod
    def forward(ctx: Any, x: Tensor, in_place: bool) -> Tensor:
        if in_place:
            ctx.mark_dirty(x)  # f may then overwrite x, which a view would not allow
            return x
        return x.view_as(x)

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor, None]:
        # In place: the tensor is fresh from f's backward, and f is the only user of our output.
        return gradients[0].clamp_(min=0), None


class _ReplaceByPositive(torch.autograd.Function):
    """Activation whose backward is the positive part of what arrives; saves nothing."""

    @staticmethod
    def forward(
        ctx: Any, x: Tensor, in_place: bool, activation: Callable[[Tensor], Tensor]
    ) -> Tensor:
        if in_place:
            ctx.mark_dirty(x)
        return activation(x)

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor, None, None]:
        return gradients[0].clamp(min=0), None, None
