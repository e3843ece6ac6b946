"""Sobol indices against closed forms of additive and multiplicative models, and a plain loop."""

import numpy as np
import pytest
import torch
from scipy.stats import qmc
from torch import nn

from var_exp.methods import get_method
from var_exp.seeds import sample_generator

CLASSES = torch.tensor([[0, 1, 2]])
IMAGE = torch.ones(1, 3, 8, 8).double()


def cell_values(maps, grid):
    """[..., grid²] from maps whose sides the grid divides, one pixel of each cell."""
    step = maps.shape[-1] // grid
    return maps[..., 0, step // 2 :: step, step // 2 :: step].flatten(-2)


class OfCells(nn.Module):
    """Logits that are a function of the brightness of the four cells of an image of ones."""

    def __init__(self, function):
        super().__init__()
        self.function = function

    def forward(self, images):
        cells = nn.functional.adaptive_avg_pool2d(images[:, :1], 2).flatten(1)  # [B, 4]
        return self.function(cells)


def test_additive_models_have_the_shares_of_their_squared_weights():
    """y = w · z: S_j = w_j² / Σ w², summing to 1; z is even on [0, 1]."""
    weights = torch.tensor([[1.0, 2, 3, 4], [0, 0, 1, -1], [5, 1, 1, 0]]).double()
    model = OfCells(lambda cells: cells @ weights.T)
    method = get_method("sobol", grid=2, samples=5 * 4096, max_batch=4096)
    found = cell_values(method.attribute(model, IMAGE, CLASSES), 2)[0]
    expected = weights**2 / (weights**2).sum(1, keepdim=True)
    torch.testing.assert_close(found.double(), expected, rtol=0, atol=2e-3)
    assert found[1, :2].abs().max() == 0  # exactly: the logit does not see these cells


def test_multiplicative_models_have_their_closed_form():
    """y = Π (1 + b_j (z_j - ½)): S_j = v_j Π_{i≠j} (1 + v_i) / (Π (1 + v_i) - 1), v = b² / 12."""
    b = torch.tensor([[1.0, 2, 0.5, 1.5], [2, 2, 2, 2], [0.1, 0, 3, 1]]).double()
    model = OfCells(lambda cells: (1 + b * (cells[:, None] - 0.5)).prod(2))
    method = get_method("sobol", grid=2, samples=5 * 8192, max_batch=8192)
    found = cell_values(method.attribute(model, IMAGE, CLASSES), 2)[0]
    v = b**2 / 12
    whole = (1 + v).prod(1, keepdim=True)
    expected = v * whole / (1 + v) / (whole - 1)
    torch.testing.assert_close(found.double(), expected, rtol=0, atol=5e-3)
    assert found[0].sum() > 1.02  # what cells do together counts for each


def test_equals_a_loop_over_the_designs():
    torch.manual_seed(0)
    model = nn.Sequential(nn.Conv2d(3, 4, 3), nn.GELU(), nn.Flatten(), nn.Linear(144, 3)).double()
    images = torch.randn(2, 3, 8, 8, generator=torch.Generator().manual_seed(1)).double()
    method = get_method("sobol", grid=2, samples=24, seed=2, max_batch=7)
    maps = method.attribute(model, images, CLASSES.expand(2, -1), ids=("a", "b"))
    for b, id in enumerate(("a", "b")):
        stream = np.random.default_rng(sample_generator(2, id).initial_seed())
        drawn = qmc.Sobol(8, seed=stream).random(4).astype(np.float32)

        def score(shares, b=b):
            mask = torch.tensor(shares).view(2, 2).repeat_interleave(4, 0).repeat_interleave(4, 1)
            return model((images[b] * mask)[None])[0].detach()

        for k in range(3):
            plain = [float(score(row[:4])[k]) for row in drawn]
            for cell in range(4):
                total = 0.0
                for row, before in zip(drawn, plain, strict=True):
                    other = row[:4].copy()
                    other[cell] = row[4 + cell]
                    total += (before - float(score(other)[k])) ** 2
                expected = total / len(drawn) / 2 / np.var(plain, ddof=1)
                found = float(cell_values(maps[b, k], 2)[cell])
                assert found == pytest.approx(expected, rel=1e-5)
    assert not torch.allclose(maps[0], maps[1], rtol=0.1)


def test_a_model_that_always_answers_the_same_gives_zero():
    model = OfCells(lambda cells: torch.ones(len(cells), 3).double())
    maps = get_method("sobol", grid=2, samples=20).attribute(model, IMAGE, CLASSES)
    assert (maps == 0).all()


def test_too_few_samples_are_refused():
    with pytest.raises(Exception, match="samples must be at least 130, two designs"):
        get_method("sobol", samples=129)
