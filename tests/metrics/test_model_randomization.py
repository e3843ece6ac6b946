"""Model randomisation against a plain loop: copy the network, draw its layers, attribute again."""

import copy
import math
from fractions import Fraction

import pytest
import torch
from scipy import stats
from torch import nn

from var_exp.methods import get_method
from var_exp.metrics import ModelRandomization, RandomizedAccuracy, RandomizedEntropy
from var_exp.metrics.base import Flag
from var_exp.models.randomize import RandomizedModels
from var_exp.modules.reattribution import Reattribution
from var_exp.modules.variants import Attributed, Variants
from var_exp.refine.var import VAR

IDS = ("one", "two", "three")
CLASSES = torch.tensor([[0, 1], [2, 3], [4, 0]])
REFINERS = {"var": VAR(temperature=1000.0)}


@pytest.fixture(scope="module")
def network():
    torch.manual_seed(0)
    layers = [nn.Conv2d(3, 6, 3), nn.ReLU(), nn.Conv2d(6, 6, 3), nn.ReLU(), nn.Flatten()]
    return nn.Sequential(*layers, nn.Linear(864, 5)).eval().requires_grad_(False)


@pytest.fixture(scope="module")
def batch(network):
    images = torch.rand(3, 3, 16, 16, generator=torch.Generator().manual_seed(0))
    return attributed(network, images)


def attributed(network, images):
    maps = get_method("gbp").attribute(network, images, CLASSES, ids=IDS)
    random_classes = torch.empty(3, 0, dtype=torch.int64)
    return Attributed(images, IDS, network(images), CLASSES, random_classes, maps, 2, None)


def variants(of):
    return Variants(of, REFINERS, controls=True, seed=0)


def update(metric, network, batch, variant="base"):
    reattribute = Reattribution(get_method("gbp"), network, variants).of(batch, variant, asked=2)
    values = {
        "maps": variants(batch)[variant].flatten(0, 1),
        "classes": CLASSES.flatten(),
        "ids": [id for id in IDS for _ in range(2)],
        "reattribute": reattribute,
    }
    metric.update(**metric._filter_kwargs(**values))
    return metric


def drawn_by_hand(network, layers):
    """A copy whose layers of these numbers (0 the first convolution) are drawn anew."""
    random = RandomizedModels(network).between(Fraction(0), Fraction(1))
    copied = copy.deepcopy(network)
    for layer in layers:
        place = (0, 2, 5)[layer]
        copied[place].load_state_dict(random[place].state_dict())
    return copied


STAGES = {
    "top_down": [[2], [1, 2], [0, 1, 2]],
    "bottom_up": [[0], [0, 1], [0, 1, 2]],
    "independent": [[2], [1], [0]],
}


@pytest.mark.parametrize("order", STAGES)
@pytest.mark.parametrize("variant", ["base", "var"])
def test_scores_are_those_of_a_plain_loop(network, batch, order, variant):
    metric = update(ModelRandomization(order, stages=3), network, batch, variant)
    before = variants(batch)[variant].flatten(0, 1).sum(1).flatten(1)
    curves = []
    for layers in STAGES[order]:
        random = drawn_by_hand(network, layers)
        after = variants(attributed(random, batch.images))[variant].flatten(0, 1)
        after = after.sum(1).flatten(1)
        curves.append([stats.spearmanr(a, b).statistic for a, b in zip(before, after, strict=True)])
    expected = torch.tensor(curves)
    scores, flags = metric.latest
    assert scores.tolist() == pytest.approx(expected.mean(0).tolist(), abs=1e-6)
    assert not flags.any()
    curve = metric.curve().tolist()
    if order != "independent":
        assert curve.pop(0) == pytest.approx(1)  # the map with itself, no part of the score
        assert metric.places() == [0, 1 / 3, 2 / 3, 1]
    else:
        assert metric.places() == [1 / 3, 2 / 3, 1]
    assert curve == pytest.approx(expected.mean(1).tolist(), abs=1e-6)


def test_a_map_is_compared_with_itself_by_the_similarity_that_is_asked_for(network, batch):
    """A constant one is like itself by SSIM, and has no correlation."""
    for similarity, expected in (("ssim", [1, 1]), ("spearman", [math.nan] * 2)):
        metric = ModelRandomization(similarity=similarity, stages=1)
        update(metric, network, batch, "uniform_map")
        found = metric.curve().tolist()
        assert found == pytest.approx(expected, nan_ok=True)


@pytest.mark.parametrize(("variant", "score"), [("edge_map", 1), ("random_map", 1)])
def test_what_never_sees_the_model_stays(network, batch, variant, score):
    scores, _ = update(ModelRandomization(), network, batch, variant).latest
    assert scores.tolist() == pytest.approx([score] * 6)


def test_one_stage_is_the_end_of_both_cascades(network, batch):
    full = update(ModelRandomization(stages=1), network, batch)
    for order in ("top_down", "bottom_up"):
        metric = update(ModelRandomization(order, stages=3), network, batch)
        assert metric.curve()[-1] == full.curve()[-1]
    assert full.curve()[-1] == pytest.approx(full.compute().item(), abs=1e-6)


def test_an_empty_map_of_a_random_model_is_undefined_and_counted(network, batch):
    class Emptied(nn.Module):
        """After randomisation, a map that is all zero for the first sample."""

        def __init__(self, inner):
            super().__init__()
            self.inner = inner

        def of(self, *_):
            return self

        def maps(self, key, change):
            maps = self.inner.maps(key, change).clone()
            maps[:2] = 0
            return maps

        def once(self, *given):
            return self.inner.once(*given)

    reattribute = Reattribution(get_method("gbp"), network, variants).of(batch, "base", asked=2)
    metric = ModelRandomization(stages=2)
    metric.update(maps=batch.maps.flatten(0, 1), reattribute=Emptied(reattribute))
    scores, flags = metric.latest
    assert scores.isnan().tolist() == [True] * 2 + [False] * 4
    assert flags.tolist() == [Flag.EMPTY_MAP] * 2 + [0] * 4
    assert metric.compute() == pytest.approx(scores[2:].mean().item())
    assert metric.curve()[0] == pytest.approx(1)  # with itself it is defined
    assert metric.curve().isfinite().all()


def test_what_the_random_models_know(network, batch):
    accuracy = update(RandomizedAccuracy(stages=3), network, batch)
    entropy = update(RandomizedEntropy(stages=3), network, batch)
    for stage, layers in enumerate([[], *STAGES["top_down"]]):
        logits = drawn_by_hand(network, layers)(batch.images).double()
        hit = [
            float(row.argmax() == c)
            for row, some in zip(logits, CLASSES, strict=True)
            for c in some
        ]
        assert accuracy.curve()[stage] == pytest.approx(sum(hit) / 6)
        spread = [stats.entropy(row.softmax(0)) / math.log(5) for row in logits]
        assert entropy.curve()[stage] == pytest.approx(sum(spread) / 3, abs=1e-6)
    assert accuracy.compute() == pytest.approx(accuracy.curve()[1:].mean().item())


def test_refusals():
    with pytest.raises(ValueError, match="order must be one of top_down, bottom_up, independent"):
        ModelRandomization("down")
    with pytest.raises(ValueError, match="stages must be at least 1 with order=top_down, got 0"):
        ModelRandomization(stages=0)
    with pytest.raises(ValueError, match="stages must be at least 2 with order=independent"):
        RandomizedAccuracy("independent", stages=1)
    with pytest.raises(ValueError, match="similarity must be one of"):
        ModelRandomization(similarity="cosine")
