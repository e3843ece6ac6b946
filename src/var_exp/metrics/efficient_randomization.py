"""Efficient randomisation: does the map become more complex when the model knows nothing any more?

    score = (H(map of the random model) - H(map)) / H(map)

H is the entropy of the values of a map over 100 equal bins between its least and its largest. In
place of comparing two maps, which noise wins (`randomization`), it asks what a random model must
do: tell nothing about anything, so that its map has no structure left. Higher is better. Every
layer is random (`RandomizedModels`), the class and its competitors stay. A map of one value has no
entropy to compare with, and is undefined.

Source: eMPRT of Hedström et al., "Sanity Checks Revisited", 2023, arXiv 2401.06465; bins as in
Quantus, on the map as it is, channels summed.
"""

from collections.abc import Sequence

import numpy as np
import torch
from jaxtyping import Float, Int
from scipy.stats import entropy
from torch import Tensor

from var_exp.metrics.base import Flag
from var_exp.metrics.model_randomization import RandomizationCurve
from var_exp.metrics.reattribution import Reattribute
from var_exp.metrics.share import ScoresAndFlags, pixel_values

_BINS = 100


def histogram_entropy(maps: Float[Tensor, "N c h w"]) -> Float[Tensor, " N"]:
    """Entropy of the values of each map over 100 bins, in nats.

    Args:
        maps: [N, c, h, w], raw and signed; channels are summed.

    Returns:
        [N] float64 in [0, ln 100]; 0 for a constant map, NaN for one that is not finite.
    """
    return _entropies(maps)[0]


class EfficientRandomization(RandomizationCurve):
    """Mean relative rise of the entropy of a map when all layers are random.

    Args:
        seed: Of the random layers.
    """

    higher_is_better = True
    bounds = (-1.0, None)

    def __init__(self, seed: int = 0) -> None:
        super().__init__("top_down", 1, seed)

    def y_label(self) -> str:
        """What the curve shows."""
        return "entropy of the map's values / nats"

    def update(
        self,
        *,
        maps: Float[Tensor, "N c h w"],
        reattribute: Reattribute,
        classes: Int[Tensor, " N"] | None = None,
        ids: Sequence[str] | None = None,
    ) -> None:
        """Score N maps; classes and ids name the rows (see `SampleMetric.record`)."""
        (change,) = self.changes(reattribute)
        points = [_entropies(some) for some in (maps, reattribute.maps(*change))]
        flags = points[0][1] | (points[1][1] & ~Flag.TIED)
        self.keep(torch.stack([scores for scores, _ in points], 1), flags, classes, ids)

    def _value(self, measured: Float[Tensor, "N points"]) -> Float[Tensor, " N"]:
        before, after = measured.unbind(1)
        return (after - before) / before.where(before > 0, torch.nan)


def _entropies(maps: Tensor) -> ScoresAndFlags:
    """Entropies and flags."""
    values = pixel_values(maps, (maps.shape[2], maps.shape[3])).flatten(1)
    finite, empty = values.isfinite().all(1), (values == 0).all(1)
    found = values.new_full((len(values),), torch.nan)
    for n in finite.nonzero()[:, 0].tolist():
        counts, _ = np.histogram(values[n].cpu().numpy(), bins=_BINS)
        found[n] = float(entropy(counts))
    flags = Flag.EMPTY_MAP * empty + Flag.NON_FINITE * ~finite
    return found, flags + Flag.TIED * ((found == 0) & ~empty)
