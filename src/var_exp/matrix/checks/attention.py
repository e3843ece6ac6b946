"""Attention maps: matrices taken from a fused attention that writes itself out."""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any
from unittest.mock import patch

import torch
from torch import Tensor, nn
from torch.nn.functional import interpolate

from var_exp.engine.attention import find_tokens
from var_exp.matrix.checks.case import Case, relative_error


def attention_rollout(case: Case) -> float:
    """Whole products of the matrices that a stand-in for fused attention has noted."""
    with _matrices() as matrices:
        case.scores(case.image.clone().requires_grad_())
    rolled = torch.eye(matrices[0].shape[-1], dtype=torch.float64)
    for matrix in matrices:
        rolled = (matrix.detach()[0].mean(0) + torch.eye(len(rolled))) / 2 @ rolled
    expected = _read(case, rolled[None]).expand_as(case.maps)
    return relative_error(case.maps, expected)


def transformer_attribution(case: Case) -> float:
    """Whole products of such matrices times their gradients by autograd, class by class."""
    with _matrices() as matrices:
        scores = case.scores(case.image.clone().requires_grad_())[0]
    rolled = []
    for score in scores:
        gradients = torch.autograd.grad(score, matrices, retain_graph=True)
        identity = torch.eye(matrices[0].shape[-1], dtype=torch.float64)
        relevance = identity.clone()
        for matrix, gradient in zip(matrices, gradients, strict=True):
            relevance = relevance + (matrix * gradient).relu()[0].mean(0).detach() @ relevance
        rolled.append(relevance - identity)
    return relative_error(case.maps, _read(case, torch.stack(rolled)))


@contextmanager
def _matrices() -> Iterator[list[Tensor]]:
    """Note the attention matrices [1, heads, N, N] of the layers, in their order."""
    matrices: list[Tensor] = []

    def attention(query: Tensor, key: Tensor, value: Tensor, *_: Any, **options: Any) -> Tensor:
        scale = options.get("scale") or query.shape[-1] ** -0.5
        matrices.append(torch.softmax(scale * torch.matmul(query, key.mT), -1))
        return torch.matmul(matrices[-1], value)

    with patch.object(nn.functional, "scaled_dot_product_attention", attention):
        yield matrices


def _read(case: Case, rolled: Tensor) -> Tensor:
    """Maps of image size from products [n, N, N]: the mean row of the tokens that are read."""
    tokens = find_tokens(case.model, case.image)
    rows = rolled[:, list(tokens.read)].mean(1)
    h, w = tokens.grid
    coarse = rows[:, -h * w :].reshape(-1, 1, h, w)
    size = (case.image.shape[2], case.image.shape[3])
    return interpolate(coarse, size, mode="bilinear", align_corners=False)
