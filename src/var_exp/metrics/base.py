"""What all metrics share: per-sample scores with ids, and a ledger of what was odd about them.

A metric keeps one row per scored map: score, flags and a key made of the sample id and the class.
A key counts once, so the value is the same for any batches, any order and any number of processes,
also where a distributed sampler repeats samples. An undefined score is NaN; it is left out of the
mean and counted in the ledger.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from enum import IntFlag
from functools import cache
from hashlib import blake2b
from typing import Any, ClassVar, Literal, TypeAlias

import torch
from jaxtyping import Float, Int
from torch import Tensor
from torchmetrics import Metric

_UNNAMED = -(2**63)  # the key of rows without id, each of which counts


class Flag(IntFlag):
    """What was odd about one map; the bits add up in `Row.flags`."""

    EMPTY_MAP = 1
    """All zero."""
    EMPTY_REGION = 2
    """No pixel in the region: the score is undefined."""
    NON_FINITE = 4
    """NaN or infinity in the map: the score is undefined."""
    TIED = 8
    """Equal values where they decide the score."""
    NOTHING_POSITIVE = 16
    """Not all zero, but without a value that the measure counts: none is positive, or in scope."""


@cache
def flag_names(flags: int) -> str:
    """Names of the flags of one score, as a row of `scores.csv` has them.

    Examples:
        >>> flag_names(Flag.EMPTY_MAP + Flag.TIED), flag_names(0)
        ('empty_map|tied', '')
    """
    return "|".join(flag.name.lower() for flag in Flag if flag.name and flags & flag)


Average = Literal["samples", "classes"]
Bounds: TypeAlias = tuple[float | None, float | None]
"""The lowest and the highest score that a measure can give; None where it has no bound."""


@dataclass(frozen=True)
class Traits:
    """What a metric is, for those who read its scores; see `SampleMetric`."""

    higher_is_better: bool
    average: Average = "samples"
    rewards_sparsity: bool = False
    bounds: Bounds = (None, None)


@dataclass(frozen=True)
class Recorded:
    """What a metric recorded of N maps.

    Attributes:
        scores: [N] float64, NaN where undefined.
        flags: [N] int64, sums of `Flag` bits.
        details: What the metric knows beyond the score, such as curves: further row states by name,
            [N, ...].
    """

    scores: Float[Tensor, " N"]
    flags: Int[Tensor, " N"]
    details: Mapping[str, Float[Tensor, "N ..."]]


class SampleMetric(Metric):
    """Mean of per-sample scores; subclasses turn their input into scores and call `record`.

    Attributes:
        average: "samples" for the mean over all scores, "classes" for the mean over the classes'
            means, of the classes that have a defined score.
        chance_is_area: Whether a uniform map scores the share of the picture that the region takes.
        about_model: Whether it scores the model rather than the map, and so the base row alone.
        rewards_sparsity: Whether a sparser map scores better by definition, so that a refined map
            gets no verdict on it.
        bounds: The lowest and the highest score; an interval of a mean ends there.
        matrix_state: Row state whose mean is a square matrix to be shown; "" for none.
        matrix_axes: What the rows and the columns of that matrix are.
    """

    is_differentiable = False
    full_state_update = False
    average: Average = "samples"
    chance_is_area = False
    about_model = False
    rewards_sparsity = False
    bounds: Bounds = (None, None)
    matrix_state: ClassVar[str] = ""
    matrix_axes: ClassVar[tuple[str, str]] = ("", "")
    row_states: ClassVar[dict[str, torch.dtype]] = {
        "scores": torch.float64,
        "flags": torch.int64,
        "classes": torch.int64,
        "keys": torch.int64,
    }
    scores: list[Tensor]
    flags: list[Tensor]
    classes: list[Tensor]
    keys: list[Tensor]

    def __init__(self) -> None:
        super().__init__()
        for name in self.row_states:
            self.add_state(name, default=[], dist_reduce_fx="cat")

    def record(
        self,
        scores: Float[Tensor, " N"],
        flags: Int[Tensor, " N"],
        classes: Int[Tensor, " N"] | None,
        ids: Sequence[str] | None,
    ) -> None:
        """Keep one row per map.

        Args:
            scores: [N], NaN where undefined.
            flags: [N], sums of `Flag` bits.
            classes: [N], the class of each map; tells apart the maps of one sample.
            ids: N sample ids; None counts every row.

        Raises:
            ValueError: not one id per map.
        """
        self.scores.append(scores)
        self.flags.append(flags)
        unknown = torch.full_like(flags, -1)
        self.classes.append(unknown if classes is None else classes.to(unknown))
        self.keys.append(_row_keys(len(scores), classes, ids).to(scores.device))

    def compute(self) -> Float[Tensor, ""]:
        """Mean of the defined scores, or of the classes' means; float64, NaN without any."""
        if self.average == "classes":
            means = _class_means(self._rows("scores"), self._rows("classes"))
            return torch.tensor(list(means.values()), dtype=torch.float64).mean().to(self.device)
        return _mean(self._rows("scores"))

    def by_class(self) -> dict[int, float]:
        """Mean of the defined scores of each class, over all processes (call it on each).

        A class without a defined score is not in it; -1 are maps whose class was not given.
        """
        with self.sync_context():
            return _class_means(self._rows("scores"), self._rows("classes"))

    @property
    def traits(self) -> Traits:
        """What it is, for those who read its scores."""
        return Traits(bool(self.higher_is_better), self.average, self.rewards_sparsity, self.bounds)

    @property
    def latest(self) -> tuple[Float[Tensor, " N"], Int[Tensor, " N"]]:
        """Scores and flags of the latest update, in its order."""
        return self.scores[-1], self.flags[-1]

    def drain(self) -> Recorded:
        """Hand out what was recorded so far, in order, and forget it: for runs that store it.

        What is recorded under one key more than once is handed out as often.
        """
        further = [name for name in self.row_states if name not in SampleMetric.row_states]
        recorded = Recorded(
            _joined(self.scores),
            _joined(self.flags),
            {name: _joined(getattr(self, name)) for name in further},
        )
        self.reset()
        return recorded

    def ledger(self) -> dict[str, int]:
        """Counts over all processes (call it on each): samples, undefined scores, every flag."""
        with self.sync_context():
            scores, flags = self._rows("scores"), self._rows("flags")
        counts = {"samples": len(scores), "undefined": int(scores.isnan().sum())}
        return counts | {f.name.lower(): int((flags & f != 0).sum()) for f in Flag if f.name}

    def sync(self, *args: Any, **kwargs: Any) -> None:
        """Gather the rows of all processes, also from one that has none."""
        for name, dtype in self.row_states.items():
            rows = getattr(self, name)
            if isinstance(rows, list) and not rows:  # torchmetrics would send another dtype
                rows.append(torch.empty(0, *self.row_shape(name), dtype=dtype, device=self.device))
        super().sync(*args, **kwargs)

    def row_shape(self, name: str) -> tuple[int, ...]:
        """Shape of one row of a state."""
        return ()

    def _rows(self, name: str) -> Tensor:
        """One state, first row of every key."""
        keys = _joined(self.keys)
        return _joined(getattr(self, name))[_first_rows(keys)]


