"""CLRP and SGLRP against zennit, started from the papers' relevances in float64."""

import pytest
import torch
from torch import nn
from zennit.attribution import Gradient
from zennit.canonizers import SequentialMergeBatchNorm
from zennit.composites import EpsilonPlusFlat
from zennit.rules import Norm, ZPlus
from zennit.types import AvgPool

from var_exp.methods import get_method

CLASSES = torch.tensor([[1, 4, 0], [3, 3, 2]])
N_CLASSES = 5


@pytest.fixture
def images():
    return torch.randn(2, 3, 24, 24, generator=torch.Generator().manual_seed(0)).double()


@pytest.fixture
def model():
    torch.manual_seed(2)
    features = [nn.Conv2d(3, 8, 3), nn.BatchNorm2d(8), nn.ReLU(), nn.MaxPool2d(2)]
    more = [nn.Conv2d(8, 12, 3), nn.ReLU(), nn.AdaptiveAvgPool2d(2), nn.Flatten()]
    head = [nn.Linear(48, 16), nn.ReLU(), nn.Linear(16, N_CLASSES)]
    model = nn.Sequential(*features, *more, *head).double().eval()
    model[1].eps = 1e-30  # zennit leaves it in the merged norm
    model[1].running_mean.normal_()
    model[-1].weight.data *= 4  # probabilities that differ
    return model


def by_zennit(model, images, start):
    """Relevance [B, C, H, W] from that of the logits [B, N]."""
    exact = [(AvgPool, Norm(stabilizer=1e-30)), (nn.Linear, ZPlus())]
    composite = EpsilonPlusFlat(layer_map=exact, canonizers=[SequentialMergeBatchNorm()])
    with Gradient(model=model, composite=composite) as attributor:
        return attributor(images.clone().requires_grad_(), start)[1].detach()


def assert_same(maps, expected):
    assert (maps - expected).abs().max() < 2e-6 * expected.abs().max()


def test_clrp_equals_zennit(model, images):
    maps = get_method("clrp").attribute(model, images, CLASSES)
    logits = model(images).detach()
    assert (logits.gather(1, CLASSES) < 0).any()  # also explained by what speaks for them
    for k, chosen in enumerate(CLASSES.T):
        amount = logits.gather(1, chosen[:, None]).abs()
        one_hot = nn.functional.one_hot(chosen, N_CLASSES)
        target = by_zennit(model, images, amount * one_hot)
        dual = by_zennit(model, images, amount * (1 - one_hot) / (N_CLASSES - 1))
        dual *= (target.sum((1, 2, 3)) / dual.sum((1, 2, 3))).view(-1, 1, 1, 1)
        assert_same(maps[:, k], (target - dual).clamp(min=0))
    assert (maps >= 0).all()
    assert ((maps > 0).float().mean((2, 3, 4)) < 0.9).all()  # something is contrasted away


def test_sglrp_equals_zennit(model, images):
    maps = get_method("sglrp").attribute(model, images, CLASSES)
    probabilities = model(images).detach().softmax(1)
    for k, chosen in enumerate(CLASSES.T):
        own = probabilities.gather(1, chosen[:, None])
        one_hot = nn.functional.one_hot(chosen, N_CLASSES)
        start = torch.where(one_hot == 1, own * (1 - own), -own * probabilities)
        assert_same(maps[:, k], by_zennit(model, images, start))


def test_sglrp_starts_from_the_gradient_of_the_probability(model, images):
    """A dense layer on two pixels: with flat first, every pixel gets half of Σ_n R_n = 0."""
    net = nn.Sequential(nn.Flatten(), nn.Linear(2, 3), nn.Linear(3, 3)).double()
    pixels = torch.tensor([[[[1.0, 2.0]]]]).double()
    for layer in (net[1], net[2]):
        layer.weight.data.abs_()
        layer.bias.data.zero_()
    net[2].weight.data.copy_(torch.eye(3))  # the logits are the hidden values
    hidden = net(pixels)[0].detach()
    p = hidden.softmax(0)
    start = torch.stack([-p[0] * p[n] if n else p[0] * (1 - p[0]) for n in range(3)])
    (gradient,) = torch.autograd.grad(
        net(pixels).softmax(1)[0, 0], net[2].bias
    )  # of the probability, with respect to the logits
    torch.testing.assert_close(start, gradient)
    maps = get_method("sglrp").attribute(net, pixels, torch.tensor([[0]]))
    torch.testing.assert_close(maps.sum(), torch.tensor(0.0), rtol=0, atol=1e-6)


def test_a_saturated_class_keeps_its_pattern(model, images):
    """1 - p_c is no longer seen in the last digits of p_c."""
    maps = get_method("sglrp").attribute(model, images, CLASSES)
    model[-1].weight.data[1] += 45 / model[:-1](images)[0].detach().sum()
    assert model(images)[0].softmax(0)[1] == 1
    saturated = get_method("sglrp").attribute(model, images, CLASSES)[0, 0]
    assert 0 < saturated.abs().max() < 1e-15
    assert saturated.min() < 0 < saturated.max()
    assert maps[0, 0].abs().max() > 1e-6


def test_one_logit_is_two_classes_to_contrast(images):
    model = nn.Sequential(nn.Flatten(), nn.Linear(1728, 1)).double()
    method = get_method("clrp")
    method.check(model, images[:1])
    maps = method.attribute(model, images[:1], torch.tensor([[0, 1]]))
    assert (maps >= 0).all()
    assert maps.any()
