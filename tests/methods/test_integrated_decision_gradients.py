"""Integrated decision gradients against the definition on a fine grid, a loop, and closed forms."""

from itertools import pairwise

import pytest
import torch
from torch import nn

from var_exp.methods import get_method

CLASSES = torch.tensor([[0, 3], [2, 2]])


@pytest.fixture
def images():
    return torch.randn(2, 3, 8, 8, generator=torch.Generator().manual_seed(0)).double()


@pytest.fixture
def net():
    torch.manual_seed(0)
    return nn.Sequential(
        nn.Conv2d(3, 6, 3), nn.GELU(), nn.Flatten(), nn.Linear(216, 5), nn.Tanh()
    ).double()


class Sigmoids(nn.Module):
    """y_n = sigmoid(80 (w_n · x - 0.3 n)): a decision within a hundredth part of the path."""

    def __init__(self, image):
        super().__init__()
        self.register_buffer("weights", image / (image**2).sum())

    def forward(self, images):
        position = (images * self.weights).sum((1, 2, 3))
        return torch.stack([80 * (position - at) for at in (0.2, 0.35, 0.81)], 1).sigmoid()


def gradient_at(model, point, chosen):
    point = point.detach().requires_grad_()
    (gradient,) = torch.autograd.grad(model(point[None])[0, chosen], point)
    return gradient


def on_a_fine_grid(model, image, chosen, parts=400):
    """The definition: even parts, the slope of the logit by finite differences."""
    total = torch.zeros_like(image)
    with torch.no_grad():
        path = torch.stack([model(a / parts * image[None])[0, chosen] for a in range(parts + 1)])
    for a in range(parts):
        slope = (path[a + 1] - path[a]) * parts
        total += gradient_at(model, (a + 0.5) / parts * image, chosen) * slope / parts
    return image * total


def test_equal_to_the_definition(net, images):
    maps = get_method("idg", steps=64).attribute(net, images, CLASSES)
    for b, k in ((0, 1), (1, 0)):
        expected = on_a_fine_grid(net, images[b], CLASSES[b, k])
        assert (maps[b, k] - expected).norm() < 1e-4 * expected.norm()


def test_equal_to_a_loop_over_the_cells(net, images):
    """Cells by bisection of F, and every pair and cell on its own."""
    maps = get_method("idg", steps=5, intervals=4, max_batch=3).attribute(net, images, CLASSES)
    for b in range(2):
        for k in range(2):
            with torch.no_grad():
                path = [float(net(a / 4 * images[b][None])[0, CLASSES[b, k]]) for a in range(5)]
            changes = [abs(after - before) for before, after in pairwise(path)]

            def held(a, changes=changes):
                done = sum(c * min(max(4 * a - i, 0), 1) for i, c in enumerate(changes))
                return a / 2 + done / sum(changes) / 2

            edges = [0.0]
            for cell in range(1, 6):
                low, high = 0.0, 1.0
                for _ in range(60):
                    middle = (low + high) / 2
                    low, high = (middle, high) if held(middle) < cell / 5 else (low, middle)
                edges.append(low)
            total = torch.zeros_like(images[b])
            for start, end in pairwise(edges):
                gradient = gradient_at(net, (start + end) / 2 * images[b], CLASSES[b, k])
                total += (end - start) * gradient * (gradient * images[b]).sum()
            torch.testing.assert_close(maps[b, k], (images[b] * total).float())


def test_closed_forms(images):
    """Linear: w x (w · x), in one step. Quadratic, y = Σ w x²: 4/3 w x² y, in many."""

    class Quadratic(nn.Module):
        def forward(self, images):
            return torch.einsum("bchw,nchw->bn", images**2, weights)

    torch.manual_seed(0)
    linear = nn.Sequential(nn.Flatten(), nn.Linear(192, 5)).double()
    weights = linear[1].weight.detach().view(5, 3, 8, 8)
    products = images[:, None] * weights[CLASSES]
    expected = products * products.sum((2, 3, 4), keepdim=True)
    for steps in (1, 7):
        maps = get_method("idg", steps=steps).attribute(linear, images, CLASSES)
        torch.testing.assert_close(maps, expected.float())
    products = images[:, None] ** 2 * weights[CLASSES]
    expected = 4 / 3 * products * products.sum((2, 3, 4), keepdim=True)
    maps = get_method("idg", steps=100).attribute(Quadratic(), images, CLASSES)
    torch.testing.assert_close(maps, expected.float(), rtol=1e-3, atol=1e-6)


def test_samples_gather_where_each_class_is_decided(images):
    """Sums are ∫ (dy/da)² da = 80 / 6 for a whole sigmoid; even samples step over it."""
    model, classes = Sigmoids(images[0]), torch.tensor([[0, 1, 2]])
    sums = [
        get_method("idg", steps=24, **options)
        .attribute(model, images[:1], classes)
        .sum((0, 2, 3, 4))
        for options in ({}, {"intervals": 1})
    ]
    exact = torch.full((3,), 80 / 6)
    errors = [(found - exact).abs().max() / exact[0] for found in sums]
    assert errors[0] < 0.02
    assert errors[1] > 0.2


def test_a_constant_logit_has_an_empty_map(images):
    class Constant(nn.Module):
        def forward(self, images):
            return (0 * images.sum((2, 3))).clamp(-1, 1) + torch.arange(3.0).double()

    maps = get_method("idg").attribute(Constant(), images, torch.tensor([[0, 1], [2, 2]]))
    assert torch.equal(maps, torch.zeros_like(maps))


@pytest.mark.parametrize("option", ["steps", "intervals"])
def test_options_out_of_range(option):
    with pytest.raises(Exception, match=f"{option} must be at least 1, got 0"):
        get_method("idg", **{option: 0})
