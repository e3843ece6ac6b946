"""HSIC against kernel matrices multiplied out in float64, and what it must not see."""

import math

import pytest
import torch
from torch import nn

from var_exp.methods import get_method
from var_exp.seeds import sample_generator

CLASSES = torch.tensor([[0, 2], [1, 1]])


def by_definition(kept, score):
    """1/n² Σ_ab K(a, b) (H L H)(a, b) for one cell and one class, number by number."""
    n = len(kept)
    width = math.sqrt(sum((p - q) ** 2 for p in score for q in score)) / n
    similar = [
        [math.exp(-((score[a] - score[b]) ** 2) / (2 * width**2)) for b in range(n)]
        for a in range(n)
    ]
    rows = [sum(row) / n for row in similar]
    mean = sum(rows) / n
    total = 0.0
    for a in range(n):
        for b in range(n):
            centred = similar[a][b] - rows[a] - rows[b] + mean
            total += (0.5 - (kept[a] - kept[b]) ** 2) * centred / n**2
    return total


@pytest.mark.parametrize("samples", [12, 15])
def test_equals_the_definition(samples):
    torch.manual_seed(0)
    model = nn.Sequential(nn.Conv2d(3, 4, 3), nn.GELU(), nn.Flatten(), nn.Linear(196, 3)).double()
    images = torch.randn(2, 3, 9, 9, generator=torch.Generator().manual_seed(1)).double()
    method = get_method("hsic", grid=3, samples=samples, seed=2, max_batch=5)
    maps = method.attribute(model, images, CLASSES, ids=("a", "b"))
    for b, id in enumerate(("a", "b")):
        order = torch.rand(samples, 9, generator=sample_generator(2, id)).argsort(0)
        kept = (order < samples // 2).double()
        assert (kept.sum(0) == samples // 2).all()
        masks = kept.view(-1, 1, 3, 3).repeat_interleave(3, 2).repeat_interleave(3, 3)
        scores = model(images[b] * masks).detach()[:, CLASSES[b]]
        for k in range(2):
            for cell in range(9):
                expected = by_definition(kept[:, cell].tolist(), scores[:, k].tolist())
                found = float(maps[b, k, 0, cell // 3 * 3 + 1, cell % 3 * 3 + 1])
                assert found == pytest.approx(expected, rel=1e-5)
    assert maps.min() >= 0


def test_it_finds_the_cells_that_matter_whatever_the_sign():
    """Cells that are not read stay at the level of chance, 1 / n; those that are do not."""

    class Reads(nn.Module):
        def forward(self, images):
            cells = nn.functional.adaptive_avg_pool2d(images[:, :1], 4).flatten(1)
            return torch.stack([cells[:, 5] - cells[:, 9], cells[:, 0] * cells[:, 3]], 1)

    maps = get_method("hsic", grid=4, samples=400).attribute(
        Reads(), torch.ones(1, 3, 16, 16), torch.tensor([[0, 1]])
    )
    values = maps[0, :, 0, ::4, ::4].flatten(1)
    for found, read in zip(values, ({5, 9}, {0, 3}), strict=True):
        others = [float(found[cell]) for cell in range(16) if cell not in read]
        assert min(float(found[cell]) for cell in read) > 10 * max(others)
    torch.testing.assert_close(values[0, 5], values[0, 9], rtol=0.2, atol=0)


def test_a_model_that_always_answers_the_same_gives_zero():
    class Constant(nn.Module):
        def forward(self, images):
            return torch.tensor([0.3, 0.7]).expand(len(images), 2)

    maps = get_method("hsic", grid=2, samples=8).attribute(
        Constant(), torch.ones(1, 3, 8, 8), torch.tensor([[0, 1]])
    )
    assert (maps == 0).all()


def test_one_sample_is_refused():
    with pytest.raises(Exception, match="samples must be at least 2, got 1"):
        get_method("hsic", samples=1)
