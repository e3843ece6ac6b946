"""SmoothGrad and VarGrad against the plain gradient, plain loops and closed forms."""

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


def test_equal_to_a_loop_over_the_noise(net, images):
    options = {"noise": 0.2, "samples": 4, "seed": 5}
    means = get_method("smoothgrad", **options).attribute(net, images, CLASSES, ids=("p", "q"))
    variances = get_method("vargrad", **options).attribute(net, images, CLASSES, ids=("p", "q"))
    for b, id in enumerate(("p", "q")):
        found = torch.zeros(4, 2, 3, 8, 8)
        for draw in range(4):
            spread = images[b].max() - images[b].min()
            noise = torch.randn(3, 8, 8, generator=sample_generator(5, id, draw))
            copy = (images[b] + 0.2 * spread * noise)[None].requires_grad_()
            for k in range(2):
                (gradient,) = torch.autograd.grad(net(copy)[0, CLASSES[b, k]], copy)
                found[draw, k] = gradient[0]
        torch.testing.assert_close(means[b], found.mean(0))
        torch.testing.assert_close(variances[b], found.var(0, correction=0))


def test_noise_has_the_stated_deviation(images):
    """The gradient of Σ x² / 2 is x itself, so the mean of n copies is x + σ ε / √n."""

    class HalfSquares(nn.Module):
        def forward(self, images):
            return (images**2 / 2).sum((1, 2, 3))[:, None].expand(-1, 2)

    noise, samples = 0.3, 16
    maps = get_method("smoothgrad", noise=noise, samples=samples).attribute(
        HalfSquares(), images, torch.zeros(2, 1, dtype=torch.int64)
    )
    left = (maps[:, 0] - images).flatten(1).std(1)
    spread = images.amax((1, 2, 3)) - images.amin((1, 2, 3))
    torch.testing.assert_close(left, noise * spread / samples**0.5, rtol=0.15, atol=0)


def test_variance_keeps_its_digits_beside_a_large_mean():
    """The gradient of 1000 x + x² / 2 is 1000 + x: its variance is that of the noise alone."""

    class Bent(nn.Module):
        def forward(self, images):
            return torch.stack([1000 * images, 1000 * images + images**2 / 2]).sum((2, 3, 4)).T

    x = torch.randn(1, 3, 8, 8, generator=torch.Generator().manual_seed(0))
    method = get_method("vargrad", samples=16, noise=0.2, max_batch=5)
    maps = method.attribute(Bent(), x, torch.tensor([[0, 1]]))
    noise = torch.stack(
        [torch.randn(3, 8, 8, generator=sample_generator(0, None, draw)) for draw in range(16)]
    )
    expected = (0.2 * (x.max() - x.min()) * noise).var(0, correction=0)
    assert maps[0, 0].max() < 1e-9
    torch.testing.assert_close(maps[0, 1], expected, rtol=1e-3, atol=0)


def test_options_out_of_range():
    for alias in ("smoothgrad", "vargrad"):
        with pytest.raises(Exception, match="noise must not be negative, got -1"):
            get_method(alias, noise=-1.0)
