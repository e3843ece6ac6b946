"""Gradient methods: sums of the maps along random directions against finite differences.

The maps are linear in the gradient, so that a few random directions see every error.
"""

from collections.abc import Callable
from functools import wraps
from itertools import pairwise
from typing import TypeAlias

import numpy as np
import torch
from torch import Generator, Tensor

from var_exp.seeds import sample_generator
from var_exp.support.checks.case import Case, Unchecked, per_class, relative_error

Expected: TypeAlias = Callable[[Case, Tensor, float], Tensor]
"""From a case, n directions [n, C, H, W] and a step to the sums [n, K] of the maps along them."""

LIMIT = 1e-4
"""Error of finite differences that passes."""

_STEP = 1e-7  # small, since a ReLU that changes sides within a step spoils the difference


def _compared(expected: Expected) -> Callable[[Case], float]:
    """A check of the sums of the maps along random directions.

    A network that rounds to single precision somewhere, or whose scores hardly change, has no
    finite differences to compare with: then those of another step are others, too.
    """

    @wraps(expected)
    def error(case: Case) -> float:
        along = _directions(case)
        sums = expected(case, along, _STEP)
        error = relative_error(along.flatten(1) @ case.maps.flatten(1).T, sums)
        if (
            not error <= LIMIT
            and relative_error(expected(case, along, 10 * _STEP), sums) > error / 5
        ):
            raise Unchecked("the finite differences of the check do not settle on this network")
        return error

    return error


@_compared
def gradient(case: Case, along: Tensor, step: float) -> Tensor:
    """Finite differences of the scores along random directions."""
    return _derivatives(case, case.image[0], along, step)


@_compared
def input_x_gradient(case: Case, along: Tensor, step: float) -> Tensor:
    """Finite differences along the image, its pixels weighted at random."""
    return _derivatives(case, case.image[0], along * case.image, step)


@_compared
def integrated_gradients(case: Case, along: Tensor, step: float) -> Tensor:
    """Finite differences along the image at the nodes of the quadrature, weighted and summed."""
    image = case.image[0]
    nodes, weights = np.polynomial.legendre.leggauss(case.method.steps)
    expected = sum(
        weight / 2 * _derivatives(case, (1 + node) / 2 * image, along * image, step)
        for node, weight in zip(nodes, weights, strict=True)
    )
    return torch.as_tensor(expected)


@_compared
def integrated_decision_gradients(case: Case, along: Tensor, step: float) -> Tensor:
    """Finite differences along the image, times the slope, at positions found class by class."""
    image, method = case.image[0], case.method
    ends = [i / method.intervals for i in range(method.intervals + 1)]
    with torch.no_grad():
        path = torch.cat([case.scores(end * case.image) for end in ends])
    expected = torch.zeros(len(along), len(path[0]), dtype=torch.float64)
    for k, scores in enumerate(path.T):
        changes = scores.diff().abs()
        amounts = np.cumsum([0, *(1 / method.intervals + changes / changes.sum())]) / 2
        edges = np.interp([i / method.steps for i in range(method.steps + 1)], amounts, ends)
        for start, end in pairwise(edges):
            lines = torch.cat([case.image, along * case.image])
            slope, *found = _derivatives(case, (start + end) / 2 * image, lines, step)[:, k]
            expected[:, k] += (end - start) * slope * torch.stack(found)
    return expected


@_compared
def smoothgrad(case: Case, along: Tensor, step: float) -> Tensor:
    """Finite differences at the noisy images, redrawn one by one."""
    found = [
        _derivatives(case, case.image[0] + _noise(case, s), along, step) for s in _streams(case)
    ]
    return torch.stack(found).mean(0)


@_compared
def gradient_shap(case: Case, along: Tensor, step: float) -> Tensor:
    """Finite differences along image - baseline at the random points, redrawn one by one."""
    found = []
    for stream in _streams(case):
        baseline = _noise(case, stream)
        position = torch.rand(1, generator=stream).double()
        change = case.image[0] - baseline
        found.append(_derivatives(case, baseline + position * change, along * change, step))
    return torch.stack(found).mean(0)


def vargrad(case: Case) -> float:
    """Variance of plain gradients at the noisy images, one by one."""
    gradients = []
    for stream in _streams(case):
        leaf = (case.pair() + _noise(case, stream)).requires_grad_()
        gradients.append(per_class(case.scores(leaf)[0], leaf)[::2])
    return relative_error(case.maps, torch.stack(gradients).var(0, correction=0))


def _streams(case: Case) -> list[Generator]:
    """The random stream of each draw."""
    draws = range(case.method.samples)
    return [sample_generator(case.method.seed, case.id, draw) for draw in draws]


def _noise(case: Case, stream: Generator) -> Tensor:
    """Gaussian noise [C, H, W], its deviation a share of the image's range."""
    deviation: float = case.method.noise * float(case.image.max() - case.image.min())
    return deviation * torch.randn(case.image.shape[1:], generator=stream).double()


def _directions(case: Case) -> Tensor:
    """Random directions [2, C, H, W] of length 1."""
    stream = torch.Generator().manual_seed(1)
    along = torch.randn(2, *case.image.shape[1:], generator=stream, dtype=torch.float64)
    lengths: Tensor = along.flatten(1).norm(dim=1)
    unit: Tensor = along / lengths.view(-1, 1, 1, 1)
    return unit


def _derivatives(case: Case, point: Tensor, along: Tensor, step: float) -> Tensor:
    """Central differences [n, K] of the scores at a point [C, H, W] along n directions."""
    steps = step / along.flatten(1).norm(dim=1)
    moves = steps.view(-1, 1, 1, 1) * along
    with torch.no_grad():
        ahead, behind = case.scores(torch.cat([point + moves, point - moves])).split(len(along))
    derivatives: Tensor = (ahead - behind) / (2 * steps[:, None])
    return derivatives
