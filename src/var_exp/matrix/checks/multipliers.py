"""DeepLIFT: image and baseline in one batch, and torch's functions replaced by their multipliers.

The first half of every batch belongs to the image, the second to the baseline. What stands in for a
function returns its value, and has Δ output / Δ input as its gradient.
"""

from collections.abc import Callable
from contextlib import ExitStack
from typing import Any
from unittest.mock import patch

import torch
from torch import Tensor
from torch.nn import functional as F  # noqa: N812

from var_exp.matrix.checks.case import Case, per_class, relative_error


def deeplift(case: Case) -> float:
    """Gradients through stand-ins for torch's functions, in a batch of image and baseline."""
    leaf = torch.cat([case.image, torch.zeros_like(case.image)]).requires_grad_()
    multiply = Tensor.__mul__
    stand_ins: list[tuple[Any, str, Any]] = [
        *((F, name, _elementwise(getattr(F, name))) for name in ("relu", "gelu", "silu")),
        (torch, "sigmoid", _elementwise(torch.sigmoid)),
        (Tensor, "sigmoid", _elementwise(torch.sigmoid)),
        (F, "softmax", lambda x, dim, *_, **__: _softmax(x, dim)),
        (F, "layer_norm", _layer_norm),
        (F, "max_pool2d", _max_pool),
        (F, "scaled_dot_product_attention", _attention),
        (Tensor, "matmul", lambda a, b: _product(torch.matmul, a, b)),
        (Tensor, "__matmul__", lambda a, b: _product(torch.matmul, a, b)),
        (Tensor, "__mul__", lambda a, b: _product(multiply, a, b)),
    ]
    with ExitStack() as stack:
        for owner, name, stand_in in stand_ins:
            stack.enter_context(patch.object(owner, name, stand_in))
        scores = case.scores(leaf)[0]
    multipliers = torch.stack([per_class(score[None], leaf)[0] for score in scores])
    return relative_error(case.maps, multipliers * case.image)


def _elementwise(function: Callable[..., Tensor]) -> Callable[..., Tensor]:
    """The function, with the slope between the two points as its gradient."""

    def stand_in(x: Tensor, *_: Any, **__: Any) -> Tensor:
        y = function(x.detach())
        return _valued(y, x * _slope(x, y, function))

    return stand_in


def _slope(x: Tensor, y: Tensor, function: Callable[..., Tensor]) -> Tensor:
    """Δy / Δx, for both halves; the derivative in the middle where Δx is lost to rounding."""
    (a, a0), (b, b0) = x.detach().chunk(2), y.chunk(2)
    with torch.enable_grad():
        middle = ((a + a0) / 2).requires_grad_()
        (derivative,) = torch.autograd.grad(function(middle).sum(), middle)
    slope = torch.where((a - a0).abs() < 1e-7, derivative, (b - b0) / (a - a0))
    return torch.cat([slope, slope])


def _product(multiply: Callable[..., Tensor], a: Tensor, b: Any) -> Tensor:
    """Δ(ab) from Δa times the mean of b, and Δb times the mean of a."""
    if not (isinstance(b, Tensor) and a.requires_grad and b.requires_grad):
        return multiply(a, b)
    parts = multiply(a, _mean(b)) + multiply(_mean(a), b)
    return _valued(multiply(a.detach(), b.detach()), parts)


def _quotient(a: Tensor, b: Tensor) -> Tensor:
    """Δ(a / b) = (Δa - mean(a / b) Δb) / mean(b)."""
    value = torch.div(a, b).detach()
    return _valued(value, torch.div(a - torch.mul(_mean(value), b), _mean(b)))


def _softmax(x: Tensor, dim: int) -> Tensor:
    exponential = _elementwise(torch.exp)(x)
    return _quotient(exponential, exponential.sum(dim, keepdim=True))


def _layer_norm(
    x: Tensor, shape: Any, weight: Tensor | None = None, bias: Tensor | None = None, eps: float = 0
) -> Tensor:
    axes = tuple(range(-len(shape), 0))
    centred = x - x.mean(axes, keepdim=True)
    squares = _product(torch.mul, centred, centred).mean(axes, keepdim=True) + eps
    x = _quotient(centred, _elementwise(torch.sqrt)(squares))
    x = x if weight is None else torch.mul(x, weight)
    return x if bias is None else x + bias


def _attention(
    query: Tensor,
    key: Tensor,
    value: Tensor,
    attn_mask: Tensor | None = None,
    *_: Any,
    scale: float | None = None,
    **__: Any,
) -> Tensor:
    scores = _product(torch.matmul, query * (scale or query.shape[-1] ** -0.5), key.mT)
    scores = scores if attn_mask is None else scores + attn_mask
    return _product(torch.matmul, _softmax(scores, -1), value)


def _max_pool(x: Tensor, size: int, stride: int, padding: int = 0, *_: Any, **__: Any) -> Tensor:
    """The place that has the larger of the two maxima carries the change; equals share it."""
    x = F.pad(x, [padding] * 4, value=-torch.inf)
    windows = x.unfold(2, size, stride).unfold(3, size, stride).flatten(-2)
    (a, a0), (top, top0) = windows.chunk(2), windows.amax(-1, keepdim=True).detach().chunk(2)
    largest, change = torch.maximum(top, top0), top - top0
    tolerance = torch.minimum(1e-5 * torch.maximum(top.abs(), top0.abs()), change.abs() / 2)
    wins = torch.where(change >= 0, a, a0) >= largest - tolerance
    slope = torch.where(a == a0, 1, change / (a - a0)).detach() * wins / wins.sum(-1, keepdim=True)
    carried = torch.where(wins, slope * a, 0).sum(-1)
    return _valued(torch.cat([top, top0])[..., 0], torch.cat([carried, carried.detach()]))


def _mean(x: Tensor) -> Tensor:
    """Mean of image and baseline, for both halves."""
    mean = x.detach().unflatten(0, (2, -1)).mean(0)
    return torch.cat([mean, mean])


def _valued(value: Tensor, gradient: Tensor) -> Tensor:
    """A tensor with the value of one and the gradient of another."""
    return gradient + (value - gradient).detach()
