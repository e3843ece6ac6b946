"""DeepLIFT: image and baseline in one batch, and torch's functions replaced by their multipliers.

The first half of every batch belongs to the image, the second to the baseline. What stands in for a
function returns its value, and has Δ output / Δ input as its gradient.
"""

from collections.abc import Callable
from functools import partial
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional as F  # noqa: N812

from var_exp.engine.calls import ELEMENTWISE_CALLS, WEIGHTED_CALLS
from var_exp.support.checks.case import Case, per_class, relative_error
from var_exp.support.checks.stand_ins import StandIns, logits_through, valued


def deeplift(case: Case) -> float:
    """Gradients through stand-ins for torch's functions, in a batch of image and baseline."""
    leaf = torch.cat([case.image, torch.zeros_like(case.image)]).requires_grad_()
    stand_ins = StandIns(
        {
            "softmax": lambda x, dim, *_, **__: _softmax(x, dim),
            "layer_norm": _layer_norm,
            "max_pool2d": _max_pool,
            "scaled_dot_product_attention": _attention,
            "matmul": lambda a, b: _product(torch.matmul, a, b),
            "mul": lambda a, b: _product(torch.mul, a, b),
            "einsum": lambda terms, *pair: _product(partial(torch.einsum, terms), *pair),
            "amax": _amax,
            "div": _quotient,
        },
        plain=WEIGHTED_CALLS,
        elementwise=_elementwise,
        functions=ELEMENTWISE_CALLS,
    )
    scores = case.explained(logits_through(stand_ins, case, leaf))[0]
    multipliers = torch.stack([per_class(score[None], leaf)[0] for score in scores])
    return relative_error(case.maps, multipliers * case.image)


def _elementwise(function: Callable[[Tensor], Tensor], x: Tensor) -> Tensor:
    """A function of x, with the slope between the two points as its gradient."""
    y = function(x.detach())
    return valued(y, x * _slope(x, y, function)) if x.requires_grad else y


def _slope(x: Tensor, y: Tensor, function: Callable[[Tensor], Tensor]) -> Tensor:
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
    return valued(multiply(a.detach(), b.detach()), parts)


def _quotient(a: Tensor, b: Any) -> Tensor:
    """Δ(a / b) = (Δa - mean(a / b) Δb) / mean(b)."""
    if not (isinstance(b, Tensor) and b.requires_grad):
        return torch.div(a, b)
    value = torch.div(a, b).detach()
    return valued(value, torch.div(a - torch.mul(_mean(value), b), _mean(b)))


def _softmax(x: Tensor, dim: int) -> Tensor:
    largest = x.detach().unflatten(0, (2, -1)).amax(0).amax(dim, keepdim=True)  # of both halves
    exponential = _elementwise(torch.exp, x - torch.cat([largest, largest]))
    return _quotient(exponential, exponential.sum(dim, keepdim=True))


def _layer_norm(
    x: Tensor, shape: Any, weight: Tensor | None = None, bias: Tensor | None = None, eps: float = 0
) -> Tensor:
    axes = tuple(range(-len(shape), 0))
    centred = x - x.mean(axes, keepdim=True)
    squares = _product(torch.mul, centred, centred).mean(axes, keepdim=True) + eps
    x = _quotient(centred, _elementwise(torch.sqrt, squares))
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


def _max_pool(x: Tensor, size: Any, stride: Any, padding: Any = 0, *_: Any, **__: Any) -> Tensor:
    (h, w), (down, across), (top, left) = (
        (each, each) if isinstance(each, int) else each for each in (size, stride, padding)
    )
    x = F.pad(x, [left, left, top, top], value=-torch.inf)
    return _largest(x.unfold(2, h, down).unfold(3, w, across).flatten(-2))


def _amax(x: Tensor, dim: int) -> Tensor:
    return _largest(x.movedim(dim, -1))


def _largest(windows: Tensor) -> Tensor:
    """Maxima over the last axis.

    The place that has the larger of the two maxima carries the change; equals share it.
    """
    (a, a0), (top, top0) = windows.chunk(2), windows.amax(-1, keepdim=True).detach().chunk(2)
    largest, change = torch.maximum(top, top0), top - top0
    tolerance = torch.minimum(1e-5 * torch.maximum(top.abs(), top0.abs()), change.abs() / 2)
    wins = torch.where(change >= 0, a, a0) >= largest - tolerance
    slope = torch.where(a == a0, 1, change / (a - a0)).detach() * wins / wins.sum(-1, keepdim=True)
    carried = torch.where(wins, slope * a, 0).sum(-1)
    return valued(torch.cat([top, top0])[..., 0], torch.cat([carried, carried.detach()]))


def _mean(x: Tensor) -> Tensor:
    """Mean of image and baseline, for both halves."""
    mean = x.detach().unflatten(0, (2, -1)).mean(0)
    return torch.cat([mean, mean])
