"""Integrated gradients against Captum, closed forms, and the completeness axiom."""

import math
from itertools import pairwise

import numpy as np
import pytest
import torch
from captum.attr import IntegratedGradients as CaptumIntegratedGradients
from torch import nn

from var_exp.methods import get_method
from var_exp.methods.completeness import completeness_error
from var_exp.methods.integrated_gradients import IntegratedGradients

CLASSES = torch.tensor([[0, 3], [2, 2]])


@pytest.fixture
def images():
    return torch.randn(2, 3, 12, 12, generator=torch.Generator().manual_seed(0)).double()


@pytest.fixture
def net():
    torch.manual_seed(0)
    return nn.Sequential(
        nn.Conv2d(3, 6, 3),
        nn.GELU(),
        nn.Conv2d(6, 4, 3),
        nn.GELU(),
        nn.Flatten(),
        nn.Linear(256, 5),
    ).double()


def test_equals_captum(net, images):
    maps = get_method("ig", steps=7, max_batch=3).attribute(net, images, CLASSES)
    for k, chosen in enumerate(CLASSES.T):
        expected = CaptumIntegratedGradients(net).attribute(images, target=chosen, n_steps=7)
        torch.testing.assert_close(maps[:, k].double(), expected, rtol=1e-5, atol=1e-8)


def test_exact_for_a_polynomial():
    """y = Σ (w x)^3: two Gauss-Legendre nodes integrate 3 w^3 x^2 a^2 exactly."""

    class Cubes(nn.Module):
        def __init__(self):
            super().__init__()
            self.weights = nn.Parameter(torch.randn(5, 3, 4, 4))

        def forward(self, images):
            return ((images[:, None] * self.weights) ** 3).sum((2, 3, 4))

    torch.manual_seed(0)
    model, x = Cubes(), torch.randn(2, 3, 4, 4)
    maps = get_method("ig", steps=2).attribute(model, x, CLASSES)
    expected = (x[:, None] * model.weights.detach()[CLASSES]) ** 3
    torch.testing.assert_close(maps, expected)


def test_linear_model_needs_one_step(images):
    model = nn.Sequential(nn.Flatten(), nn.Linear(432, 5)).double()
    maps = get_method("ig", steps=1).attribute(model, images, CLASSES)
    expected = images[:, None] * model[1].weight.detach()[CLASSES].view(2, 2, 3, 12, 12)
    torch.testing.assert_close(maps, expected.float())


def test_completeness_error_falls_with_the_steps(net, images):
    with torch.no_grad():
        sums = get_method("ig").sums(net, images, net(images))
    errors = [
        completeness_error(
            get_method("ig", steps=n).attribute(net, images, CLASSES).double(), CLASSES, sums
        )
        for n in (1, 4, 32)
    ]
    assert errors[0].shape == (2, 2)
    assert errors[0].abs().max() > 10 * errors[1].abs().max()
    assert errors[2].abs().max() < 1e-6


def test_even_nodes_are_a_mean_of_gradients_with_both_ends(net, images):
    """As the paper's code: the gradient at the baseline and at the image, and evenly between."""
    maps = get_method("ig", steps=5, quadrature="even", max_batch=3).attribute(net, images, CLASSES)
    for b in range(2):
        for k in range(2):
            total = torch.zeros_like(images[0])
            for position in (0, 0.25, 0.5, 0.75, 1):
                point = (position * images[b : b + 1]).requires_grad_()
                score = net(point)[0, CLASSES[b, k]]
                total += torch.autograd.grad(score, point)[0][0] / 5
            expected = (images[b] * total).float()
            torch.testing.assert_close(maps[b, k], expected, rtol=1e-5, atol=1e-8)
    other = get_method("ig", steps=5).attribute(net, images, CLASSES)
    assert not torch.allclose(maps, other, rtol=1e-3)


