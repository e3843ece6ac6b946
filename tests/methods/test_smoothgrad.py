"""SmoothGrad against the plain gradient, a plain loop, and a closed form."""

import pytest
import torch
from torch import nn

from var_exp.methods import get_method
from var_exp.seeds import sample_generator

CLASSES = torch.tensor([[0, 3], [2, 2]])


@pytest.fixture
def images():
    return torch.randn(2, 3, 8, 8, generator=torch.Generator().manual_seed(0))


@pytest.fixture
def net():
    torch.manual_seed(0)
    return nn.Sequential(nn.Conv2d(3, 6, 3), nn.GELU(), nn.Flatten(), nn.Linear(216, 5))


def test_without_noise_it_is_the_gradient(net, images):
    maps = get_method("smoothgrad", noise=0.0, samples=3).attribute(net, images, CLASSES)
    expected = get_method("gradient").attribute(net, images, CLASSES)
    torch.testing.assert_close(maps, expected)


def test_equals_a_loop_over_the_noise(net, images):
    method = get_method("smoothgrad", noise=0.2, samples=4, seed=5)
    maps = method.attribute(net, images, CLASSES, ids=("p", "q"))
    for b, id in enumerate(("p", "q")):
        total = torch.zeros(2, 3, 8, 8)
        for draw in range(4):
            spread = images[b].max() - images[b].min()
            noise = torch.randn(3, 8, 8, generator=sample_generator(5, id, draw))
            copy = (images[b] + 0.2 * spread * noise)[None].requires_grad_()
            for k in range(2):
                (gradient,) = torch.autograd.grad(net(copy)[0, CLASSES[b, k]], copy)
                total[k] += gradient[0]
        torch.testing.assert_close(maps[b], total / 4)


def test_noise_has_the_stated_deviation(images):
    """The gradient of Σ x² / 2 is x itself, so the mean of n copies is x + σ ε / √n."""

    class HalfSquares(nn.Module):
        def forward(self, images):
            return (images**2 / 2).sum((1, 2, 3))[:, None]

    noise, samples = 0.3, 16
    maps = get_method("smoothgrad", noise=noise, samples=samples).attribute(
        HalfSquares(), images, torch.zeros(2, 1, dtype=torch.int64)
    )
    left = (maps[:, 0] - images).flatten(1).std(1)
    spread = images.amax((1, 2, 3)) - images.amin((1, 2, 3))
    torch.testing.assert_close(left, noise * spread / samples**0.5, rtol=0.15, atol=0)


def test_options_out_of_range():
    with pytest.raises(Exception, match="noise must not be negative, got -1"):
        get_method("smoothgrad", noise=-1.0)
