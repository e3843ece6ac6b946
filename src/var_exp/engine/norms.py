"""Normalising calls written out in sums, products, roots and quotients, which have rules.

As `engine.calls` writes out attention. How the division by the root mean square is made is said by
who asks: it is what the rules differ in.
"""

from collections.abc import Callable, Sequence
from functools import partial
from typing import Any, TypeAlias

import torch
from torch import Tensor

from var_exp.types import UnsupportedModel

Normalise: TypeAlias = Callable[[Tensor, tuple[int, ...], float, bool], Tensor]
"""A tensor over its root mean square along axes, with an epsilon, its mean taken out or not."""


def written_out(normalise: Normalise) -> dict[str, Callable[..., Any]]:
    """Calls by name, as functions of the same arguments."""
    return {
        "batch_norm": _batch_norm,
        "layer_norm": partial(_layer_norm, normalise),
        "group_norm": partial(_group_norm, normalise),
        "rms_norm": partial(_rms_norm, normalise),
        "normalize": _normalize,
        "norm": _norm,
        "linalg_vector_norm": _norm,
        "addcmul": _addcmul,
    }


def scale_and_shift(
    mean: Tensor, variance: Tensor, weight: Tensor | None, bias: Tensor | None, eps: float
) -> tuple[Tensor, Tensor]:
    """The two numbers of each channel that batch normalisation multiplies with and adds."""
    scale = (variance + eps).rsqrt()
    scale = scale if weight is None else scale * weight
    shift = -mean * scale
    return scale, shift if bias is None else shift + bias


def _batch_norm(
    input: Tensor,
    running_mean: Tensor | None,
    running_var: Tensor | None,
    weight: Tensor | None = None,
    bias: Tensor | None = None,
    training: bool = False,
    momentum: float = 0.1,
    eps: float = 1e-5,
) -> Tensor:
    if training or running_mean is None or running_var is None:
        raise UnsupportedModel(
            "batch normalisation by the statistics of the batch has no rule, since its images see "
            "each other; use a model with running statistics."
        )
    # as one product, of which autograd need not keep the input
    scale, shift = scale_and_shift(running_mean, running_var, weight, bias, eps)
    return _scaled(input, _per_channel(scale, input), _per_channel(shift, input))


def _layer_norm(
    normalise: Normalise,
    input: Tensor,
    normalized_shape: Sequence[int],
    weight: Tensor | None = None,
    bias: Tensor | None = None,
    eps: float = 1e-5,
    *_: object,
) -> Tensor:
    dims = tuple(range(-len(normalized_shape), 0))
    return _scaled(normalise(input, dims, eps, True), weight, bias)


def _group_norm(
    normalise: Normalise,
    input: Tensor,
    num_groups: int,
    weight: Tensor | None = None,
    bias: Tensor | None = None,
    eps: float = 1e-5,
    *_: object,
) -> Tensor:
    groups = input.reshape(len(input), num_groups, -1)
    normalised = normalise(groups, (-1,), eps, True).view(input.shape)
    return _scaled(normalised, _per_channel(weight, input), _per_channel(bias, input))


def _rms_norm(
    normalise: Normalise,
    input: Tensor,
    normalized_shape: Sequence[int],
    weight: Tensor | None = None,
    eps: float | None = None,
) -> Tensor:
    dims = tuple(range(-len(normalized_shape), 0))
    eps = torch.finfo(input.dtype).eps if eps is None else eps
    return _scaled(normalise(input, dims, eps, False), weight, None)


def _normalize(
    input: Tensor, p: float = 2.0, dim: int = 1, eps: float = 1e-12, out: None = None
) -> Tensor:
    return input / _norm(input, p, dim, keepdim=True).clamp_min(eps)


def _norm(
    input: Tensor,
    p: float | str | None = "fro",
    dim: int | Sequence[int] | None = None,
    keepdim: bool = False,
    dtype: torch.dtype | None = None,
) -> Tensor:
    if p not in (2, "fro", None):
        raise UnsupportedModel(
            f"norms of order {p} have no rule; use a gradient method such as ig."
        )
    axes = None if dim is None else [dim] if isinstance(dim, int) else list(dim)
    return input.square().sum(axes, keepdim=keepdim, dtype=dtype).sqrt()


def _addcmul(input: Tensor, tensor1: Tensor, tensor2: Tensor, *, value: float = 1) -> Tensor:
    return input + value * (tensor1 * tensor2)


def _per_channel(values: Tensor | None, input: Tensor) -> Tensor | None:
    return None if values is None else values.view(-1, *[1] * (input.ndim - 2))


def _scaled(input: Tensor, weight: Tensor | None, bias: Tensor | None) -> Tensor:
    scaled = input if weight is None else input * weight
    return scaled if bias is None else scaled + bias