def test_even_nodes_by_the_closed_form_of_a_cube():
    """y = Σ x^3: three even nodes give 3 x^3 (0 + 1/4 + 1) / 3, where the integral is x^3."""

    class Cube(nn.Module):
        def forward(self, images):
            return (images**3).sum((2, 3))

    x = torch.rand(2, 3, 4, 4).double()
    maps = get_method("ig", steps=3, quadrature="even").attribute(Cube(), x, CLASSES.clamp_max(2))
    expected = 1.25 * x**3
    for k, chosen in enumerate(CLASSES.clamp_max(2).T):
        for b in range(2):
            torch.testing.assert_close(maps[b, k, chosen[b]], expected[b, chosen[b]].float())


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (
            {"quadrature": "simpson"},
            "one of gauss_legendre, even, curvature, got 'simps",
        ),
        ({"quadrature": "even", "steps": 1}, "quadrature=even needs both ends; set steps to 2"),
    ],
)
def test_quadratures_that_are_none(options, message):
    with pytest.raises(ValueError, match=message):
        IntegratedGradients(**options)


def nodes_by_hand(model, image, steps):
    """Middles and widths of cells that hold as much of ½ + ½ √(bend), one number at a time."""
    logits = [model(a / steps * image[None])[0].tolist() for a in range(steps + 1)]
    bends = [0.0] * (steps + 1)
    for i in range(1, steps):
        seconds = [
            before - 2 * here + after
            for before, here, after in zip(*logits[i - 1 : i + 2], strict=True)
        ]
        bends[i] = math.sqrt(sum(second**2 for second in seconds) / len(seconds))
    roots = [math.sqrt((bends[i] + bends[i + 1]) / 2) for i in range(steps)]
    reached = [0.0]
    for root in roots:
        reached.append(reached[-1] + 0.5 / steps + 0.5 * root / sum(roots))
    ends = [
        float(np.interp(i / steps, reached, np.linspace(0, 1, steps + 1))) for i in range(steps)
    ]
    return [((a + b) / 2, b - a) for a, b in pairwise([*ends, 1.0])]


def test_curvature_equals_a_loop_over_its_nodes(net, images):
    maps = get_method("ig", steps=6, quadrature="curvature").attribute(net, images, CLASSES)
    for b, row in enumerate(CLASSES.tolist()):
        nodes = nodes_by_hand(net, images[b], 6)
        assert max(width for _, width in nodes) > 1.2 * min(width for _, width in nodes)
        for k, chosen in enumerate(row):
            total = torch.zeros_like(images[b])
            for position, width in nodes:
                point = (position * images[b]).requires_grad_()
                total += width * torch.autograd.grad(net(point[None])[0, chosen], point)[0]
            torch.testing.assert_close(maps[b, k], (images[b] * total).float())


class Decides(nn.Module):
    """y_n = sigmoid(200 (w · x - t_n)): the path of each image bends within a hundredth of it."""

    def __init__(self, image):
        super().__init__()
        self.register_buffer("weights", image / (image**2).sum())

    def forward(self, images):
        position = (images * self.weights).sum((1, 2, 3))
        return torch.stack([(200 * (position - at)).sigmoid() for at in (0.237, 0.238, 0.241)], 1)


def test_curvature_finds_where_the_path_bends(images):
    """The map is x w, summing to 1; its only error is the quadrature's."""
    model, classes = Decides(images[0]), torch.tensor([[0, 1, 2]])
    errors = {}
    for rule in ("gauss_legendre", "curvature"):
        method = get_method("ig", steps=32, quadrature=rule)
        maps = method.attribute(model, images[:1], classes)
        errors[rule] = (maps.sum((2, 3, 4)) - 1).abs().max()
    assert errors["curvature"] < 0.02
    assert errors["gauss_legendre"] > 10 * errors["curvature"]


def test_curvature_of_a_straight_path_is_even(images):
    model = nn.Sequential(nn.Flatten(), nn.Linear(432, 5)).double()
    for steps in (1, 4):
        maps = get_method("ig", steps=steps, quadrature="curvature").attribute(
            model, images, CLASSES
        )
        expected = images[:, None] * model[1].weight.detach()[CLASSES].view(2, 2, 3, 12, 12)
        torch.testing.assert_close(maps, expected.float())


@pytest.mark.parametrize("option", ["steps", "max_batch"])
def test_options_out_of_range(option):
    with pytest.raises(Exception, match=f"{option} must be at least 1, got 0"):
        get_method("ig", **{option: 0})
