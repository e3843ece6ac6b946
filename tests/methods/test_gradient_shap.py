"""Gradient SHAP against Captum on the same draws, a plain loop, and closed forms."""

import numpy as np
import pytest
import torch
from captum.attr import GradientShap
from torch import nn

from var_exp.methods import get_method
from var_exp.seeds import sample_generator

CLASSES = torch.tensor([[0, 3], [2, 2]])
IDS = ("p", "q")


@pytest.fixture
def images():
    return torch.randn(2, 3, 8, 8, generator=torch.Generator().manual_seed(0)).double()


@pytest.fixture
def net():
    torch.manual_seed(0)
    return nn.Sequential(
        nn.Conv2d(3, 6, 3), nn.GELU(), nn.Flatten(), nn.Linear(216, 5), nn.Tanh()
    ).double()


def draws(image, id, noise, samples, seed=0):
    """Baselines [n, C, H, W] and positions [n] of one image."""
    generators = [sample_generator(seed, id, draw) for draw in range(samples)]
    normal = torch.stack([torch.randn(image.shape, generator=g) for g in generators]).double()
    positions = torch.cat([torch.rand(1, generator=g) for g in generators]).double()
    return noise * (image.max() - image.min()) * normal, positions


def test_equal_to_a_loop_over_the_draws(net, images):
    method = get_method("gradient_shap", noise=0.2, samples=5, seed=3, max_batch=4)
    maps = method.attribute(net, images, CLASSES, ids=IDS)
    for b, id in enumerate(IDS):
        baselines, positions = draws(images[b], id, 0.2, 5, seed=3)
        for k in range(2):
            total = torch.zeros_like(images[b])
            for baseline, position in zip(baselines, positions, strict=True):
                point = ((1 - position) * baseline + position * images[b]).requires_grad_()
                (gradient,) = torch.autograd.grad(net(point[None])[0, CLASSES[b, k]], point)
                total += (images[b] - baseline) * gradient
            torch.testing.assert_close(maps[b, k], (total / 5).float())


def test_equal_to_captum_on_the_same_draws(net, images, monkeypatch):
    maps = get_method("gradient_shap", noise=0.3, samples=4).attribute(net, images, CLASSES)
    drawn = [draws(image, None, 0.3, 4) for image in images]
    for b, (baselines, positions) in enumerate(drawn):
        for k in range(2):
            total = torch.zeros_like(images[:1])
            for baseline, position in zip(baselines, positions, strict=True):
                monkeypatch.setattr(np.random, "uniform", lambda *_, u=position: np.full(1, u))
                total += GradientShap(net).attribute(
                    images[b : b + 1].clone().requires_grad_(),
                    baseline[None],
                    n_samples=1,
                    stdevs=0.0,
                    target=int(CLASSES[b, k]),
                )
            torch.testing.assert_close(maps[b, k], (total[0] / 4).detach().float())


def test_linear_model_needs_no_expectation(images):
    """(x - mean x') · w whatever the positions, so x · w without noise."""
    torch.manual_seed(0)
    model = nn.Sequential(nn.Flatten(), nn.Linear(192, 5)).double()
    weights = model[1].weight.detach()[CLASSES].view(2, 2, 3, 8, 8)
    for noise, samples in [(0.0, 1), (0.0, 3), (0.4, 3)]:
        method = get_method("gradient_shap", noise=noise, samples=samples)
        mean = torch.stack([draws(image, None, noise, samples)[0].mean(0) for image in images])
        expected = (images - mean)[:, None] * weights
        torch.testing.assert_close(
            method.attribute(model, images, CLASSES), expected.float(), rtol=1e-5, atol=1e-6
        )


def test_without_noise_many_draws_are_integrated_gradients(net, images):
    maps = get_method("gradient_shap", noise=0.0, samples=3000, max_batch=1000).attribute(
        net, images, CLASSES
    )
    expected = get_method("ig", steps=32).attribute(net, images, CLASSES)
    assert (maps - expected).norm() < 0.03 * expected.norm()


def test_options_out_of_range():
    with pytest.raises(Exception, match="noise must not be negative, got -1"):
        get_method("gradient_shap", noise=-1.0)
    with pytest.raises(Exception, match="samples must be at least 1, got 0"):
        get_method("gradient_shap", samples=0)
