"""Is a difference real, is a ranking stable, how many pictures would it have taken?

Everything is paired class by class over the same pictures. The classes asked about one picture
share that picture, so a picture counts once.
"""

from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from math import ceil, isfinite, sqrt

import numpy as np
from jaxtyping import Float, Int
from scipy import stats

from var_exp.metrics.base import Bounds
from var_exp.results.intervals import estimate, of_differences, resampled_means
from var_exp.results.rows import Row

ClassScores = Mapping[tuple[str, int], float]
"""Scores of one metric and variant by sample id and class; what is undefined is absent."""

FEWEST = 10
"""Pictures without which no verdict is given."""
_MANY, _LEVEL, _STRICT = 50, 0.05, 0.02


def verdict_level(pictures: int) -> float:
    """The p-value below which a verdict is given; 0, so none at all, with fewer than `FEWEST`.

    Stricter below 50 pictures, where a sample often misses the rare large differences of a skewed
    distribution: `benchmarks/coverage.py` measures how often a verdict is wrong.
    """
    if pictures < FEWEST:
        return 0.0
    return _STRICT if pictures < _MANY else _LEVEL


@dataclass(frozen=True)
class PairedTest:
    """Two columns of scores over the same maps.

    Attributes:
        left: Name of the first column.
        right: Name of the second.
        difference: Mean of left - right.
        ci_low: Lower end of its 95 % interval over pictures.
        ci_high: Upper end.
        p_value: Two-sided, of the hypothesis that the true mean difference is 0; see `intervals`.
        effect: Matched-pairs rank-biserial correlation in [-1, 1] of the pictures' mean
            differences: the share of the rank sum that speaks for left, minus that for right.
        n: Classes of samples that both columns have a score of.
        pictures: Samples among them.
        needed: Pictures with which a difference of this size and spread is found with 80 % power,
            at the level of a verdict divided by the number of tests made with this one; None when
            the difference is 0, and without an interval.
        p_holm: `p_value` corrected for the tests made with it (Holm 1979).
    """

    left: str
    right: str
    difference: float
    ci_low: float
    ci_high: float
    p_value: float
    effect: float
    n: int
    pictures: int
    needed: int | None
    p_holm: float = float("nan")

    @property
    def decides(self) -> bool:
        """Whether the difference stays significant after the correction."""
        return self.p_holm < verdict_level(self.pictures)


def class_scores(rows: Iterable[Row]) -> dict[tuple[str, str], dict[tuple[str, int], float]]:
    """Defined scores by sample and class, by (metric, variant)."""
    found: dict[tuple[str, str], dict[tuple[str, int], float]] = defaultdict(dict)
    for row in rows:
        if isfinite(row.score):
            found[row.metric, row.variant.name][row.sample_id, row.class_index] = row.score
    return dict(found)


def paired_test(
    left: str,
    right: str,
    columns: Mapping[str, ClassScores],
    *,
    class_means: bool = False,
    tests: int = 1,
    bounds: Bounds = (None, None),
) -> PairedTest | None:
    """Test one column against another, class by class where both have a score.

    The difference and its interval are those that `summary.csv` has of the same pair.

    Args:
        left: Name of the first column.
        right: Name of the second.
        columns: Scores by column.
        class_means: Average the classes' means in place of all differences.
        tests: How many are made together, for `needed`.
        bounds: Lowest and highest score.

    Returns:
        None when they share fewer than two samples.
    """
    common, pictures, classes = _units([columns[left], columns[right]])
    gaps = np.array([columns[left][unit] - columns[right][unit] for unit in common])
    found = estimate(gaps, pictures, classes if class_means else None)
    found = found.within(of_differences(bounds))
    if found.pictures < 2:
        return None
    of_pictures = np.bincount(pictures, gaps) / np.bincount(pictures)
    ranks = stats.rankdata(np.abs(of_pictures[of_pictures != 0]))
    signs = np.sign(of_pictures[of_pictures != 0])
    return PairedTest(
        left,
        right,
        found.value,
        found.low,
        found.high,
        found.p_value,
        effect=float((ranks * signs).sum() / ranks.sum()) if len(ranks) else 0.0,
        n=len(common),
        pictures=found.pictures,
        needed=pictures_needed(found.value, found.error * sqrt(found.pictures), tests=tests),
    )


def _units(
    columns: Sequence[ClassScores],
) -> tuple[list[tuple[str, int]], Int[np.ndarray, " U"], Int[np.ndarray, " U"]]:
    """Classes of samples that all columns have, sorted; number of each one's sample; the class."""
    common = sorted(set.intersection(*(set(scores) for scores in columns)))
    numbers = {id: number for number, id in enumerate(dict.fromkeys(id for id, _ in common))}
    pictures = np.array([numbers[id] for id, _ in common], dtype=int)
    return common, pictures, np.array([label for _, label in common], dtype=int)


