"""Average precision and AUC against loops over levels and over pairs, and SciPy's U."""

import pytest
import torch
from scipy.stats import mannwhitneyu

from var_exp.metrics import PixelRanking
from var_exp.metrics.base import Flag
from var_exp.metrics.functional import pixel_ranking


def scene(levels, count=8):
    generator = torch.Generator().manual_seed(levels)
    maps = torch.randint(-levels, levels, (count, 2, 7, 5), generator=generator).double()
    return maps, torch.rand(count, 7, 5, generator=generator) > 0.6


def of_pairs(value, inside):
    """Share of the pairs of a pixel inside and one outside in which the first is above."""
    pairs = [
        1.0 if value[a] > value[b] else 0.5 if value[a] == value[b] else 0.0
        for a in range(len(value))
        for b in range(len(value))
        if inside[a] and not inside[b]
    ]
    return sum(pairs) / len(pairs)


def of_levels(value, inside):
    """Precision at each level, weighted by how much recall it adds."""
    score, recall = 0.0, 0.0
    for level in sorted(set(value), reverse=True):
        marked = [inside[p] for p in range(len(value)) if value[p] >= level]
        new = sum(marked) / sum(inside)
        score += (new - recall) * sum(marked) / len(marked)
        recall = new
    return score


@pytest.mark.parametrize(("measure", "loop"), [("auc", of_pairs), ("average_precision", of_levels)])
@pytest.mark.parametrize("levels", [1, 2, 10_000])
def test_equals_a_loop_with_and_without_ties(measure, loop, levels):
    maps, regions = scene(levels)
    found = pixel_ranking(maps, regions, measure)
    expected = [
        loop(value.tolist(), inside.tolist())
        for value, inside in zip(maps.sum(1).flatten(1), regions.flatten(1), strict=True)
    ]
    torch.testing.assert_close(found, torch.tensor(expected, dtype=torch.float64))


@pytest.mark.parametrize("levels", [2, 10_000])
def test_auc_is_the_statistic_of_mann_and_whitney(levels):
    maps, regions = scene(levels)
    for map_, inside, score in zip(
        maps.sum(1), regions, pixel_ranking(maps, regions, "auc"), strict=True
    ):
        u = mannwhitneyu(map_[inside].numpy(), map_[~inside].numpy()).statistic
        assert score.item() == pytest.approx(u / int(inside.sum()) / int((~inside).sum()))


def test_chance_and_the_ends():
    _, regions = scene(2)
    area = regions.double().mean((1, 2))
    shown = regions[:, None].double()
    constant = torch.full_like(shown, 0.1)
    torch.testing.assert_close(pixel_ranking(constant, regions), area)
    assert (pixel_ranking(constant, regions, "auc") == 0.5).all()
    for measure in ("average_precision", "auc"):
        assert (pixel_ranking(shown, regions, measure) == 1).all()
    assert (pixel_ranking(-shown, regions, "auc") == 0).all()
    # resizing in float64 tears equal values apart: they still make one level
    coarse = torch.full((8, 1, 3, 2), 0.1)
    assert (pixel_ranking(coarse, regions, "auc") == 0.5).all()


def test_what_is_undefined():
    maps, regions = scene(5)
    regions[0], regions[1] = False, True
    for measure, undefined in (("average_precision", [True, False]), ("auc", [True, True])):
        metric = PixelRanking(measure)
        metric.update(maps=maps, regions=regions)
        assert metric.latest[0].isnan()[:2].tolist() == undefined
        assert (metric.latest[1] & Flag.EMPTY_REGION).bool().tolist() == [True] + [False] * 7
    with pytest.raises(ValueError, match="measure must be average_precision or auc, got 'ap'"):
        PixelRanking("ap")
