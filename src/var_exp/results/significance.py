"""Is a difference real, is a ranking stable, how many samples would it have taken?

Everything is paired over the same samples. The classes asked about one picture share that picture,
so a sample counts once, with the mean over its classes.
"""

from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from math import ceil, isfinite

import numpy as np
from jaxtyping import Float, Int
from scipy import stats

from var_exp.results.bootstrap import cluster_bootstrap
from var_exp.results.rows import Row

SampleScores = Mapping[str, float]
"""Mean score over its classes of each sample, by id; samples without a defined score are absent."""


@dataclass(frozen=True)
class PairedTest:
    """Two columns of scores over the same samples.

    Attributes:
        left: Name of the first column.
        right: Name of the second.
        difference: Mean of left - right.
        ci_low: Lower end of its 95 % bootstrap interval.
        ci_high: Upper end.
        p_value: Two-sided Wilcoxon signed-rank test; 1 when all differences are 0.
        effect: Matched-pairs rank-biserial correlation in [-1, 1]: the share of the rank sum that
            speaks for left, minus the share that speaks for right.
        n: Samples that both columns have.
        needed: Samples that a difference of this size and spread needs to be found with 80 %
            power at the 5 % level; None when the difference is 0.
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
    needed: int | None
    p_holm: float = float("nan")


def sample_scores(rows: Iterable[Row]) -> dict[tuple[str, str], dict[str, float]]:
    """Scores per sample, by (metric, variant).

    A class of which the score is undefined is left out of its sample's mean.
    """
    found: dict[tuple[str, str], dict[str, dict[int, float]]] = defaultdict(
        lambda: defaultdict(dict)
    )
    for row in rows:
        if isfinite(row.score):
            found[row.metric, row.variant.name][row.sample_id][row.class_index] = row.score
    return {
        column: {id: float(np.mean(list(scores.values()))) for id, scores in samples.items()}
        for column, samples in found.items()
    }


def paired_test(
    left: str, right: str, columns: Mapping[str, SampleScores], seed: int = 0
) -> PairedTest | None:
    """Test one column against another; None when they share fewer than two samples.

    Args:
        left: Name of the first column.
        right: Name of the second.
        columns: Scores by column.
        seed: Of the bootstrap.
    """
    common = sorted(columns[left].keys() & columns[right].keys())
    if len(common) < 2:
        return None
    gaps = np.array([columns[left][id] - columns[right][id] for id in common])
    low, high = cluster_bootstrap(gaps[:, None], np.arange(len(gaps)), seed=seed)
    ranks = stats.rankdata(np.abs(gaps[gaps != 0]))
    signs = np.sign(gaps[gaps != 0])
    return PairedTest(
        left,
        right,
        float(gaps.mean()),
        float(low[0]),
        float(high[0]),
        p_value=float(stats.wilcoxon(gaps).pvalue) if len(ranks) else 1.0,
        effect=float((ranks * signs).sum() / ranks.sum()) if len(ranks) else 0.0,
        n=len(common),
        needed=samples_needed(gaps),
    )


def samples_needed(
    gaps: Float[np.ndarray, " N"], power: float = 0.8, level: float = 0.05
) -> int | None:
    """Samples at which a mean difference like this one is found with the stated power.

    By the normal approximation, n = ((z_{1 - level/2} + z_power) * deviation / mean)^2, at least 2.

    Args:
        gaps: [N] differences, N >= 2.
        power: Probability of finding the difference.
        level: Probability of finding one where there is none.

    Returns:
        Number of samples; None for a mean of 0.
    """
    mean = float(gaps.mean())
    if mean == 0:
        return None
    quantiles: float = stats.norm.ppf(1 - level / 2) + stats.norm.ppf(power)
    return max(2, ceil((quantiles * float(gaps.std(ddof=1)) / mean) ** 2))


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
        low: Lower end of the rank's 95 % bootstrap interval over samples.
        high: Upper end.
    """

    name: str
    value: float
    rank: float
    low: float
    high: float


def ranking(
    columns: Mapping[str, SampleScores],
    higher_is_better: bool,
    *,
    resamples: int = 2000,
    seed: int = 0,
) -> list[Rank]:
    """Rank columns by their mean over the samples that all of them have, best first.

    Args:
        columns: Scores by column; at least one.
        higher_is_better: Direction of the metric.
        resamples: Bootstrap resamples of the samples, the same for all columns.
        seed: Of the bootstrap.

    Returns:
        One rank per column; empty when no sample has them all.
    """
    common = sorted(set.intersection(*(set(scores) for scores in columns.values())))
    if not common:
        return []
    scores = np.array([[column[id] for id in common] for column in columns.values()]).T
    draws = np.random.default_rng(seed).integers(len(common), size=(resamples, len(common)))
    weights = np.stack([np.bincount(draw, minlength=len(common)) for draw in draws])
    sign = -1 if higher_is_better else 1
    means = scores.mean(0)
    ranks = stats.rankdata(sign * means)
    resampled = stats.rankdata(sign * (weights @ scores) / len(common), axis=1)
    low, high = np.percentile(resampled, [2.5, 97.5], axis=0)
    found = [
        Rank(name, float(means[i]), float(ranks[i]), float(low[i]), float(high[i]))
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
            if len(common) >= 2 and len(set(first)) > 1 and len(set(second)) > 1:
                agreement[i, j] = stats.kendalltau(first, second).statistic
    return agreement
