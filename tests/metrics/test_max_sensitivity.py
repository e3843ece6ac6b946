"""Max-sensitivity against Captum's definition and a plain loop in float64."""

import math

import captum.metrics
import pytest
import torch

from var_exp.metrics import MaxSensitivity
from var_exp.metrics.base import Flag
from var_exp.metrics.max_sensitivity import max_sensitivity
from var_exp.seeds import sample_generator


def attribution(images):
    """Some smooth map of one channel, its own for every picture."""
    return (images**2 * torch.arange(1, 13).view(1, 1, 3, 4)).sin().sum(1, keepdim=True)


class Reattribute:
    """Attributes again with the function above."""

    def __init__(self, images, ids):
        self.images, self.ids = images, ids

    def maps(self, key, change):
        _, images = change(None, self.images, self.ids)
        return attribution(images)


@pytest.fixture
def images():
    return torch.randn(5, 3, 3, 4, generator=torch.Generator().manual_seed(0)).double()


IDS = [f"picture {i}" for i in range(5)]


def test_scores_are_those_of_a_plain_loop(images):
    metric = MaxSensitivity(radius=0.1, samples=7, seed=2)
    maps = attribution(images)
    metric.update(maps=maps, reattribute=Reattribute(images, IDS), ids=IDS)
    for image, before, id, score in zip(images, maps, IDS, metric.latest[0], strict=True):
        largest = 0.0
        for draw in range(7):
            noise = torch.rand(3, 3, 4, generator=sample_generator(2, id, draw))
            after = attribution((image + 0.1 * (2 * noise - 1).double())[None])[0]
            distance = math.sqrt(sum(d**2 for d in (after - before).flatten().tolist()))
            largest = max(largest, distance)
        norm = math.sqrt(sum(v**2 for v in before.flatten().tolist()))
        assert score.item() == pytest.approx(largest / norm, rel=1e-12)


def test_it_is_captums_measure(images):
    """The same draws, handed to Captum one after another; the maps have one channel.

    As a tuple: of a bare tensor, Captum 0.9 takes the norm over the whole batch.
    """
    draws = [images + 0.02 * torch.randn_like(images) for _ in range(4)]
    after = [attribution(some) for some in draws]
    left = list(draws)
    expected = captum.metrics.sensitivity_max(
        lambda images: (attribution(images[0] if isinstance(images, tuple) else images),),
        images,
        perturb_func=lambda *_: left.pop(0),
        n_perturb_samples=4,
        max_examples_per_batch=5,
    )
    found = max_sensitivity(attribution(images), after)
    assert found.tolist() == pytest.approx(expected.tolist(), rel=1e-9)


def test_noise_stays_within_the_radius_and_fills_it(images):
    seen = []

    class Spy(Reattribute):
        def maps(self, key, change):
            seen.append(change(None, self.images, self.ids)[1] - self.images)
            return super().maps(key, change)

    MaxSensitivity(radius=0.5, samples=50).update(
        maps=attribution(images), reattribute=Spy(images, IDS)
    )
    noise = torch.stack(seen)
    assert noise.abs().max() <= 0.5
    assert noise.std().item() == pytest.approx(0.5 / math.sqrt(3), rel=0.03)
    assert noise.mean().abs() < 0.01
    assert len({some.sum().item() for some in noise.flatten(0, 1)}) == 250


def test_channels_are_summed_first():
    maps = torch.tensor([[[[3.0]], [[1.0]]]])
    assert max_sensitivity(maps, [torch.tensor([[[[1.0]], [[3.0]]]])]).tolist() == [0.0]
    assert max_sensitivity(maps, [torch.tensor([[[[1.0]]]])]).tolist() == [0.75]


def test_an_empty_map_scores_the_distance_and_is_flagged():
    maps, after = torch.zeros(2, 1, 1, 2), torch.tensor([[[[3.0, 4.0]]], [[[0.0, 0.0]]]])
    assert max_sensitivity(maps, [after]).tolist() == [5.0, 0.0]

    class Fixed:
        def maps(self, key, change):
            return after

    metric = MaxSensitivity(samples=1)
    metric.update(maps=maps, reattribute=Fixed())
    assert metric.latest[1].tolist() == [Flag.EMPTY_MAP] * 2


def test_not_finite_is_undefined():
    maps = torch.ones(3, 1, 2, 2)
    after = maps.clone()
    after[0, 0, 0, 0] = math.nan
    after[1, 0, 0, 0] = math.inf
    assert max_sensitivity(maps, [maps, after]).isnan().tolist() == [True, True, False]


def test_refusals():
    maps = torch.ones(2, 1, 3, 3)
    with pytest.raises(ValueError, match="one tensor or more"):
        max_sensitivity(maps, [])
    with pytest.raises(ValueError, match="one N, h and w"):
        max_sensitivity(maps, [maps[:1]])
    with pytest.raises(ValueError, match="radius must be positive"):
        MaxSensitivity(radius=0)
    with pytest.raises(ValueError, match="samples must be at least 1"):
        MaxSensitivity(samples=0)
