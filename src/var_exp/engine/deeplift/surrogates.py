"""Given values with a backward pass of our own: what a rule of multipliers returns."""

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor


def multiplied(x: Tensor, slopes: Tensor, values: Tensor) -> Tensor:
    """The values, with the backward pass of slopes · x."""
    result: Tensor = _Multiply.apply(x, slopes, (values,))
    return result


def columns_apart(x: Tensor, stride: int) -> Tensor:
    """View of x [..., stride * n] as [stride, ..., n], every stride-th column together."""
    apart: Tensor = x.unflatten(-1, (-1, stride))
    return apart.movedim(-1, 0)


def weighted_sum(
    x: Tensor, stride: int, places: Sequence[Any], slopes: Sequence[Tensor], values: Tensor
) -> Tensor:
    """The values, with the backward pass of Σ slopes[i] · columns_apart(x, stride)[places[i]].

    Autograd would make a tensor of the size of x for every place. Windows that are `stride` apart
    meet neighbours in memory where the columns are apart, which takes a third of the time.
    """
    result: Tensor = _WeightedSum.apply(x, stride, places, slopes, (values,))
    return result


class _Multiply(torch.autograd.Function):
    """Given values, whose gradient is multiplied by given slopes on its way to x."""

    @staticmethod
    def forward(ctx: Any, x: Tensor, slopes: Tensor, values: tuple[Tensor]) -> Tensor:
        ctx.slopes = slopes
        return values[0]  # alone, autograd would take it for a view of an input

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor, None, None]:
        return gradients[0] * ctx.slopes, None, None


class _WeightedSum(torch.autograd.Function):
    @staticmethod
    def forward(
        ctx: Any,
        x: Tensor,
        stride: int,
        places: Sequence[Any],
        slopes: Sequence[Tensor],
        values: tuple[Tensor],
    ) -> Tensor:
        ctx.shape, ctx.stride, ctx.places, ctx.slopes = x.shape, stride, places, slopes
        return values[0]

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor, None, None, None, None]:
        *others, columns = ctx.shape
        total = gradients[0].new_zeros(ctx.stride, *others, columns // ctx.stride)
        for place, slope in zip(ctx.places, ctx.slopes, strict=True):
            total[place].addcmul_(slope, gradients[0].reshape(slope.shape))
        return total.movedim(0, -1).flatten(-2), None, None, None, None


def with_values(surrogate: Tensor, values: Tensor) -> Tensor:
    """A tensor's backward pass with other values; what made it must not have kept its result."""
    with torch.no_grad():
        return surrogate.copy_(values)
