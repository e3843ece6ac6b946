"""EigenCAM against power iteration in plain loops, a closed form, and its refusal to compete."""

import pytest
import torch
from torch import nn

import var_exp
from var_exp.methods import get_method
from var_exp.types import ConfigError

METHOD = get_method("eigen_cam")


def first_component(features):
    """Map [4, 4] of features [D, 4, 4]: A v, v by power iteration on the Gram matrix AᵀA."""
    rows = features.flatten(1).T  # [16, D]
    v = torch.ones(rows.shape[1], dtype=torch.float64)
    for _ in range(20_000):
        v = rows.T @ (rows @ v)
        v = v / v.norm()
    component = (rows @ v).view(4, 4)
    return component if component.sum() >= 0 else -component


def test_equals_power_iteration(network, images, classes):
    maps = METHOD.attribute(network.model, images, classes)
    for b in range(2):
        features, _ = network.seen(images[b], lambda y: y[0])
        coarse = first_component(features)
        expected = nn.functional.interpolate(coarse[None, None], (32, 32), mode="bilinear")
        for k in range(3):  # the same for every class
            torch.testing.assert_close(maps[b, k], expected[0].float(), rtol=1e-4, atol=1e-5)


def test_features_of_rank_one_are_their_own_component(images, classes):
    """A_d = u_d · m: the map is |u| m, turned to where its sum is positive."""
    model = nn.Sequential(nn.Conv2d(3, 4, 8, stride=8, bias=False), nn.Flatten(), nn.Linear(64, 10))
    u = torch.tensor([3.0, -4.0, 0.0, 12.0])
    model[0].weight.data = u[:, None, None, None] * torch.randn(1, 3, 8, 8)
    model.double()
    maps = METHOD.attribute(model, images, classes)
    m = model[0](images)[:, :1].detach() / 3
    cams = 13 * m * m.sum((2, 3), keepdim=True).sign()
    expected = nn.functional.interpolate(cams, (32, 32), mode="bilinear")
    torch.testing.assert_close(maps, expected[:, None].float().expand_as(maps))


def test_after_a_relu_nothing_is_negative(images, classes):
    torch.manual_seed(0)
    model = nn.Sequential(
        *(nn.Conv2d(3, 9, 8, stride=8), nn.ReLU(), nn.AdaptiveAvgPool2d(1)),
        *(nn.Flatten(), nn.Linear(9, 10)),
    ).double()
    maps = METHOD.attribute(model, images, classes)
    assert maps.min() >= 0
    assert maps.max() > 0


def test_nothing_can_compete():
    assert not METHOD.class_specific
    with pytest.raises(ConfigError, match="gives all classes the same map"):
        var_exp.explain("critters_cnn", torch.zeros(3, 64, 64), [0, 1], method="eigen_cam")
