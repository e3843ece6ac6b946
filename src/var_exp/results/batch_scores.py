"""What one batch adds to a run, on its way from the metrics to the store."""

from collections.abc import Sequence
from dataclasses import dataclass, field

import numpy as np
from jaxtyping import Float
from torch import Tensor

from var_exp.metrics.base import Recorded, flag_names
from var_exp.results.rows import Row
from var_exp.variants import Variant


@dataclass
class BatchScores:
    """What one batch adds to a run.

    Attributes:
        ids: The samples that are done with it.
        rows: Their scores.
        details: What a metric knows beyond a score, such as a curve: number of the row, name of the
            metric's state, values.
        facts: Sample id, name and value; a sample may have several values of one name.
    """

    ids: Sequence[str]
    rows: list[Row] = field(default_factory=list)
    details: list[tuple[int, str, Float[np.ndarray, "..."]]] = field(default_factory=list)
    facts: list[tuple[str, str, float]] = field(default_factory=list)

    def add(
        self,
        metric: str,
        variant: Variant,
        owners: Sequence[str],
        classes: Sequence[int],
        recorded: Recorded,
    ) -> None:
        """Add what a metric recorded of N maps, whose samples and classes are given."""
        first = len(self.rows)
        columns = (owners, classes, recorded.scores.tolist(), recorded.flags.tolist())
        self.rows += [
            Row(owner, index, metric, variant, score, flag_names(flags))
            for owner, index, score, flags in zip(*columns, strict=True)
        ]
        for name, values in recorded.details.items():
            known = values.flatten(1).float().cpu().numpy()
            self.details += [(first + n, name, numbers) for n, numbers in enumerate(known)]

    def note(self, name: str, values: Float[Tensor, "B ..."]) -> None:
        """Add one fact, or several of the same name, of each sample."""
        for id, numbers in zip(self.ids, values.reshape(len(self.ids), -1).tolist(), strict=True):
            self.facts += [(id, name, float(number)) for number in numbers]
