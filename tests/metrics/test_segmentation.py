"""Segmentation figures against the public protocol, pooled over pictures as the papers print it."""

import numpy as np
import pytest
import torch

from var_exp.metrics import Segmentation
from var_exp.metrics.base import Flag
from var_exp.metrics.functional import segmentation


@pytest.fixture
def scene():
    generator = torch.Generator().manual_seed(0)
    maps = torch.randn(9, 2, 6, 7, generator=generator, dtype=torch.float64)
    regions = torch.rand(9, 6, 7, generator=generator) > torch.linspace(0.2, 0.95, 9)[:, None, None]
    return maps, regions


def public(maps, regions):
    """Counts as `imagenet_seg_eval.py` sums them over batches: correct, labelled, inter, union."""
    correct = labelled = 0
    inter, union = np.zeros(2), np.zeros(2)
    for map_, target in zip(maps.sum(1).numpy(), regions.numpy(), strict=True):
        scaled = (map_ - map_.min()) / (map_.max() - map_.min())
        predict = (scaled > scaled.mean()).astype(int) + 1
        target = target.astype(int) + 1
        correct += (predict == target).sum()
        labelled += target.size
        both = predict * (predict == target)
        for c in (1, 2):
            overlap = (both == c).sum()
            inter[c - 1] += overlap
            union[c - 1] += (predict == c).sum() + (target == c).sum() - overlap
    return correct / labelled, (inter / union).mean()


def pooled(measure, maps, regions):
    metric = Segmentation(measure)
    for n in range(len(maps)):
        metric.update(maps=maps[n : n + 1], regions=regions[n : n + 1], ids=[str(n)])
    return metric


def test_the_pooled_figures_are_the_published_ones(scene):
    accuracy, miou = public(*scene)
    metric = pooled("accuracy", *scene)
    assert metric.pooled().item() == pytest.approx(accuracy)
    assert metric.compute().item() == pytest.approx(accuracy)  # all of one size
    metric = pooled("miou", *scene)
    assert metric.pooled().item() == pytest.approx(miou)
    assert abs(metric.compute().item() - miou) > 0.01


def test_one_picture_is_the_same_pooled_or_not(scene):
    maps, regions = scene
    for n in range(9):
        accuracy, miou = public(maps[n : n + 1], regions[n : n + 1])
        one = maps[n : n + 1], regions[n : n + 1]
        assert segmentation(*one, "accuracy").item() == pytest.approx(accuracy)
        assert segmentation(*one, "miou").item() == pytest.approx(miou)


def test_the_ends(scene):
    _, regions = scene
    shown = regions[:, None].double()
    for measure in ("accuracy", "miou"):
        assert (segmentation(shown, regions, measure) == 1).all()
        assert (segmentation(-shown, regions, measure) == 0).all()
    nothing = segmentation(torch.ones_like(shown), regions, "accuracy")
    torch.testing.assert_close(nothing, 1 - regions.double().mean((1, 2)))


def test_a_picture_that_is_undefined_is_not_in_the_pool(scene):
    maps, regions = scene
    expected = public(maps[2:], regions[2:])[1]
    regions[0] = False
    maps[1, 0, 0, 0] = torch.nan
    metric = pooled("miou", maps, regions)
    assert metric.pooled().item() == pytest.approx(expected)
    assert metric.ledger()["undefined"] == 2


def test_an_unknown_measure_is_refused():
    with pytest.raises(ValueError, match="measure must be accuracy or miou, got 'iou'"):
        Segmentation("iou")


def test_what_is_odd_about_a_map_is_counted(scene):
    maps, regions = (tensor[:5].clone() for tensor in scene)
    maps[0, 0, 0, 0], maps[1], maps[2] = torch.nan, 0, 2
    regions[3] = False
    metric = Segmentation("miou")
    metric.update(maps=maps, regions=regions)
    scores, flags = metric.latest
    assert flags.tolist() == [
        Flag.NON_FINITE,
        Flag.EMPTY_MAP + Flag.TIED,
        Flag.TIED,
        Flag.EMPTY_REGION,
        0,
    ]
    assert scores.isnan().tolist() == [True, False, False, True, False]
    assert Segmentation().measure == "miou"
