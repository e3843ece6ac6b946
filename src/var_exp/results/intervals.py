"""Intervals of means and tests of them, over pictures: scores that share a picture depend.

    mean      over all scores, or over the classes' means
    se        standard error by the jackknife: each picture in turn is left out with all its scores
    T         mean / se, Student's t with G - 1 degrees of freedom for G pictures
    g(T)      T + a T² / 3 + a² T³ / 27 + a / 6,  a = skewness of the pictures / sqrt(G)

The interval is the wider, at each end, of Student's and of Hall's, who corrects T for skewness by
g; the p-value is the larger of theirs, so it is below 0.05 exactly where the interval excludes 0.
With as many scores in every picture, Student's is the t-interval of the pictures' means.
`benchmarks/coverage.py` measures how often the interval covers the true mean, beside others.

Source: Efron and Stein, "The Jackknife Estimate of Variance", Annals of Statistics 1981; Hall, "On
the Removal of Skewness by Transformation", JRSS B 1992.
"""

from dataclasses import dataclass, replace

import numpy as np
from jaxtyping import Bool, Float, Int
from scipy import stats

from var_exp.metrics.base import Bounds

_ROUNDING = 1e-12  # of the largest score: spread below it is that of sums of equal numbers


@dataclass(frozen=True)
class Estimate:
    """A mean and how sure it is.

    Attributes:
        value: The mean; NaN when no score is defined.
        low: Lower end of its 95 % interval; NaN with fewer than two pictures.
        high: Upper end.
        p_value: Two-sided, of the hypothesis that the true mean is 0; NaN likewise.
        error: Standard error of the mean; NaN likewise.
        pictures: With a defined score.
    """

    value: float
    low: float
    high: float
    p_value: float
    error: float
    pictures: int

    def within(self, bounds: Bounds) -> "Estimate":
        """The same, its interval without what no score can reach.

        A mean of scores in [0, 1] lies there too, so the interval covers it as often as before.
        """
        lowest, highest = bounds
        low = self.low if lowest is None else max(self.low, min(lowest, self.value))
        high = self.high if highest is None else min(self.high, max(highest, self.value))
        return replace(self, low=low, high=high)


def of_differences(bounds: Bounds) -> Bounds:
    """Bounds of the difference of two scores.

    Examples:
        >>> of_differences((0.0, 1.0)), of_differences((0.0, None))
        ((-1.0, 1.0), (None, None))
    """
    lowest, highest = bounds
    if lowest is None or highest is None:
        return None, None
    return lowest - highest, highest - lowest


def estimate(
    scores: Float[np.ndarray, " U"],
    pictures: Int[np.ndarray, " U"],
    groups: Int[np.ndarray, " U"] | None = None,
) -> Estimate:
    """Mean of scores, its 95 % interval and the test against 0.

    Args:
        scores: NaN is left out.
        pictures: Number of each score's picture.
        groups: Number of each score's group, such as its class, whose means are averaged; None is
            one group.
    """
    defined = np.isfinite(scores)
    nothing = float("nan")
    if not defined.any():
        return Estimate(nothing, nothing, nothing, nothing, nothing, 0)
    scores, pictures = scores[defined], pictures[defined]
    groups = np.zeros_like(pictures) if groups is None else groups[defined]
    value = float(np.mean([scores[groups == group].mean() for group in np.unique(groups)]))
    without = _means_without_each(scores, pictures, groups)
    count = len(without)
    if count < 2:
        return Estimate(value, nothing, nothing, nothing, nothing, count)
    parts = (count - 1) * (without.mean() - without)  # of each picture in the mean, centred
    error = float(np.sqrt((parts**2).sum() / (count * (count - 1))))
    if error <= _ROUNDING * float(np.abs(scores).max()):
        return Estimate(value, value, value, float(value == 0), 0.0, count)
    skewness = float((parts**3).mean() / (parts**2).mean() ** 1.5) / np.sqrt(count)
    quantile = float(stats.t.ppf(0.975, count - 1))
    above = max(quantile, _hall_inverse(quantile, skewness))
    below = min(-quantile, _hall_inverse(-quantile, skewness))
    side = np.sign(value)
    ratio = value / error
    smaller = max(0.0, min(side * ratio, side * _hall(ratio, skewness)))
    return Estimate(
        value,
        value - above * error,
        value - below * error,
        float(2 * stats.t.sf(smaller, count - 1)),
        error,
        count,
    )


