"""Similarity of maps against SciPy, a plain loop in float64 and closed forms."""

import math

import numpy as np
import pytest
import torch
from scipy import stats

from var_exp.metrics.similarity import average_ranks, map_similarity


@pytest.fixture
def pair():
    """Sparse maps with many ties, of three channels."""
    generator = torch.Generator().manual_seed(0)
    maps = torch.randint(-3, 4, (6, 3, 17, 14), generator=generator).float()
    others = maps + torch.randint(-2, 3, (6, 3, 17, 14), generator=generator)
    keep = torch.rand(6, 1, 17, 14, generator=generator) < 0.4
    return maps * keep, others * keep.roll(2, 3)


def flat(maps):
    return maps.double().sum(1).flatten(1).numpy()


def test_spearman_is_that_of_scipy(pair):
    for similarity, change in (("spearman", lambda v: v), ("spearman_abs", np.abs)):
        expected = [
            stats.spearmanr(change(a), change(b)).statistic
            for a, b in zip(*map(flat, pair), strict=True)
        ]
        assert map_similarity(*pair, similarity).tolist() == pytest.approx(expected, abs=1e-12)


def test_union_leaves_out_where_both_are_zero(pair):
    expected = []
    for a, b in zip(*map(flat, pair), strict=True):
        either = (a != 0) | (b != 0)
        assert 0 < either.sum() < len(either)
        expected.append(stats.spearmanr(a[either], b[either]).statistic)
    assert map_similarity(*pair, "spearman_union").tolist() == pytest.approx(expected, abs=1e-12)


def test_average_ranks_are_those_of_scipy():
    values = torch.randint(0, 9, (5, 60), generator=torch.Generator().manual_seed(1)).double()
    expected = stats.rankdata(values.numpy(), axis=1)
    assert np.array_equal(average_ranks(values).numpy(), expected)


def plain_ssim(a, b):
    """Wang et al. 2004: mean over the places where the window fits."""
    side, sigma, c1, c2 = 11, 1.5, 0.01**2, 0.03**2
    offsets = np.arange(side) - side // 2
    line = np.exp(-(offsets**2) / (2 * sigma**2))
    window = np.outer(line, line) / line.sum() ** 2
    a, b = np.abs(a) / np.abs(a).max(), np.abs(b) / np.abs(b).max()
    found = []
    for y in range(a.shape[0] - side + 1):
        for x in range(a.shape[1] - side + 1):
            p, q = a[y : y + side, x : x + side], b[y : y + side, x : x + side]
            mp, mq = (window * p).sum(), (window * q).sum()
            vp, vq = (window * (p - mp) ** 2).sum(), (window * (q - mq) ** 2).sum()
            cov = (window * (p - mp) * (q - mq)).sum()
            found.append(
                (2 * mp * mq + c1) * (2 * cov + c2) / ((mp**2 + mq**2 + c1) * (vp + vq + c2))
            )
    return np.mean(found)


def test_ssim_is_that_of_a_plain_loop(pair):
    expected = [
        plain_ssim(a, b) for a, b in zip(*(m.double().sum(1).numpy() for m in pair), strict=True)
    ]
    assert map_similarity(*pair, "ssim").tolist() == pytest.approx(expected, abs=1e-9)


SIMILARITIES = ["spearman", "spearman_abs", "spearman_union", "ssim"]


@pytest.mark.parametrize("similarity", SIMILARITIES)
def test_a_map_and_its_multiples_are_alike(pair, similarity):
    maps, _ = pair
    same = map_similarity(maps, maps * 7, similarity)
    assert same.tolist() == pytest.approx([1.0] * 6)
    opposite = map_similarity(maps, -maps, similarity)
    assert opposite.tolist() == pytest.approx(
        [-1.0 if similarity in SIMILARITIES[::2] else 1.0] * 6
    )


@pytest.mark.parametrize("similarity", SIMILARITIES)
def test_undefined_is_nan(pair, similarity):
    maps, _ = pair
    others = maps.clone()
    others[0] = 0
    others[1, 0, 0, 0] = math.nan
    others[2, 0, 0, 0] = math.inf
    scores = map_similarity(maps, others, similarity)
    assert scores.isnan().tolist() == [True, True, True, False, False, False]
    assert map_similarity(others, maps, similarity).isnan()[:3].all()
    assert map_similarity(torch.zeros_like(maps), torch.zeros_like(maps), similarity).isnan().all()
    constant = map_similarity(maps, torch.ones_like(maps), similarity)
    assert constant.isnan().all() == (similarity != "ssim")


def test_refusals():
    maps = torch.rand(2, 1, 12, 12)
    with pytest.raises(ValueError, match="one N, h and w"):
        map_similarity(maps, maps[:, :, :11])
    with pytest.raises(ValueError, match="similarity must be one of spearman"):
        map_similarity(maps, maps, "pearson")
    with pytest.raises(ValueError, match="at least 11 x 11 pixels"):
        map_similarity(maps[..., :8], maps[..., :8], "ssim")
