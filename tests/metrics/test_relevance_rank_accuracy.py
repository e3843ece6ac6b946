import itertools
import math
import random

import numpy as np
import pytest
import torch

from var_exp.metrics import RelevanceRankAccuracy
from var_exp.metrics.base import Flag
from var_exp.metrics.relevance_rank_accuracy import relevance_rank_accuracy


def row(*values):
    """A map, or a region of zeros and ones, of one row of pixels."""
    return torch.tensor([[[values]]], dtype=torch.float64)


def region(*values):
    return torch.tensor([[values]], dtype=torch.bool)


def all_orders(values, inside):
    """Mean of the score over every order that sorts the values: random tie-breaking in full."""
    k = sum(inside)
    scores = [
        sum(inside[pixel] for pixel in order[:k]) / k
        for order in itertools.permutations(range(len(values)))
        if all(values[a] >= values[b] for a, b in itertools.pairwise(order))
    ]
    return math.fsum(scores) / len(scores)


@pytest.mark.parametrize("seed", range(12))
def test_equals_the_mean_over_all_orders_of_equal_pixels(seed):
    draw = random.Random(seed)
    values = [draw.choice([-1.0, 0.0, 0.0, 2.0]) for _ in range(6)]
    inside = [True, *(draw.random() < 0.5 for _ in range(5))]
    score = relevance_rank_accuracy(row(*values), region(*inside)).item()
    assert score == pytest.approx(all_orders(values, inside), abs=1e-12)


def quantus(maps, regions):
    """Quantus 0.6.0: the first K of argsort, whatever it makes of equal values."""
    scores = []
    for saliency, inside in zip(maps.flatten(1).numpy(), regions.flatten(1).numpy(), strict=True):
        first = np.argsort(-saliency)[: inside.sum()]
        scores.append(inside[first].sum() / inside.sum())
    return torch.tensor(scores, dtype=torch.float64)


def test_equals_quantus_where_nothing_is_tied():
    maps, regions = torch.randn(6, 1, 16, 12), torch.rand(6, 16, 12) > 0.7
    torch.testing.assert_close(
        relevance_rank_accuracy(maps, regions), quantus(maps, regions), rtol=0, atol=1e-12
    )


def test_where_quantus_is_wrong():
    """A constant map has no order, so its score must not tell apart regions of one size."""
    flat, first = torch.ones(1, 1, 4, 4), torch.zeros(1, 4, 4, dtype=torch.bool)
    first[0, 0] = True
    last = first.flip(1)
    assert quantus(flat, first).item() != quantus(flat, last).item()
    assert relevance_rank_accuracy(flat, first).item() == 0.25
    assert relevance_rank_accuracy(flat, last).item() == 0.25


def test_closed_forms():
    regions = torch.rand(5, 8, 8) > 0.7
    masks, area = regions[:, None].double(), regions.double().mean((1, 2))
    assert relevance_rank_accuracy(masks, regions).tolist() == [1] * 5
    # more pixels lie outside than the region has
    assert relevance_rank_accuracy(1 - masks, regions).tolist() == [0] * 5
    for value in (0.0, 0.1, -3.0):
        uniform = torch.full((5, 3, 8, 8), value)
        torch.testing.assert_close(relevance_rank_accuracy(uniform, regions), area)
    everything = torch.ones(5, 8, 8, dtype=torch.bool)
    assert relevance_rank_accuracy(torch.randn(5, 1, 8, 8), everything).tolist() == [1] * 5
    # one pixel inside, the K - 1 other places among all that is left
    one = torch.zeros(1, 1, 4, 4)
    one[0, 0, 0, 0] = 5
    corner = torch.zeros(1, 4, 4, dtype=torch.bool)
    corner[0, :2, :2] = True
    assert relevance_rank_accuracy(one, corner).item() == pytest.approx((1 + 3 * 3 / 15) / 4)


def test_order_is_all_that_counts():
    maps, regions = torch.randn(3, 1, 8, 8), torch.rand(3, 8, 8) > 0.5
    expected = relevance_rank_accuracy(maps, regions)
    torch.testing.assert_close(relevance_rank_accuracy(maps * 1e-30, regions), expected)
    torch.testing.assert_close(relevance_rank_accuracy(maps.exp(), regions), expected)


def test_resizing_a_constant_map_keeps_its_ties():
    regions = torch.rand(1, 40, 40) > 0.5
    score = relevance_rank_accuracy(torch.full((1, 1, 7, 7), 0.1), regions)
    torch.testing.assert_close(score, regions.double().mean((1, 2)))


def test_edge_cases_are_flagged():
    maps = torch.cat([row(0, 0), row(-1, -2), row(1, 1), row(math.nan, 1), row(-math.inf, 1)])
    regions = torch.cat([region(1, 0), region(1, 0), region(0, 0), region(1, 0), region(1, 0)])
    metric = RelevanceRankAccuracy()
    metric.update(maps=maps, regions=regions)
    scores, flags = metric.latest
    assert scores[:2].tolist() == [0.5, 1]
    assert scores[2:].isnan().all()
    assert flags.tolist() == [
        Flag.EMPTY_MAP | Flag.TIED,
        0,
        Flag.EMPTY_REGION,
        Flag.NON_FINITE,
        Flag.NON_FINITE,
    ]


def test_only_ties_at_the_cut_are_flagged():
    metric = RelevanceRankAccuracy()
    maps = torch.cat([row(3, 3, 1, 0), row(3, 1, 1, 0)])
    metric.update(maps=maps, regions=region(1, 0, 1, 0).expand(2, 1, 4))
    assert metric.latest[0].tolist() == [0.5, 0.75]
    assert metric.latest[1].tolist() == [0, Flag.TIED]
