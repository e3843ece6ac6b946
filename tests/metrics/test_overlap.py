import math
from typing import get_args

import pytest
import torch

from var_exp.metrics import Overlap
from var_exp.metrics.base import Flag
from var_exp.metrics.overlap import Measure, Threshold, overlap

MEASURES, THRESHOLDS = get_args(Measure), get_args(Threshold)


def of_sets(marked, region, measure):
    """The four measures of two sets of pixels."""
    both = len(marked & region)
    if measure == "iou":
        return both / len(marked | region)
    if measure == "precision":
        return both / len(marked) if marked else 0.0
    if measure == "recall":
        return both / len(region)
    return 2 * both / (len(marked) + len(region))


def loop(maps, regions, measure, threshold, fraction):
    """Pixel by pixel, and for the best threshold level by level."""
    scores = []
    for channels, inside in zip(maps.double().tolist(), regions.tolist(), strict=True):
        pixels = [(y, x) for y in range(len(inside)) for x in range(len(inside[0]))]
        value = {p: math.fsum(c[p[0]][p[1]] for c in channels) for p in pixels}
        region = {(y, x) for y, x in pixels if inside[y][x]}
        if threshold == "best_threshold":
            levels = [{p for p in pixels if value[p] >= t} for t in set(value.values())]
            marked = max(levels, key=lambda m: (of_sets(m, region, "iou"), -len(m)))
        elif threshold == "mean_threshold":
            mean = math.fsum(value.values()) / len(value)
            marked = {p for p in pixels if value[p] > mean}
        else:
            marked = {p for p in pixels if value[p] > fraction * max(0.0, *value.values())}
        scores.append(of_sets(marked, region, measure))
    return torch.tensor(scores, dtype=torch.float64)


@pytest.mark.parametrize("threshold", THRESHOLDS)
@pytest.mark.parametrize("measure", MEASURES)
@pytest.mark.parametrize("levels", [3, 10_000])
def test_equals_a_loop_with_and_without_ties(measure, threshold, levels):
    generator = torch.Generator().manual_seed(levels)
    maps = torch.randint(-levels, levels, (6, 2, 7, 5), generator=generator).double()
    regions = torch.rand(6, 7, 5, generator=generator) > 0.6
    for fraction in (0.0, 0.25, 0.6):
        scores = overlap(maps, regions, measure, threshold, fraction)
        expected = loop(maps, regions, measure, threshold, fraction)
        torch.testing.assert_close(scores, expected, rtol=1e-12, atol=0)


def interpretdl(saliency, region, threshold=0.25):
    """`compute_scores_thresholding`: precision, recall and F1 (its denominator plus 1e-6)."""
    marked = saliency > saliency.max() * threshold
    both = (marked & region).sum().double()
    precision, recall = both / marked.sum(), both / region.sum()
    return precision, recall, 2 * precision * recall / (precision + recall + 1e-6)


def chefer(saliency, region):
    """`imagenet_seg_eval.py` for one picture: IoU and F1 of the object at the mean."""
    scaled = (saliency - saliency.min()) / (saliency.max() - saliency.min())
    marked = scaled > scaled.mean()
    both = (marked & region).sum().double()
    return both / (marked | region).sum(), 2 * both / (marked.sum() + region.sum())


def test_equals_the_public_definitions():
    maps, regions = torch.rand(8, 1, 14, 14).double() ** 3, torch.rand(8, 14, 14) > 0.7
    for saliency, region, one in zip(maps[:, 0], regions, maps[:, None], strict=True):
        for measure, value in zip(
            ("precision", "recall", "f1"), interpretdl(saliency, region), strict=True
        ):
            score = overlap(one, region[None], measure, "fixed_fraction")
            # the 1e-6 that InterpretDL adds to precision + recall is all the difference in F1
            assert score.item() == pytest.approx(value.item(), abs=2e-6 if measure == "f1" else 0)
        for measure, value in zip(("iou", "f1"), chefer(saliency, region), strict=True):
            score = overlap(one, region[None], measure, "mean_threshold")
            assert score.item() == pytest.approx(value.item(), abs=1e-12)


def test_where_the_public_code_is_undefined():
    """An all-zero map: InterpretDL divides 0 by 0; here it marks nothing, scores 0, is counted."""
    empty, region = torch.zeros(4, 4), torch.eye(4, dtype=torch.bool)
    assert interpretdl(empty, region)[0].isnan()
    assert chefer(empty, region)[0] == 0  # of NaN > NaN
    for measure in MEASURES:
        for threshold in ("fixed_fraction", "mean_threshold"):
            assert overlap(empty[None, None], region[None], measure, threshold).item() == 0


@pytest.mark.parametrize("threshold", THRESHOLDS)
@pytest.mark.parametrize("measure", MEASURES)
def test_the_mask_scores_one(measure, threshold):
    regions = torch.rand(4, 9, 9) > 0.6
    scores = overlap(regions[:, None].float(), regions, measure, threshold)
    assert scores.tolist() == [1] * 4