def resampled_means(
    scores: Float[np.ndarray, "U V"],
    pictures: Int[np.ndarray, " U"],
    groups: Int[np.ndarray, " U"] | None = None,
    *,
    resamples: int = 2000,
    seed: int = 0,
) -> Float[np.ndarray, "R V"]:
    """Means of the columns in bootstrap resamples of the pictures, the same for all columns.

    Args:
        scores: One row per unit, one column per quantity; all defined.
        pictures: Number of each unit's picture.
        groups: Number of each unit's group, whose means are averaged; None is one group. A group
            that a resample does not draw is left out of it.
        resamples: Number of resamples.
        seed: Of the draws.
    """
    groups = np.zeros_like(pictures) if groups is None else groups
    _, places = np.unique(pictures, return_inverse=True)
    count = int(places.max()) + 1
    parts: list[tuple[Float[np.ndarray, "G V"], Float[np.ndarray, " G"]]] = []
    for group in np.unique(groups):
        own = groups == group
        sums = np.zeros((count, scores.shape[1]))
        np.add.at(sums, places[own], scores[own])
        parts.append((sums, np.bincount(places[own], minlength=count).astype(float)))
    generator = np.random.default_rng(seed)
    means = np.empty((resamples, scores.shape[1]))
    for number in range(resamples):  # one at a time, which bounds the memory
        drawn = generator.integers(count, size=count)
        weights = np.bincount(drawn, minlength=count).astype(float)
        found = [(weights @ sums, weights @ counts) for sums, counts in parts]
        means[number] = np.mean([total / size for total, size in found if size > 0], axis=0)
    return means


def _means_without_each(
    scores: Float[np.ndarray, " U"],
    pictures: Int[np.ndarray, " U"],
    groups: Int[np.ndarray, " U"],
) -> Float[np.ndarray, " G"]:
    """Mean of the groups' means without each picture; a group that goes with it is left out.

    NaN where nothing is left.
    """
    _, owners = np.unique(pictures, return_inverse=True)
    _, kinds = np.unique(groups, return_inverse=True)
    pairs, place = np.unique(owners * (kinds.max() + 1) + kinds, return_inverse=True)
    owner, kind = np.divmod(pairs, kinds.max() + 1)
    sums, counts = np.bincount(place, scores), np.bincount(place)
    totals, sizes = np.bincount(kinds, scores), np.bincount(kinds)
    left: Int[np.ndarray, " P"] = sizes[kind] - counts
    gone: Bool[np.ndarray, " P"] = left == 0
    rest = np.divide(totals[kind] - sums, left, out=np.zeros(len(left)), where=~gone)
    means = totals / sizes
    change = np.bincount(owner, rest - means[kind])
    remaining = len(means) - np.bincount(owner, gone)
    result = np.full(len(change), np.nan)
    np.divide(means.sum() + change, remaining, out=result, where=remaining > 0)
    return result


def _hall(ratio: float, skewness: float) -> float:
    """Hall's g."""
    return ratio + skewness * ratio**2 / 3 + skewness**2 * ratio**3 / 27 + skewness / 6


def _hall_inverse(value: float, skewness: float) -> float:
    """The ratio at which Hall's g has a value; g grows with the ratio."""
    if abs(skewness) < 1e-6:  # where the formula divides by nothing
        return value
    root = np.cbrt(1 + skewness * (value - skewness / 6))
    return float(3 / skewness * (root - 1))
