"""KernelSHAP against Shapley values by their definition, closed forms, and its own KKT system."""

from collections import Counter
from itertools import product
from math import factorial

import numpy as np
import pytest
import timm
import torch
from torch import nn

from var_exp.methods import get_method
from var_exp.types import ConfigError

CLASSES = torch.tensor([[0, 3], [2, 4]])


def small_net(*size):
    torch.manual_seed(0)
    net = nn.Sequential(nn.Conv2d(3, 4, 3), nn.ReLU(), nn.Flatten(), nn.LazyLinear(5))
    net(torch.zeros(1, 3, *size))
    return net.double()


def cell_values(maps, grid):
    """[..., grid, grid] from maps whose sides the grid divides, one pixel of each cell."""
    step = maps.shape[-1] // grid
    return maps[..., 0, step // 2 :: step, step // 2 :: step]


def shapley_values(value, n):
    """By the definition: every player's mean contribution over all orders of joining."""
    table = {kept: value(kept) for kept in product((0, 1), repeat=n)}
    found = []
    for player in range(n):
        total = 0.0
        for without in (kept for kept in table if not kept[player]):
            joined = (*without[:player], 1, *without[player + 1 :])
            orders = factorial(sum(without)) * factorial(n - sum(without) - 1) / factorial(n)
            total = total + orders * (table[joined] - table[without])
        found.append(total)
    return torch.stack(found, -1)


@torch.no_grad()
def brute_force(model, image, classes, grid):
    step = image.shape[-1] // grid

    def value(kept):
        mask = torch.tensor(kept).view(grid, grid)
        mask = mask.repeat_interleave(step, 0).repeat_interleave(step, 1)
        return model((image * mask)[None])[0, classes]

    return shapley_values(value, grid**2).unflatten(-1, (grid, grid))


@pytest.mark.parametrize(
    ("model", "size", "grid", "samples"),
    [
        (lambda: small_net(9, 9), 9, 3, 510),
        (lambda: small_net(8, 8), 8, 2, 14),
        (lambda: small_net(8, 8), 8, 2, 99),
        (lambda: small_net(8, 8), 8, 1, 2),
        (lambda: timm.create_model("test_vit", img_size=32, num_classes=5).double(), 32, 2, 14),
        (lambda: timm.create_model("test_resnet", num_classes=5).double(), 32, 2, 14),
        (lambda: timm.create_model("test_convnext", num_classes=5).double(), 32, 2, 14),
    ],
)
def test_all_coalitions_give_the_shapley_values(model, size, grid, samples):
    torch.manual_seed(0)
    model = model().eval()
    images = torch.randn(2, 3, size, size).double()
    method = get_method("kernel_shap", grid=grid, samples=samples, max_batch=100)
    found = cell_values(method.attribute(model, images, CLASSES), grid)
    for image, classes, own in zip(images, CLASSES, found, strict=True):
        expected = brute_force(model, image, classes, grid).float()
        torch.testing.assert_close(
            own, expected, rtol=1e-5, atol=1e-6 * float(expected.abs().max())
        )


@pytest.mark.parametrize("samples", [32, 33, 34, 60])
@pytest.mark.parametrize("size", [(8, 8), (10, 7)])
def test_linear_models_are_exact_from_the_fewest_samples_on(samples, size):
    torch.manual_seed(0)
    model = nn.Sequential(nn.Flatten(), nn.Linear(3 * size[0] * size[1], 5)).double()
    images = torch.randn(2, 3, *size).double()
    maps = get_method("kernel_shap", grid=4, samples=samples).attribute(model, images, CLASSES)
    weights = model[1].weight.detach()[CLASSES].view(2, 2, 3, *size)
    held = (images[:, None] * weights).sum(2)
    rows, columns = (torch.arange(side) * 4 // side for side in size)
    expected = torch.zeros_like(held)
    for i, j in product(range(4), repeat=2):
        cell = (rows == i)[:, None] & (columns == j)
        expected[..., cell] = held[..., cell].sum(-1, keepdim=True)
    torch.testing.assert_close(maps[:, :, 0], expected.float(), rtol=1e-5, atol=1e-6)


class Power(nn.Module):
    """Logits (a_c · x)^degree: cells interact in twos, threes …"""

    def __init__(self, degree):
        super().__init__()
        torch.manual_seed(0)
        self.linear, self.degree = nn.Linear(3 * 8 * 8, 5), degree

    def forward(self, images):
        return self.linear(images.flatten(1)) ** self.degree


@pytest.mark.parametrize("samples", [34, 41, 200])
def test_interactions_of_two_cells_are_exact_for_drawn_pairs(samples):
    model = Power(2).double()
    images = torch.randn(2, 3, 8, 8).double()
    method = get_method("kernel_shap", grid=4, samples=samples)
    found = cell_values(method.attribute(model, images, CLASSES), 4)
    held = images[:, None] * model.linear.weight.detach()[CLASSES].view(2, 2, 3, 8, 8)
    held = held.sum(2).unflatten(3, (4, 2)).unflatten(2, (4, 2)).sum((3, 5))
    # (b + Σ u_j z_j)² splits the product of two cells evenly
    bias = model.linear.bias.detach()[CLASSES][..., None, None]
    expected = held * (held.sum((2, 3), keepdim=True) + 2 * bias)
    torch.testing.assert_close(found, expected.float(), rtol=1e-5, atol=1e-6)


def test_drawn_coalitions_come_close_to_the_shapley_values_and_closer_with_more():
    model, image = small_net(9, 9), 3 * torch.randn(3, 9, 9).double()
    expected = brute_force(model, image, CLASSES[0], 3)
    errors = []
    for samples in (60, 400):
        method = get_method("kernel_shap", grid=3, samples=samples, max_batch=400)
        copies = image.expand(8, -1, -1, -1)
        ids = [str(i) for i in range(8)]
        maps = method.attribute(model, copies, CLASSES[:1].expand(8, -1), ids=ids)
        deviation = cell_values(maps, 3) - expected
        errors.append(float(deviation.square().mean().sqrt() / expected.square().mean().sqrt()))
    assert errors[1] < 0.02, errors
    assert errors[1] < 0.5 * errors[0], errors


class Seen(nn.Module):
    """Classifier of 3 x H x W pixels that keeps what it is given."""

    def __init__(self, *size):
        super().__init__()
        self.net, self.inputs = small_net(*size), []

    def forward(self, images):
        self.inputs.append(images)
        return self.net(images)


def test_equals_the_constrained_system_of_the_same_coalitions():
    model, images = Seen(4, 4), torch.ones(1, 3, 4, 4).double()
    method = get_method("kernel_shap", grid=4, samples=100)
    found = cell_values(method.attribute(model, images, CLASSES[:1]), 4)[0].flatten(1)
    inputs = torch.cat(model.inputs)
    kept = inputs[:, 0].flatten(1).numpy()
    with torch.no_grad():
        scores = model.net(inputs)[:, CLASSES[0]].numpy()
    (whole,), (empty,) = np.flatnonzero(kept.sum(1) == 16), np.flatnonzero(kept.sum(1) == 0)
    rows = [i for i in range(len(kept)) if i not in (whole, empty)]
    assert len(rows) == 100
    counts = Counter(kept[i].sum() for i in rows)
    gram, right = np.zeros((17, 17)), np.zeros((17, 2))
    for i in rows:
        size = kept[i].sum()
        weight = 1 / (size * (16 - size) * counts[size])
        gram[:16, :16] += 2 * weight * np.outer(kept[i], kept[i])
        right[:16] += 2 * weight * np.outer(kept[i], scores[i] - scores[empty])
    gram[16, :16] = gram[:16, 16] = 1  # the multiplier of the constraint
    right[16] = scores[whole] - scores[empty]
    expected = np.linalg.solve(gram, right)[:16].T
    np.testing.assert_allclose(found.numpy(), expected, rtol=1e-5, atol=1e-7)


def test_coalitions_are_listed_at_the_ends_and_drawn_between_in_pairs():
    model, images = Seen(4, 4), torch.ones(1, 3, 4, 4).double()
    n = 40_000
    method = get_method("kernel_shap", grid=4, samples=n, max_batch=5000)
    method.attribute(model, images, CLASSES[:1])
    kept = torch.cat(model.inputs)[:, 0].flatten(1).bool()
    assert len(kept) == n + 2
    rows = Counter(map(tuple, kept.tolist()))
    assert all(rows[tuple(not z for z in row)] == count for row, count in rows.items())
    sizes = kept.sum(1)
    assert sizes.bincount()[[0, 1, 15, 16]].tolist() == [1, 16, 16, 1]
    assert all(rows[tuple(row)] == 1 for row in torch.eye(16).bool().tolist())
    between = torch.arange(2, 15)
    shares = 1 / (between * (16 - between))
    expected = (n - 32) * shares / shares.sum()
    assert ((sizes.bincount()[2:15] - expected) / expected.sqrt()).abs().max() < 5
    for size in between:  # every cell as often as every other
        of_size = kept[sizes == size].float().mean(0)
        spread = (size / 16 * (1 - size / 16) / (sizes == size).sum()).sqrt()
        assert (of_size - size / 16).abs().max() < 5 * spread * 2**0.5


@pytest.mark.parametrize("name", ["test_vit", "test_resnet", "test_efficientnet"])
def test_cells_sum_to_the_change_from_the_empty_image(name):
    torch.manual_seed(0)
    kwargs = {"img_size": 32} if name == "test_vit" else {}
    model = timm.create_model(name, num_classes=5, **kwargs).eval().double()
    images = torch.randn(2, 3, 32, 32).double()
    for grid, samples in [(4, 32), (4, 40), (5, 61), (2, 14)]:
        maps = get_method("kernel_shap", grid=grid, samples=samples).attribute(
            model, images, CLASSES
        )
        rows = torch.tensor(
            [next(i for i in range(32) if i * grid // 32 == j) for j in range(grid)]
        )
        total = maps[:, :, 0, rows][..., rows].double().sum((2, 3))
        with torch.no_grad():
            change = (model(images) - model(torch.zeros_like(images))).gather(1, CLASSES)
        size = maps.abs().amax((2, 3, 4)) * grid**2
        assert ((total - change).abs() < 1e-6 * size).all()


def test_too_few_samples_are_refused():
    with pytest.raises(
        ConfigError, match=r"samples must be at least 128.*got 127; set samples=128"
    ):
        get_method("kernel_shap", samples=127)
    get_method("kernel_shap", samples=128)
