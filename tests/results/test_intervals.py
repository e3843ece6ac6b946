"""Means, intervals and p-values against SciPy, loops that leave pictures out, and simulation."""

import math

import numpy as np
import pytest
from scipy import optimize, stats

from var_exp.results.intervals import estimate, of_differences, resampled_means

SYMMETRIC = np.array([0.1, 0.25, 0.3, 0.4, 0.5, 0.55, 0.7])


def figures(found):
    return [found.value, found.low, found.high, found.p_value]


def test_without_skewness_it_is_students_of_scipy():
    theirs = stats.ttest_1samp(SYMMETRIC, 0)
    ends = theirs.confidence_interval()
    found = estimate(SYMMETRIC, np.arange(7))
    assert figures(found) == pytest.approx([0.4, ends.low, ends.high, theirs.pvalue], rel=1e-9)
    assert found.error == pytest.approx(stats.sem(SYMMETRIC))
    assert found.pictures == 7


def test_as_many_scores_in_every_picture_are_one_each():
    generator = np.random.default_rng(0)
    scores = generator.exponential(size=(9, 4))
    pooled = estimate(scores.ravel(), np.repeat(np.arange(9), 4))
    assert figures(pooled) == pytest.approx(figures(estimate(scores.mean(1), np.arange(9))))
    assert pooled.pictures == 9


def test_skewed_scores_get_the_wider_end_of_student_and_hall():
    """Hall's ends found by a root finder, from the formula of the paper."""
    scores = np.random.default_rng(1).lognormal(size=12) - 1
    count, mean = len(scores), scores.mean()
    error = scores.std(ddof=1) / math.sqrt(count)
    skew = stats.skew(scores) / math.sqrt(count)
    quantile = stats.t.ppf(0.975, count - 1)

    def hall(ratio):
        return ratio + skew * ratio**2 / 3 + skew**2 * ratio**3 / 27 + skew / 6

    ends = [
        mean - error * optimize.brentq(lambda r, q=q: hall(r) - q, -1000, 1000)
        for q in (quantile, -quantile)
    ]
    found = estimate(scores, np.arange(count))
    assert found.low == pytest.approx(min(ends[0], mean - quantile * error))
    assert found.high == pytest.approx(max(ends[1], mean + quantile * error))
    ratio = mean / error
    larger = max(2 * stats.t.sf(abs(r), count - 1) for r in (ratio, hall(ratio)))
    assert found.p_value == pytest.approx(larger)


def test_the_p_value_and_the_interval_agree_on_zero():
    generator = np.random.default_rng(2)
    seen = set()
    for trial in range(600):
        scores = generator.choice([-1, 1]) * generator.lognormal(size=5 + trial % 20)
        found = estimate(scores - scores.mean() * generator.uniform(0, 1.2), np.arange(len(scores)))
        excludes = not found.low <= 0 <= found.high
        assert excludes == (found.p_value < 0.05)
        seen.add(excludes)
    assert seen == {True, False}


def test_the_other_sign_turns_everything_round():
    scores, pictures = np.random.default_rng(3).exponential(size=20), np.arange(20) // 2
    there, back = estimate(scores, pictures), estimate(-scores, pictures)
    assert [-back.value, -back.high, -back.low] == pytest.approx(figures(there)[:3])
    assert back.p_value == pytest.approx(there.p_value)


@pytest.mark.parametrize("grouped", [False, True])
def test_the_error_is_that_of_a_loop_that_leaves_pictures_out(grouped):
    """Pictures with different numbers of scores, undefined ones, a group in one picture alone."""
    generator = np.random.default_rng(4)
    pictures = np.array([0, 0, 1, 1, 2, 3, 3, 3, 4, 5])
    groups = np.array([5, 7, 5, 5, 7, 9, 5, 7, 7, 5]) if grouped else None
    scores = generator.normal(size=10)
    scores[[4, 9]] = np.nan  # picture 2 and picture 5 have no defined score at all

    def mean(kept):
        kinds = np.zeros(10) if groups is None else groups
        parts = [scores[kept & (kinds == g) & ~np.isnan(scores)] for g in np.unique(kinds)]
        return np.mean([part.mean() for part in parts if len(part)])

    without = np.array([mean(pictures != number) for number in (0, 1, 3, 4)])
    found = estimate(scores, pictures, groups)
    assert found.value == pytest.approx(mean(pictures >= 0))
    assert found.error == pytest.approx(math.sqrt(3 / 4 * ((without - without.mean()) ** 2).sum()))
    assert found.pictures == 4


