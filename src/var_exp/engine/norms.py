"""Normalising calls written out in sums, products, roots and quotients, which have rules.

As `engine.calls` writes out attention. `engine.multipliers` says why the division is a quotient.
"""

from collections.abc import Callable, Sequence
from typing import Any

import torch
from torch import Tensor

from var_exp.types import UnsupportedModel


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
    scale = (running_var + eps).rsqrt()
    scale = scale if weight is None else scale * weight
    shift = -running_mean * scale
    shift = shift if bias is None else shift + bias
    return _scaled(input, _per_channel(scale, input), _per_channel(shift, input))


def _layer_norm(
    input: Tensor,
    normalized_shape: Sequence[int],
    weight: Tensor | None = None,
    bias: Tensor | None = None,
    eps: float = 1e-5,
    *_: object,
) -> Tensor:
    dims = tuple(range(-len(normalized_shape), 0))
    return _scaled(_over_root_mean_square(_centred(input, dims), dims, eps), weight, bias)


def _group_norm(
    input: Tensor,
    num_groups: int,
    weight: Tensor | None = None,
    bias: Tensor | None = None,
    eps: float = 1e-5,
    *_: object,
) -> Tensor:
    groups = input.reshape(len(input), num_groups, -1)
    normalised = _over_root_mean_square(_centred(groups, (-1,)), (-1,), eps).view(input.shape)
    return _scaled(normalised, _per_channel(weight, input), _per_channel(bias, input))


def _rms_norm(
    input: Tensor,
    normalized_shape: Sequence[int],
    weight: Tensor | None = None,
    eps: float | None = None,
) -> Tensor:
    dims = tuple(range(-len(normalized_shape), 0))
    eps = torch.finfo(input.dtype).eps if eps is None else eps
    return _scaled(_over_root_mean_square(input, dims, eps), weight, None)


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


def _centred(input: Tensor, dims: tuple[int, ...]) -> Tensor:
    return input - input.mean(dims, keepdim=True)


def _over_root_mean_square(input: Tensor, dims: tuple[int, ...], eps: float) -> Tensor:
    return input / (input.square().mean(dims, keepdim=True) + eps).sqrt()


def _scaled(input: Tensor, weight: Tensor | None, bias: Tensor | None) -> Tensor:
    scaled = input if weight is None else input * weight
    return scaled if bias is None else scaled + bias


WRITTEN_OUT: dict[str, Callable[..., Any]] = {
    "batch_norm": _batch_norm,
    "layer_norm": _layer_norm,
    "group_norm": _group_norm,
    "rms_norm": _rms_norm,
    "normalize": _normalize,
    "norm": _norm,
    "linalg_vector_norm": _norm,
    "addcmul": _addcmul,
}
"""Calls by name, as functions of the same arguments."""
