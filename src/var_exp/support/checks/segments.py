"""Methods that fit cells of the image: the masks written out, and the fit in another way."""

import math
from itertools import combinations

import numpy as np
import torch
from scipy.stats import qmc
from torch import Tensor

from var_exp.seeds import sample_generator
from var_exp.support.checks.case import Case, relative_error


def lime(case: Case) -> float:
    """Ridge regression as least squares with extra rows, on the masks redrawn."""
    method = case.method
    cells = method.grid**2
    stream = sample_generator(method.seed, case.id)
    kept = torch.rand(method.samples, cells, generator=stream) < 0.5
    kept[0] = True
    with torch.no_grad():
        scores = case.model(case.image * _spread(case, kept.double())).softmax(1)
    distances = 1 - (kept.sum(1) / cells).double().sqrt()
    roots = (-(distances**2) / (4 * method.kernel_width**2)).exp()[:, None]
    inputs = torch.cat([torch.ones(len(kept), 1), kept], 1).double() * roots
    penalty = method.ridge**0.5 * torch.eye(cells + 1, dtype=torch.float64)[1:]  # not of the first
    targets = torch.cat([scores[:, case.classes[0]] * roots, torch.zeros(cells, 4)])
    fit = torch.linalg.lstsq(torch.cat([inputs, penalty]), targets).solution[1:]
    return relative_error(case.maps, _spread(case, fit.T))


def kernel_shap(case: Case) -> float:
    """Shapley values by their definition, over all coalitions of the cells."""
    cells = range(case.method.grid**2)
    coalitions = [some for size in range(len(cells) + 1) for some in combinations(cells, size)]
    kept = torch.tensor([[float(cell in some) for cell in cells] for some in coalitions])
    with torch.no_grad():
        found = case.scores(case.image * _spread(case, kept.double()))
    scores = dict(zip(coalitions, found, strict=True))
    values = torch.zeros(case.classes.shape[1], len(cells), dtype=torch.float64)
    for cell in cells:
        for some in scores:
            if cell not in some:
                share = 1 / (len(cells) * math.comb(len(cells) - 1, len(some)))
                values[:, cell] += share * (scores[tuple(sorted({*some, cell}))] - scores[some])
    return relative_error(case.maps, _spread(case, values))


def sobol(case: Case) -> float:
    """Jansen's estimator in a loop over cells and designs, on the sequence redrawn."""
    method = case.method
    cells = method.grid**2
    seed = np.random.default_rng(sample_generator(method.seed, case.id).initial_seed())
    count = 2 ** int(math.log2(method.samples // (cells + 1)))
    drawn = qmc.Sobol(2 * cells, seed=seed).random(count).astype(np.float32)
    masks = torch.as_tensor(drawn).double()
    values = torch.zeros(case.classes.shape[1], cells, dtype=torch.float64)
    with torch.no_grad():
        scores = case.scores(case.image * _spread(case, masks[:, :cells]))
        for cell in range(cells):
            for mask, score in zip(masks, scores, strict=True):
                other = mask[:cells].clone()
                other[cell] = mask[cells + cell]
                change = score - case.scores(case.image * _spread(case, other[None]))[0]
                values[:, cell] += change**2 / (2 * count * scores.var(0))
    return relative_error(case.maps, _spread(case, values))


def hsic(case: Case) -> float:
    """Traces of products of kernel matrices, centred whole, on the masks redrawn."""
    method = case.method
    cells = method.grid**2
    stream = sample_generator(method.seed, case.id)
    order = torch.rand(method.samples, cells, generator=stream).argsort(0)
    kept = (order < method.samples // 2).double()
    with torch.no_grad():
        scores = case.scores(case.image * _spread(case, kept))
    centring = torch.eye(len(kept)) - torch.full((len(kept), len(kept)), 1 / len(kept)).double()
    values = torch.zeros(case.classes.shape[1], cells, dtype=torch.float64)
    for k, score in enumerate(scores.T):
        width = (2 * score.var(correction=0)).sqrt()  # the root mean square distance of two
        gaps = score[:, None] - score
        outputs = centring @ (-(gaps**2) / (2 * width**2)).exp() @ centring
        for cell, column in enumerate(kept.T):
            inputs = 0.5 - (column[:, None] - column) ** 2
            values[k, cell] = (inputs @ outputs).trace() / len(kept) ** 2
    return relative_error(case.maps, _spread(case, values))


def _spread(case: Case, values: Tensor) -> Tensor:
    """Maps [n, 1, H, W] with the values [n, grid²] of the cells at their pixels."""
    grid = case.method.grid
    height, width = case.image.shape[2:]
    rows = torch.tensor([row * grid // height for row in range(height)])
    columns = torch.tensor([column * grid // width for column in range(width)])
    maps: Tensor = values.unflatten(1, (1, grid, grid))[:, :, rows][..., columns]
    return maps
