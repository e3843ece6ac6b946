"""Given values with a backward pass of our own: what a rule of multipliers returns."""

from collections.abc import Sequence
from typing import Any, NamedTuple

import torch
from torch import Tensor


def multiplied(x: Tensor, slopes: Tensor, values: Tensor) -> Tensor:
    """The values, with the backward pass of slopes · x."""
    result: Tensor = _Multiply.apply(x, slopes, (values,))
    return result


class Route(NamedTuple):
    """Ways from places of a signal, in flat order, to values; no two lead from the same place.

    Attributes:
        source: [n] int64, places of the signal.
        target: [n] int64, likewise of the values.
        slope: [n], what a gradient is multiplied by on its way back.
    """

    source: Tensor
    target: Tensor
    slope: Tensor


def routed(x: Tensor, routes: Sequence[Route], values: Tensor) -> Tensor:
    """The values, with the backward pass of a sum over routes of slope · x[source]."""
    result: Tensor = _Routed.apply(x, routes, (values,))
    return result


def overwritten(x: Tensor, values: Tensor) -> Tensor:
    """The tensor with other values in place, and their backward pass.

    That of `copy_` would add a tensor of zeros to the gradient.
    """
    result: Tensor = _Overwrite.apply(x, values)
    return result


class _Multiply(torch.autograd.Function):
    """Given values, whose gradient is multiplied by given slopes on its way to x."""

    @staticmethod
    def forward(ctx: Any, x: Tensor, slopes: Tensor, values: tuple[Tensor]) -> Tensor:
        ctx.slopes = slopes
        return values[0]  # alone, autograd would take it for a view of an input

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor, None, None]:
        return ctx.slopes * gradients[0], None, None  # in the order of memory of the slopes


class _Overwrite(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, x: Tensor, values: Tensor) -> Tensor:
        ctx.mark_dirty(x)
        return x.copy_(values)

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> tuple[None, Tensor]:
        return None, gradients[0]


class _Routed(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, x: Tensor, routes: Sequence[Route], values: tuple[Tensor]) -> Tensor:
        ctx.shape, ctx.routes = x.shape, routes
        return values[0]

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor, None, None]:
        gradient = gradients[0].flatten()
        total = gradient.new_zeros(ctx.shape.numel())
        for source, target, slope in ctx.routes:  # one by one, so that the order of sums is fixed
            total.index_add_(0, source, gradient.index_select(0, target) * slope)
        return total.view(ctx.shape), None, None


def with_values(surrogate: Tensor, values: Tensor) -> Tensor:
    """A tensor's backward pass with other values; what made it must not have kept its result."""
    with torch.no_grad():
        return surrogate.copy_(values)