def test_two_pictures_have_students_interval():
    found = estimate(np.array([0.2, 0.6]), np.arange(2))
    expected = stats.ttest_1samp([0.2, 0.6], 0)
    interval = expected.confidence_interval(0.95)
    assert (found.low, found.high) == (pytest.approx(interval.low), pytest.approx(interval.high))
    assert found.p_value == pytest.approx(expected.pvalue)


@pytest.mark.parametrize(
    ("bounds", "expected"),
    [((-1.0, 3.0), (-4.0, 4.0)), ((2.0, 5.0), (-3.0, 3.0)), ((None, 1.0), (None, None))],
)
def test_bounds_of_differences(bounds, expected):
    assert of_differences(bounds) == expected


def test_what_has_no_interval():
    nothing = estimate(np.full(3, np.nan), np.arange(3))
    assert all(map(math.isnan, figures(nothing)))
    assert nothing.pictures == 0
    one = estimate(np.array([0.1, 0.3]), np.zeros(2, dtype=int))
    assert one.value == pytest.approx(0.2)
    assert all(map(math.isnan, (*figures(one)[1:], one.error)))
    assert one.pictures == 1


@pytest.mark.parametrize(("level", "p_value"), [(0.3, 0.0), (0.0, 1.0)])
def test_equal_scores_have_an_interval_of_no_width(level, p_value):
    found = estimate(np.full(11, level), np.arange(11))
    assert figures(found) == [pytest.approx(level)] * 3 + [p_value]
    assert found.low == found.high


@pytest.mark.parametrize(
    ("draw", "mean", "least"),
    [
        (lambda g, n: g.normal(size=n), 0.0, 0.93),
        (lambda g, n: g.beta(5, 1, size=n), 5 / 6, 0.92),
        (lambda g, n: g.lognormal(size=n), math.exp(0.5), 0.90),
    ],
    ids=["gaussian", "bounded", "lognormal"],
)
def test_intervals_of_twenty_pictures_cover_the_mean(draw, mean, least):
    """`benchmarks/coverage.py` measures it closely; with 600 trials one in 100 is chance."""
    generator = np.random.default_rng(5)
    pictures = np.repeat(np.arange(20), 4)
    hits = 0
    for _ in range(600):
        scores = draw(generator, 20)[:, None] + generator.normal(0, 0.05, size=(20, 4))
        found = estimate(scores.ravel(), pictures)
        hits += found.low <= mean <= found.high
    assert least <= hits / 600 <= 0.98


def test_an_interval_ends_where_scores_end_and_covers_the_mean_as_often():
    """Three pictures of a score in [0, 1]: Student's interval alone reaches far beyond."""
    generator = np.random.default_rng(8)
    outside = hits = hits_within = 0
    for _ in range(400):
        scores = generator.beta(4, 1, size=3)
        found = estimate(scores, np.arange(3))
        ended = found.within((0.0, 1.0))
        assert 0 <= ended.low <= ended.value <= ended.high <= 1
        assert (ended.value, ended.p_value, ended.error) == (
            found.value,
            found.p_value,
            found.error,
        )
        outside += found.high > 1
        hits += found.low <= 0.8 <= found.high
        hits_within += ended.low <= 0.8 <= ended.high
    assert outside > 300
    assert hits_within == hits
    assert found.within((None, None)) == found
    assert found.within((0.0, None)).high == found.high


def test_resampled_means_are_those_of_a_loop():
    """Groups that a resample does not draw are left out of it."""
    generator = np.random.default_rng(6)
    pictures = np.array([0, 0, 1, 1, 2, 3, 3, 3])
    groups = np.array([5, 7, 5, 5, 7, 9, 5, 7])
    scores = generator.normal(size=(8, 2))
    found = resampled_means(scores, pictures, groups, resamples=200, seed=3)
    draws = np.random.default_rng(3)
    for row in found:
        units = [u for g in draws.integers(4, size=4) for u in np.flatnonzero(pictures == g)]
        kinds = groups[units]
        expected = [scores[units][kinds == kind].mean(0) for kind in np.unique(kinds)]
        np.testing.assert_allclose(row, np.mean(expected, axis=0), rtol=1e-12)


def test_two_thousand_resamples_of_seed_0_unless_asked_otherwise():
    scores, pictures = np.random.default_rng(7).normal(size=(5, 1)), np.arange(5)
    found = resampled_means(scores, pictures)
    draws = np.random.default_rng(0)
    expected = [scores[draws.integers(5, size=5), 0].mean() for _ in range(2000)]
    np.testing.assert_allclose(found[:, 0], expected, rtol=1e-12)
