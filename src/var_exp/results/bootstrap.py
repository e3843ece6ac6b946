"""Intervals of means, by resampling clusters of scores that are not independent."""

from collections.abc import Sequence
from typing import TypeAlias

import numpy as np
from jaxtyping import Float, Int

_CELLS = 2**21  # most weights of a bootstrap held at once: 16 MiB per copy
_Group: TypeAlias = tuple[Int[np.ndarray, " g"], Float[np.ndarray, "g V"], Float[np.ndarray, "g V"]]
"""The clusters that have units of a group, their sums and counts of defined scores."""


def cluster_bootstrap(
    scores: Float[np.ndarray, "U V"],
    clusters: Int[np.ndarray, " U"],
    groups: Int[np.ndarray, " U"] | None = None,
    *,
    resamples: int = 2000,
    seed: int = 0,
) -> tuple[Float[np.ndarray, " V"], Float[np.ndarray, " V"]]:
    """95 % percentile interval of each column's mean, resampling whole clusters.

    All columns see the same resamples. Memory is bounded whatever the number of clusters.

    Args:
        scores: One row per unit, one column per quantity; NaN is left out.
        clusters: Cluster number of each unit, 0 ... G-1; G clusters are drawn with replacement.
        groups: Number of each unit's group, whose means are averaged; None is one group. A group
            that a resample does not draw is left out of it.
        resamples: Number of resamples.
        seed: Of the draws.

    Returns:
        Lower and upper end per column; NaN where fewer than two clusters have a defined score.
    """
    groups = np.zeros_like(clusters) if groups is None else groups
    total = int(clusters.max()) + 1
    defined = np.isfinite(scores)
    filled = np.where(defined, scores, 0.0)
    parts: list[_Group] = []
    for group in np.unique(groups):
        units = groups == group
        own, place = np.unique(clusters[units], return_inverse=True)
        sums = np.zeros((len(own), scores.shape[1]))
        counts = np.zeros_like(sums)
        np.add.at(sums, place, filled[units])
        np.add.at(counts, place, defined[units].astype(float))
        parts.append((own, sums, counts))
    generator = np.random.default_rng(seed)
    means = np.full((resamples, scores.shape[1]), np.nan)
    step = max(1, _CELLS // total)
    for start in range(0, resamples, step):
        size = min(step, resamples - start)
        drawn = generator.integers(total, size=(size, total)) + np.arange(size)[:, None] * total
        weights = np.bincount(drawn.ravel(), minlength=size * total).reshape(size, total)
        means[start : start + size] = _mean_of_groups(weights.astype(float), parts)
    low, high = np.full((2, scores.shape[1]), np.nan)
    clusters_defined = np.zeros((total, scores.shape[1]), dtype=bool)
    np.logical_or.at(clusters_defined, clusters, defined)
    enough = clusters_defined.sum(axis=0) >= 2
    if enough.any():
        low[enough], high[enough] = np.nanpercentile(means[:, enough], [2.5, 97.5], axis=0)
    return low, high


def _mean_of_groups(
    weights: Float[np.ndarray, "R G"],
    parts: Sequence[_Group],
) -> Float[np.ndarray, "R V"]:
    """Mean over the groups' means in each resample."""
    total = np.zeros((len(weights), parts[0][1].shape[1]))
    seen = np.zeros_like(total)
    for own, sums, counts in parts:
        drawn = weights[:, own]
        drawn_counts = drawn @ counts
        total += np.divide(
            drawn @ sums, drawn_counts, out=np.zeros_like(total), where=drawn_counts > 0
        )
        seen += drawn_counts > 0
    return np.divide(total, seen, out=np.full_like(total, np.nan), where=seen > 0)
