import math

import numpy as np
from var_exp.results.bootstrap import cluster_bootstrap


def test_cluster_bootstrap_is_the_loop_over_resampled_ids():
    generator = np.random.default_rng(0)
    clusters = np.array([0, 0, 0, 1, 2, 2, 3, 4, 4, 4, 4])
    scores = generator.normal(size=(11, 2))
    scores[[1, 6], [0, 0]] = np.nan  # cluster 3 has no defined score in the first column
    low, high = cluster_bootstrap(scores, clusters, resamples=400, seed=7)
    draws = np.random.default_rng(7).integers(5, size=(400, 5))
    for column in range(2):
        means = []
        for draw in draws:
            pooled = [s for g in draw for s in scores[clusters == g, column] if not math.isnan(s)]
            if pooled:
                means.append(sum(pooled) / len(pooled))
        expected = np.percentile(means, [2.5, 97.5])
        np.testing.assert_allclose([low[column], high[column]], expected, rtol=1e-12)


def test_groups_are_averaged_in_every_resample():
    """Against a loop; groups that a resample does not draw are left out of it."""
    generator = np.random.default_rng(1)
    clusters = np.array([0, 0, 1, 1, 2, 3, 3, 3])
    groups = np.array([5, 7, 5, 5, 7, 9, 5, 7])
    scores = generator.normal(size=(8, 2))
    scores[4, 1] = np.nan
    low, high = cluster_bootstrap(scores, clusters, groups, resamples=300, seed=3)
    draws = np.random.default_rng(3).integers(4, size=(300, 4))
    for column in range(2):
        means = []
        for draw in draws:
            by_group = {}
            for unit in (u for g in draw for u in np.flatnonzero(clusters == g)):
                if not math.isnan(scores[unit, column]):
                    by_group.setdefault(groups[unit], []).append(scores[unit, column])
            if by_group:
                means.append(np.mean([np.mean(values) for values in by_group.values()]))
        expected = np.percentile(means, [2.5, 97.5])
        np.testing.assert_allclose([low[column], high[column]], expected, rtol=1e-12)


def test_interval_covers_the_truth_about_95_times_in_100():
    generator = np.random.default_rng(0)
    clusters = np.repeat(np.arange(80), 3)
    hits = 0
    for _ in range(400):
        scores = generator.normal(size=(80, 1)).repeat(3, axis=0) + generator.normal(size=(240, 1))
        low, high = cluster_bootstrap(scores, clusters, resamples=300)
        hits += bool(low[0] <= 0 <= high[0])
    assert 0.91 <= hits / 400 <= 0.98
