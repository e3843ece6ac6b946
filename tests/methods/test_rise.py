"""RISE against a plain loop over masks, and its expectation on a model that adds up pixels."""

import math

import pytest
import torch
from torch import nn

from var_exp.methods import get_method
from var_exp.seeds import sample_generator

CLASSES = torch.tensor([[0, 3], [2, 2]])


def bilinear(coarse, height, width):
    """Bilinear resize with half-pixel centres and clamped borders, one pixel at a time."""
    rows, columns = coarse.shape
    fine = torch.zeros(height, width)
    for i in range(height):
        for j in range(width):
            y = min(max((i + 0.5) * rows / height - 0.5, 0), rows - 1)
            x = min(max((j + 0.5) * columns / width - 0.5, 0), columns - 1)
            top, left = int(y), int(x)
            bottom, right = min(top + 1, rows - 1), min(left + 1, columns - 1)
            v, u = y - top, x - left
            fine[i, j] = (1 - v) * ((1 - u) * coarse[top, left] + u * coarse[top, right]) + v * (
                (1 - u) * coarse[bottom, left] + u * coarse[bottom, right]
            )
    return fine


def test_equals_a_loop_over_masks():
    torch.manual_seed(0)
    model = nn.Sequential(nn.Conv2d(3, 4, 3), nn.ReLU(), nn.Flatten(), nn.LazyLinear(5))
    images = torch.randn(2, 3, 10, 13)
    model(images)
    n, s, p = 5, 3, 0.4
    method = get_method("rise", masks=n, grid=s, keep=p, seed=2, max_batch=3)
    maps = method.attribute(model, images, CLASSES, ids=("a", "b"))
    cell = (math.ceil(10 / s), math.ceil(13 / s))
    for b, id in enumerate(("a", "b")):
        generator = sample_generator(2, id)
        kept = torch.rand(n, s, s, generator=generator) < p
        shifts = torch.rand(n, 2, generator=generator)
        total = torch.zeros(2, 10, 13)
        for i in range(n):
            fine = bilinear(kept[i].float(), (s + 1) * cell[0], (s + 1) * cell[1])
            top, left = int(shifts[i, 0] * cell[0]), int(shifts[i, 1] * cell[1])
            mask = fine[top : top + 10, left : left + 13]
            probabilities = model(images[b : b + 1] * mask).softmax(1)[0]
            total += probabilities[CLASSES[b]][:, None, None] * mask
        expected = (total / (n * p))[:, None]
        torch.testing.assert_close(maps[b], expected.detach(), rtol=1e-4, atol=1e-6)


def test_uninformative_model_gives_a_flat_map_at_its_probability():
    class Constant(nn.Module):
        def forward(self, images):
            return torch.tensor([0.3, 0.7]).log().expand(len(images), 2)

    maps = get_method("rise", masks=400, grid=4, max_batch=200).attribute(
        Constant(), torch.randn(1, 3, 16, 16), torch.tensor([[0, 1]])
    )
    assert maps.mean((2, 3, 4))[0].tolist() == pytest.approx([0.3, 0.7], rel=0.05)
    assert (maps.std((2, 3, 4)) < 0.1 * maps.mean((2, 3, 4))).all()


@pytest.mark.parametrize("keep", [0.0, 1.0, 1.5])
def test_options_out_of_range(keep):
    with pytest.raises(Exception, match=f"keep must lie between 0 and 1, got {keep}"):
        get_method("rise", keep=keep)