def _mean(scores: Float[Tensor, " N"]) -> Float[Tensor, ""]:
    """Mean of the defined scores; NaN when there are none."""
    # Sorted, so that the rounding of the sum does not depend on the order of the samples.
    return scores[~scores.isnan()].sort().values.mean()


def _class_means(scores: Float[Tensor, " N"], classes: Int[Tensor, " N"]) -> dict[int, float]:
    """Mean of the defined scores of each class that has some, by class."""
    seen = classes[~scores.isnan()].unique().tolist()
    return {index: _mean(scores[classes == index]).item() for index in seen}


def _joined(rows: list[Tensor] | Tensor) -> Tensor:
    """Return the rows of a state as one tensor, whether gathered yet or not."""
    return torch.cat(rows) if isinstance(rows, list) else rows


def _row_keys(
    count: int, classes: Int[Tensor, " N"] | None, ids: Sequence[str] | None
) -> Int[Tensor, " N"]:
    """64-bit keys of the rows: blake2b of "id/class"."""
    if ids is None:
        return torch.full((count,), _UNNAMED)
    if len(ids) != count:
        raise ValueError(f"ids must hold one id per map, got {len(ids)} ids for {count} maps.")
    labels = [None] * count if classes is None else classes.tolist()
    digests = [
        blake2b(f"{name}/{label}".encode(), digest_size=8).digest()
        for name, label in zip(ids, labels, strict=True)
    ]
    keys = [int.from_bytes(digest, "little", signed=True) for digest in digests]
    return torch.tensor(keys, dtype=torch.int64)


def _first_rows(keys: Int[Tensor, " N"]) -> Int[Tensor, " M"]:
    """Indices of the first row of every key, and of all rows without one, ascending."""
    ordered, order = keys.sort(stable=True)
    new = torch.ones_like(ordered, dtype=torch.bool)
    new[1:] = ordered[1:] != ordered[:-1]
    return order[new | (ordered == _UNNAMED)].sort().values
