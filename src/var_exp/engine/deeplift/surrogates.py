"""Given values with a backward pass of our own: what a rule of multipliers returns."""

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor


def multiplied(x: Tensor, slopes: Tensor, values: Tensor) -> Tensor:
    """The values, with the backward pass of slopes · x."""
    result: Tensor = _Multiply.apply(x, slopes, (values,))
    return result


def weighted_sum(
    x: Tensor, places: Sequence[Any], slopes: Sequence[Tensor], values: Tensor
) -> Tensor:
    """The values, with the backward pass of Σ slopes[i] · x[places[i]].

    Autograd would make a tensor of the size of x for every place.
    """
    result: Tensor = _WeightedSum.apply(x, places, slopes, (values,))
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
        ctx: Any, x: Tensor, places: Sequence[Any], slopes: Sequence[Tensor], values: tuple[Tensor]
    ) -> Tensor:
        ctx.shape, ctx.places, ctx.slopes = x.shape, places, slopes
        return values[0]

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor, None, None, None]:
        total = gradients[0].new_zeros(ctx.shape)
        for place, slope in zip(ctx.places, ctx.slopes, strict=True):
            total[place].addcmul_(slope, gradients[0].reshape(slope.shape))
        return total, None, None, None


def with_values(surrogate: Tensor, values: Tensor) -> Tensor:
    """A tensor's backward pass with other values; what made it must not have kept its result."""
    with torch.no_grad():
        return surrogate.copy_(values)
