"""Relative stability against a plain loop in float64."""

import math

import pytest
import torch

from var_exp.metrics import RelativeStability
from var_exp.metrics.base import Flag
from var_exp.metrics.functional import relative_stability
from var_exp.seeds import sample_generator

IDS = [f"picture {i}" for i in range(5)]
WEIGHTS = torch.randn(4, 36, generator=torch.Generator().manual_seed(2)).double()


def attribution(images):
    return (images**2 * torch.arange(1, 13).view(1, 1, 3, 4)).sin().sum(1, keepdim=True)


def logits(images):
    return (images.flatten(1) @ WEIGHTS.T).tanh()


class Reattribute:
    """Attributes again with the functions above."""

    def __init__(self, images, ids):
        self.images, self.ids = images, ids

    def maps(self, key, change):
        return attribution(change(None, self.images, self.ids)[1])

    def logits(self, key=None, change=None):
        return logits(self.images if change is None else change(None, self.images, self.ids)[1])


@pytest.fixture
def images():
    return torch.randn(5, 3, 3, 4, generator=torch.Generator().manual_seed(0)).double()


@pytest.mark.parametrize("against", ["input", "output"])
def test_scores_are_those_of_a_plain_loop(images, against):
    images[0, 1, 2, 3] = 0  # divided by a millionth
    metric = RelativeStability(against, radius=0.1, samples=7, seed=2)
    maps = attribution(images)
    metric.update(images=images, maps=maps, reattribute=Reattribute(images, IDS), ids=IDS)
    for image, before, id, score in zip(images, maps, IDS, metric.latest[0], strict=True):
        largest = 0.0
        for draw in range(7):
            noise = torch.rand(3, 3, 4, generator=sample_generator(2, id, draw))
            other = image + 0.1 * (2 * noise - 1).double()
            after = attribution(other[None])[0]
            pairs = zip(before.flatten().tolist(), after.flatten().tolist(), strict=True)
            moved = math.sqrt(sum(((b - a) / (b or 1e-6)) ** 2 for b, a in pairs))
            if against == "input":
                pairs = zip(image.flatten().tolist(), other.flatten().tolist(), strict=True)
                by = math.sqrt(sum(((b - a) / (b or 1e-6)) ** 2 for b, a in pairs))
            else:
                y, z = (logits(some[None])[0].tolist() for some in (image, other))
                by = math.sqrt(sum((b - a) ** 2 for b, a in zip(y, z, strict=True)))
            largest = max(largest, moved / by)
        assert score.item() == pytest.approx(largest, rel=1e-12)


def test_a_zero_that_wakes_up_counts_a_million(images):
    maps, moved = torch.ones(2, 1, 3, 4).double(), torch.ones(2, 1, 3, 4).double()
    maps[1, 0, 0, 0], moved[:, 0, 0, 0] = 0, 2
    values = torch.zeros(2, 3).double()
    found = relative_stability(maps, values, [(moved, values + 1)], "output")
    torch.testing.assert_close(found, torch.tensor([1.0, 2e6]).double() / 3**0.5)


def test_a_map_that_is_not_finite_is_undefined(images):
    maps = attribution(images)
    maps[2, 0, 1, 1] = torch.inf
    metric = RelativeStability(samples=2)
    metric.update(images=images, maps=maps, reattribute=Reattribute(images, IDS), ids=IDS)
    assert metric.latest[0].isnan().tolist() == [n == 2 for n in range(5)]
    assert metric.latest[1][2] & Flag.NON_FINITE


def test_what_does_not_belong_together_is_refused(images):
    maps = attribution(images)
    with pytest.raises(ValueError, match="must have the shapes of the others"):
        relative_stability(maps, images, [(maps, images[:, :2])])
    with pytest.raises(ValueError, match="one pair or more, got none"):
        relative_stability(maps, images, [])
    with pytest.raises(ValueError, match="against must be input or output, got 'logits'"):
        RelativeStability("logits")
