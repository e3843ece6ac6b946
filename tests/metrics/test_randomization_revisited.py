"""Efficient and smooth randomisation against plain loops in float64."""

import math
from fractions import Fraction

import pytest
import torch
from scipy.stats import spearmanr
from torch import nn

from var_exp.metrics import EfficientRandomization, SmoothRandomization
from var_exp.metrics.base import Flag
from var_exp.metrics.efficient_randomization import histogram_entropy
from var_exp.models.randomize import RandomizedModels
from var_exp.seeds import sample_generator

IDS = ["a", "b", "c"]
CLASSES = torch.tensor([0, 2, 1])


@pytest.fixture
def model():
    generator = torch.Generator().manual_seed(0)
    layers = nn.Conv2d(3, 5, 3, padding=1), nn.Tanh(), nn.Conv2d(5, 3, 3, padding=1)
    network = nn.Sequential(*layers).double().eval()
    for parameter in network.parameters():
        parameter.data = torch.randn(parameter.shape, generator=generator).double()
    return network


@pytest.fixture
def images():
    return torch.randn(3, 3, 12, 13, generator=torch.Generator().manual_seed(1)).double()


def attribute(model, images):
    """The map of a class is its feature map."""
    with torch.no_grad():
        return model(images)[range(3), CLASSES, None]


class Reattribute:
    def __init__(self, model, images):
        self.model, self.images, self.asked, self.kept = model, images, set(), {}

    def maps(self, key, change):
        assert key not in self.asked  # one key is one change
        self.asked.add(key)
        return attribute(*change(self.model, self.images, IDS))

    def once(self, key, make):
        return self.kept.setdefault(key, make())


def entropy_by_hand(values):
    """Over 100 equal bins; the last one holds its upper end."""
    low, high = min(values), max(values)
    counts = [0] * 100
    for value in values:
        counts[min(99, int((value - low) / (high - low) * 100))] += 1
    shares = [count / len(values) for count in counts if count]
    return -sum(share * math.log(share) for share in shares)


def test_the_rise_of_the_entropy_is_that_of_a_loop(model, images):
    maps = attribute(model, images)
    metric = EfficientRandomization(seed=3)
    metric.update(maps=maps, reattribute=Reattribute(model, images), ids=IDS)
    random = RandomizedModels(model, 3).between(Fraction(0), Fraction(1))
    for before, after, score in zip(maps, attribute(random, images), metric.latest[0], strict=True):
        h = [entropy_by_hand(some.flatten().tolist()) for some in (before, after)]
        assert score.item() == pytest.approx((h[1] - h[0]) / h[0], rel=1e-9)
    assert metric.curve().shape == (2,)


def test_noise_is_more_complex_than_an_edge_and_a_constant_has_no_entropy():
    noise = torch.rand(1, 1, 50, 50, generator=torch.Generator().manual_seed(0)).double()
    edge = torch.zeros(1, 1, 50, 50).double()
    edge[..., 25] = 1
    found = histogram_entropy(torch.cat([noise, edge, torch.ones_like(edge)]))
    assert found[0] > 4.5 > 0.2 > found[1] > 0 == found[2]
    assert found[1].item() == pytest.approx(-0.98 * math.log(0.98) - 0.02 * math.log(0.02))


def test_a_constant_map_is_undefined(model, images):
    maps = attribute(model, images)
    maps[0], maps[1] = 0, 2
    metric = EfficientRandomization()
    metric.update(maps=maps, reattribute=Reattribute(model, images), ids=IDS)
    assert metric.latest[0].isnan().tolist() == [True, True, False]
    assert metric.latest[1].tolist() == [Flag.EMPTY_MAP, Flag.TIED, 0]


@pytest.mark.parametrize(("made", "flag"), [(0.0, Flag.EMPTY_MAP), (2.0, 0)])
def test_a_map_that_random_layers_make_empty_is_counted_and_a_constant_is_not(
    model, images, made, flag
):
    class Constant(Reattribute):
        def maps(self, key, change):
            return torch.full((3, 1, 12, 13), made).double()

    metric = EfficientRandomization()
    maps = attribute(model, images)
    metric.update(maps=maps, reattribute=Constant(model, images), ids=IDS)
    assert metric.latest[1].tolist() == [flag] * 3


@pytest.mark.parametrize(("order", "spans"), [
    ("bottom_up", [(0, 1), (0, 2)]),
    ("top_down", [(1, 2), (0, 2)]),
    ("independent", [(1, 2), (0, 1)]),
])  # fmt: skip
def test_the_similarity_of_averaged_maps_is_that_of_a_loop(model, images, order, spans):
    metric = SmoothRandomization(order, stages=2, samples=4, noise=0.2, seed=5)
    maps = attribute(model, images)
    metric.update(maps=maps, reattribute=Reattribute(model, images), ids=IDS)
    randomized = RandomizedModels(model, 5)

    def mean_map(network):
        total = torch.zeros(3, 1, 12, 13).double()
        for draw in range(4):
            noisy = images.clone()
            for n, name in enumerate(IDS):
                span = images[n].max() - images[n].min()
                noise = torch.randn(3, 12, 13, generator=sample_generator(5, name, draw))
                noisy[n] += 0.2 * span * noise
            total += attribute(network, noisy)
        return total / 4

    whole = mean_map(model)
    random = [
        mean_map(randomized.between(Fraction(low, 2), Fraction(high, 2))) for low, high in spans
    ]
    for n, score in enumerate(metric.latest[0]):
        expected = [spearmanr(whole[n].flatten(), other[n].flatten()).statistic for other in random]
        assert score.item() == pytest.approx(sum(expected) / 2, rel=1e-9)
    assert metric.curve().shape == (len(metric.places()),)


def test_an_empty_map_stays_undefined_whatever_noise_makes_of_it(model, images):
    maps = attribute(model, images)
    maps[1] = 0
    metric = SmoothRandomization(samples=2)
    metric.update(maps=maps, reattribute=Reattribute(model, images), ids=IDS)
    assert metric.latest[0].isnan().tolist() == [False, True, False]
    assert metric.latest[1].tolist() == [0, Flag.EMPTY_MAP, 0]


def test_options_out_of_range():
    with pytest.raises(ValueError, match="noise must be positive, got 0"):
        SmoothRandomization(noise=0)
    with pytest.raises(ValueError, match="samples must be at least 1"):
        SmoothRandomization(samples=0)
