"""Integrated gradients against Captum, closed forms, and the completeness axiom."""

import pytest
import torch
from captum.attr import IntegratedGradients as CaptumIntegratedGradients
from torch import nn

from var_exp.methods import get_method
from var_exp.methods.completeness import completeness_error

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


@pytest.mark.parametrize("option", ["steps", "max_batch"])
def test_options_out_of_range(option):
    with pytest.raises(Exception, match=f"{option} must be at least 1, got 0"):
        get_method("ig", **{option: 0})