@pytest.mark.parametrize("measure", MEASURES)
def test_closed_forms(measure):
    """A region of a quarter: the complement, a uniform map, one pixel inside."""
    region = torch.zeros(1, 4, 4, dtype=torch.bool)
    region[0, :2, :2] = True
    everything = {"iou": 1 / 4, "precision": 1 / 4, "recall": 1.0, "f1": 2 / 5}[measure]
    single = {"iou": 1 / 4, "precision": 1.0, "recall": 1 / 4, "f1": 2 / 5}[measure]
    complement, uniform = 1 - region[:, None].float(), torch.full((1, 1, 4, 4), 0.1)
    one = torch.zeros(1, 1, 4, 4)
    one[0, 0, 1, 1] = 1
    expected = {
        "fixed_fraction": (0, everything, single),
        "mean_threshold": (0, 0, single),
        # nothing of the complement overlaps; the pixel alone is as good as everything, and smaller
        "best_threshold": (everything, everything, single),
    }
    for threshold, values in expected.items():
        for maps, value in zip((complement, uniform, one), values, strict=True):
            score = overlap(maps, region, measure, threshold).item()
            assert score == pytest.approx(value, abs=1e-12), threshold


def test_the_best_level_bounds_the_others():
    maps, regions = torch.randn(20, 1, 9, 9), torch.rand(20, 9, 9) > 0.6
    for measure in ("iou", "f1"):
        best = overlap(maps, regions, measure, "best_threshold")
        assert (best >= overlap(maps, regions, measure, "mean_threshold")).all()
        for fraction in (0.0, 0.25, 0.5, 0.75):
            assert (best >= overlap(maps, regions, measure, "fixed_fraction", fraction)).all()
    torch.testing.assert_close(
        best, overlap(maps.exp(), regions, "f1", "best_threshold")
    )  # the order is all that counts


@pytest.mark.parametrize("threshold", ["mean_threshold", "best_threshold"])
def test_resizing_a_constant_map_keeps_its_ties(threshold):
    """The levels of a resized constant map differ by rounding, and are one level all the same."""
    regions = torch.zeros(1, 40, 40, dtype=torch.bool)
    regions[0, :10] = True
    score = overlap(torch.full((1, 1, 7, 7), 0.1), regions, "iou", threshold).item()
    assert score == (0.25 if threshold == "best_threshold" else 0)


def test_units_do_not_matter():
    maps, regions = torch.randn(3, 1, 8, 8).double(), torch.rand(3, 8, 8) > 0.5
    for threshold in THRESHOLDS:
        expected = overlap(maps, regions, "f1", threshold)
        for factor in (1e-30, 1e30):
            assert torch.equal(overlap(maps * factor, regions, "f1", threshold), expected)


@pytest.mark.parametrize("threshold", THRESHOLDS)
@pytest.mark.parametrize("measure", MEASURES)
def test_edge_cases_are_flagged(measure, threshold):
    maps = torch.tensor([[0.0, 0], [-1, -2], [2, 1], [math.nan, 1], [math.inf, 1], [1, 1]])
    regions = torch.tensor([[True, False]] * 2 + [[False, False]] + [[True, False]] * 3)
    metric = Overlap(measure, threshold)
    metric.update(maps=maps[:, None, None], regions=regions[:, None])
    scores, flags = metric.latest
    assert scores.isnan().tolist() == [False, False, True, True, True, False]
    negative = Flag.NOTHING_POSITIVE if threshold == "fixed_fraction" else 0
    assert flags.tolist() == [
        Flag.EMPTY_MAP | Flag.TIED,
        negative,
        Flag.EMPTY_REGION,
        Flag.NON_FINITE,
        Flag.NON_FINITE,
        Flag.TIED,
    ]
    assert scores[1] == (0 if threshold == "fixed_fraction" else 1)


def test_what_a_uniform_map_scores_is_declared():
    regions = torch.rand(3, 8, 8) > 0.5
    for measure in MEASURES:
        for threshold in THRESHOLDS:
            metric = Overlap(measure, threshold)
            metric.update(maps=torch.ones(3, 1, 8, 8), regions=regions)
            area = torch.allclose(metric.latest[0], regions.double().mean((1, 2)))
            assert area == metric.chance_is_area


def test_mistakes():
    with pytest.raises(
        ValueError, match="measure must be iou, precision, recall or f1, got 'dice'"
    ):
        Overlap("dice")
    with pytest.raises(
        ValueError, match="threshold must be fixed_fraction, mean_threshold or best"
    ):
        Overlap(threshold="otsu")
    for fraction in (-0.1, 1.0, math.nan):
        with pytest.raises(ValueError, match="fraction must be a share of the maximum"):
            Overlap(fraction=fraction)
