"""What LIME and KernelSHAP share: cells, masks drawn by sample, forward passes."""

from itertools import pairwise

import pytest
import torch
from torch import nn

from var_exp.methods import get_method
from var_exp.methods.segments import grid_cells, weighted_least_squares
from var_exp.types import ConfigError, UnsupportedModel

BOTH = pytest.mark.parametrize("alias", ["lime", "kernel_shap"])
SMALL = {"grid": 3, "samples": 30, "max_batch": 7}


class Seen(nn.Module):
    """Classifier that keeps what it is given."""

    def __init__(self):
        super().__init__()
        torch.manual_seed(0)
        self.net = nn.Sequential(nn.Conv2d(3, 4, 3), nn.ReLU(), nn.Flatten(), nn.LazyLinear(9))
        self.net(torch.zeros(1, 3, 10, 13))
        self.inputs = []

    def forward(self, images):
        self.inputs.append(images)
        return self.net(images)


def test_cells_of_an_image_that_the_grid_does_not_divide():
    assert grid_cells(2, 3, 5).tolist() == [[0, 0, 0, 1, 1], [0, 0, 0, 1, 1], [2, 2, 2, 3, 3]]
    for height, width in [(8, 8), (9, 31), (10, 8)]:
        cells = grid_cells(8, height, width)
        counts = cells.flatten().bincount(minlength=64)
        assert counts.min() >= (height // 8) * (width // 8)
        assert counts.max() <= -(-height // 8) * -(-width // 8)


def test_weighted_least_squares_of_repeated_rows():
    torch.manual_seed(0)
    inputs, targets = torch.randn(6, 3).double(), torch.randn(6, 2).double()
    weights = torch.tensor([1, 3, 2, 1, 2, 4])
    repeated = [matrix.repeat_interleave(weights, 0) for matrix in (inputs, targets)]
    penalised = [
        torch.cat([part, more])
        for part, more in zip(repeated, (2 * torch.eye(3), torch.zeros(3, 2)), strict=True)
    ]
    for ridge, (x, t) in [(0.0, repeated), (4.0, penalised)]:
        found = weighted_least_squares(inputs, targets, weights.double(), ridge)
        torch.testing.assert_close(found, torch.linalg.lstsq(x, t).solution)


@BOTH
def test_a_map_is_constant_within_a_cell_and_differs_between_them(alias):
    maps = get_method(alias, **SMALL).attribute(
        Seen(), torch.randn(2, 3, 10, 13), torch.tensor([[0, 3], [2, 8]])
    )
    assert maps.shape == (2, 2, 1, 10, 13)
    rows, columns = [0, 4, 7, 10], [0, 5, 9, 13]  # pixel i lies in cell 3 i // side
    values = [
        maps[..., top:bottom, left:right].flatten(2)
        for top, bottom in pairwise(rows)
        for left, right in pairwise(columns)
    ]
    assert all(torch.equal(cell, cell[..., :1].expand_as(cell)) for cell in values)
    firsts = torch.stack([cell[..., 0] for cell in values], -1)
    assert all(len(row.unique()) == 9 for row in firsts.flatten(0, 1))


@BOTH
def test_more_classes_take_the_same_forward_passes(alias):
    seen = []
    for k in (1, 8):
        model = Seen()
        classes = torch.arange(8)[:k].expand(2, k)
        get_method(alias, **SMALL).attribute(
            model, torch.ones(2, 3, 10, 13), classes, ids=("a", "b")
        )
        seen.append(torch.cat(model.inputs))
    assert torch.equal(*seen)
    assert len(seen[0]) == 2 * (30 + (2 if alias == "kernel_shap" else 0))


@BOTH
def test_masks_depend_on_seed_and_id_alone(alias):
    def masks(seed, *ids):
        model = Seen()
        images = torch.ones(len(ids), 3, 10, 13)
        classes = torch.zeros(len(ids), 1, dtype=torch.int64)
        get_method(alias, **SMALL, seed=seed).attribute(model, images, classes, ids=ids)
        return torch.cat(model.inputs).unflatten(0, (len(ids), -1))

    both = masks(0, "a", "b")
    assert torch.equal(both[1], masks(0, "b")[0])
    assert not torch.equal(both[0], both[1])
    assert not torch.equal(both[0], masks(1, "a")[0])


@BOTH
@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float64])
def test_other_precisions(alias, dtype):
    torch.manual_seed(0)
    images, classes = torch.randn(2, 3, 10, 13), torch.tensor([[0, 3], [2, 8]])
    method = get_method(alias, **SMALL)
    expected = method.attribute(Seen(), images, classes)
    maps = method.attribute(Seen().to(dtype), images.to(dtype), classes)
    assert maps.dtype == torch.float32
    assert (maps - expected).norm() < (0.1 if dtype == torch.bfloat16 else 1e-5) * expected.norm()


@BOTH
def test_more_cells_than_pixels_are_refused(alias):
    method = get_method(alias, grid=8)
    images = torch.zeros(1, 3, 9, 7)
    with pytest.raises(ConfigError, match=r"grid=8 for 9 x 7 px; set grid=7 or less"):
        method.attribute(Seen(), images, torch.tensor([[0]]))
    model = nn.Sequential(nn.AdaptiveAvgPool2d(1), nn.Flatten())
    with pytest.raises(ConfigError, match=r"grid=8 for 9 x 7 px; set grid=7 or less"):
        method.check(model, images)


@BOTH
def test_a_model_without_logits_is_refused(alias):
    with pytest.raises(UnsupportedModel, match="the model must return logits"):
        get_method(alias).check(nn.Identity(), torch.zeros(1, 3, 9, 9))


@BOTH
def test_options_below_one(alias):
    with pytest.raises(ConfigError, match="grid must be at least 1, got 0"):
        get_method(alias, grid=0)
    with pytest.raises(ConfigError, match="samples must be at least 1, got 0"):
        get_method(alias, samples=0)