def pictures_needed(
    difference: float, deviation: float, *, tests: int = 1, power: float = 0.8
) -> int | None:
    """Pictures at which a mean difference is found with the stated power, at least `FEWEST`.

    n = ((t_{1 - level/2} + z_power) * deviation / difference)^2 with n - 1 degrees of freedom, at
    the level of a verdict divided by the tests (Bonferroni, the hardest case of Holm).

    Args:
        difference: Its size.
        deviation: Standard deviation of the pictures' differences.
        tests: How many are made together.
        power: Probability of finding it.

    Returns:
        Number of pictures; None for a difference of 0 (or of rounding), or a NaN.
    """
    if not isfinite(deviation) or abs(difference) <= 1e-6 * deviation:
        return None
    many = _needed(deviation / difference, _LEVEL / tests, power)
    if many >= _MANY:
        return many
    return min(_MANY, _needed(deviation / difference, _STRICT / tests, power))


def _needed(ratio: float, level: float, power: float) -> int:
    """Pictures at a level; the quantile depends on their number, which settles in a few rounds."""
    count = FEWEST
    for _ in range(20):
        quantiles = stats.t.ppf(1 - level / 2, count - 1) + stats.norm.ppf(power)
        count = max(FEWEST, ceil((quantiles * ratio) ** 2))
    return count


def holm(p_values: Sequence[float]) -> list[float]:
    """Correct p-values of one family of tests by Holm's step-down method (1979).

    Returns:
        Corrected values in the order given; rejecting those below a level keeps the probability of
        any false rejection below it.

    Examples:
        >>> [round(p, 3) for p in holm([0.01, 0.04, 0.03])]
        [0.03, 0.06, 0.06]
    """
    order = np.argsort(p_values, kind="stable")
    factors = np.arange(len(p_values), 0, -1)
    stepped = np.maximum.accumulate(np.asarray(p_values, dtype=float)[order] * factors)
    corrected = np.empty(len(p_values))
    corrected[order] = np.minimum(stepped, 1.0)
    return [float(p) for p in corrected]


@dataclass(frozen=True)
class Rank:
    """Where a column stands among others.

    Attributes:
        name: Of the column.
        value: Its mean score.
        rank: 1 is the best; equal means share their mean rank.
        low: Lower end of the rank's 95 % bootstrap interval over pictures.
        high: Upper end.
    """

    name: str
    value: float
    rank: float
    low: float
    high: float


def ranking(
    columns: Mapping[str, ClassScores],
    higher_is_better: bool,
    *,
    class_means: bool = False,
    resamples: int = 2000,
    seed: int = 0,
) -> list[Rank]:
    """Rank columns by their mean over the maps that all of them have scores of, best first.

    Args:
        columns: Scores by column; at least one.
        higher_is_better: Direction of the metric.
        class_means: Average the classes' means in place of all scores.
        resamples: Bootstrap resamples of the pictures, the same for all columns.
        seed: Of the bootstrap.

    Returns:
        One rank per column; empty when no class of a sample has them all.
    """
    common, pictures, classes = _units(list(columns.values()))
    if not common:
        return []
    groups = classes if class_means else None
    scores = np.array([[column[unit] for unit in common] for column in columns.values()]).T
    sign = -1 if higher_is_better else 1
    means = [estimate(column, pictures, groups).value for column in scores.T]
    ranks = stats.rankdata(sign * np.array(means))
    resampled = resampled_means(scores, pictures, groups, resamples=resamples, seed=seed)
    redrawn = stats.rankdata(sign * resampled, axis=1)
    low = np.percentile(redrawn, 2.5, axis=0, method="lower")  # a rank, not one between two
    high = np.percentile(redrawn, 97.5, axis=0, method="higher")
    found = [
        Rank(name, means[i], float(ranks[i]), float(low[i]), float(high[i]))
        for i, name in enumerate(columns)
    ]
    return sorted(found, key=lambda rank: (rank.rank, rank.name))


def rank_agreement(rankings: Mapping[str, Sequence[Rank]]) -> Float[np.ndarray, "R R"]:
    """Kendall's tau-b between rankings of the same columns, such as those by several metrics.

    Args:
        rankings: At least one, by name; only columns in all of them count.

    Returns:
        [R, R] in [-1, 1]; NaN where a ranking has fewer than two columns or only ties.
    """
    common = sorted(set.intersection(*({r.name for r in ranks} for ranks in rankings.values())))
    by_name = [{r.name: r.rank for r in ranks} for ranks in rankings.values()]
    places: Int[np.ndarray, "R M"] = np.array([[ranks[n] for n in common] for ranks in by_name])
    agreement = np.full((len(places), len(places)), np.nan)
    for i, first in enumerate(places):
        for j, second in enumerate(places):
            if len(common) >= 2:  # of ties alone tau-b is NaN
                agreement[i, j] = stats.kendalltau(first, second).statistic
    return agreement
