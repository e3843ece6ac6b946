"""Which samples a report shows: chosen by their scores, the same in every repeat of a run.

Four kinds take turns until enough are found: a random sample, the best and the worst by the
refined map's score, and the one that refining changed most. Without a refiner the base map decides.
"""

from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from hashlib import blake2b
from itertools import cycle
from math import fsum, isfinite, nan
from typing import Literal, get_args

from var_exp.results.rows import Row
from var_exp.variants import BASE

Kind = Literal["random", "best", "worst", "most changed"]


@dataclass(frozen=True)
class Pick:
    """A sample to show.

    Attributes:
        sample_id: Its name.
        kind: Why it was chosen.
        metric: The measure that decided.
        scores: Score of the sample's maps on that measure, by variant and class number.
    """

    sample_id: str
    kind: Kind
    metric: str
    scores: Mapping[tuple[str, int], float]

    def mean(self, variant: str) -> float:
        """Mean score over the classes asked about; NaN when none is defined."""
        return mean_of([score for (name, _), score in self.scores.items() if name == variant])


def pick_at_random(ids: Iterable[str], *, count: int, seed: int) -> list[Pick]:
    """Choose samples of which nothing was measured: those that `pick_samples` calls random."""
    return [Pick(id, "random", "", {}) for id in sorted(ids, key=partial(_lot, seed))[:count]]


def pick_samples(
    rows: Iterable[Row],
    *,
    metric: str,
    higher_is_better: bool,
    count: int,
    seed: int,
) -> list[Pick]:
    """Choose the samples of a gallery.

    Equal scores, and the random samples, are ordered by a hash of seed and id, so that neither the
    order of the rows nor that of the data decides.

    Args:
        rows: Scores of a run; only those of the metric count. The first refiner that they name
            decides, or the base map where there is none, of which nothing changes.
        metric: The measure that decides.
        higher_is_better: Its direction.
        count: At most so many samples.
        seed: Of the order among equals.

    Returns:
        The picks, random ones first, then best, worst and most changed; each sample once.
    """
    scores: dict[str, dict[tuple[str, int], float]] = defaultdict(dict)
    refiner: str | None = None
    for row in rows:
        if row.metric == metric and row.variant.role in ("base", "refined"):
            scores[row.sample_id][row.variant.name, row.class_index] = row.score
            if refiner is None and row.variant.role == "refined":
                refiner = row.variant.name
    candidates = {
        kind: _ranked(scores, kind, higher_is_better, refiner, seed) for kind in get_args(Kind)
    }
    chosen: dict[str, Kind] = {}
    for kind in cycle(candidates):
        if len(chosen) >= count or not any(candidates.values()):
            break
        left = candidates[kind] = [id for id in candidates[kind] if id not in chosen]
        if left:
            chosen[left.pop(0)] = kind
    return [
        Pick(id, kind, metric, scores[id])
        for kind in candidates
        for id, why in chosen.items()
        if why == kind
    ]


def _ranked(
    scores: Mapping[str, Mapping[tuple[str, int], float]],
    kind: Kind,
    higher_is_better: bool,
    refiner: str | None,
    seed: int,
) -> list[str]:
    """Sample ids, those that fit the kind best first; those without a defined score do not."""
    ids = sorted(scores, key=partial(_lot, seed))
    if kind == "random":
        return ids
    worth = {id: _worth(scores[id], kind, higher_is_better, refiner) for id in ids}
    return sorted((id for id in ids if isfinite(worth[id])), key=lambda id: -worth[id])


def _lot(seed: int, id: str) -> bytes:
    """By what equal samples are ordered."""
    return blake2b(f"{seed}/{id}/shown".encode(), digest_size=8).digest()


def _worth(
    scores: Mapping[tuple[str, int], float],
    kind: Kind,
    higher_is_better: bool,
    refiner: str | None,
) -> float:
    """How well a sample fits a kind, NaN when it cannot be said."""
    if kind == "most changed":
        if refiner is None:
            return nan
        return abs(
            mean_of(
                [
                    score - scores[BASE, label]
                    for (name, label), score in scores.items()
                    if name == refiner and (BASE, label) in scores
                ]
            )
        )
    own = mean_of([score for (name, _), score in scores.items() if name == (refiner or BASE)])
    return own if (kind == "best") == higher_is_better else -own


def mean_of(values: Sequence[float]) -> float:
    """Mean of the defined values, whatever their order; NaN when there is none."""
    defined = [value for value in values if isfinite(value)]
    return fsum(defined) / len(defined) if defined else nan
