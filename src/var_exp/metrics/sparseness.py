"""Sparseness: how unevenly a map spreads its relevance, as the Gini index of its magnitudes.

    Gini = Σ_i (2i - P - 1) |a|_(i) / (P Σ_i |a|_(i)), |a| ascending over P pixels, in [0, 1 - 1/P]

0 is a constant map, 1 - 1/P a single pixel; higher is sparser. A map that is all zero has no
inequality and scores 0. Competition zeroes most of a map, so it raises sparseness by construction:
read it beside faithfulness or localisation, never alone.

Departure: Quantus adds 1e-7 to every value, so maps in small units lose their sparseness.

Source: Chalasani et al., "Concise Explanations of Neural Networks using Adversarial Training",
ICML 2020, arXiv:1810.06583.
"""

from collections.abc import Sequence

import torch
from jaxtyping import Float, Int
from torch import Tensor

from var_exp.metrics.base import Flag, SampleMetric
from var_exp.metrics.share import ScoresAndFlags, magnitudes


def sparseness(maps: Float[Tensor, "N c h w"]) -> Float[Tensor, " N"]:
    """Gini index of the magnitudes of each map.

    Args:
        maps: [N, c, h, w], raw and signed; channels are summed.

    Returns:
        [N] float64 in [0, 1]; 0 for an all-zero map, NaN for one that is not finite.

    Raises:
        ValueError: maps are not float [N, c, h, w].
    """
    return _scores(maps)[0]


class Sparseness(SampleMetric):
    """Mean of `sparseness`.

    Examples:
        >>> metric = Sparseness()
        >>> metric.update(maps=torch.tensor([[[[0.0, 0.0, -3.0, 0.0]]]]))
        >>> metric.compute()
        tensor(0.7500, dtype=torch.float64)
    """

    higher_is_better = True
    bounds = (0.0, 1.0)
    rewards_sparsity = True

    def update(
        self,
        *,
        maps: Float[Tensor, "N c h w"],
        classes: Int[Tensor, " N"] | None = None,
        ids: Sequence[str] | None = None,
    ) -> None:
        """Score N maps; classes and ids name the rows (see `SampleMetric.record`)."""
        self.record(*_scores(maps), classes, ids)


def _scores(maps: Tensor) -> ScoresAndFlags:
    """Scores and flags."""
    values, finite = magnitudes(maps)
    pixels = values.shape[1]
    weights = torch.arange(1 - pixels, pixels, 2, dtype=values.dtype, device=values.device)
    total = values.sum(1)
    scores = (values.sort(1).values @ weights) / (pixels * total).where(total > 0, 1)
    flags = Flag.EMPTY_MAP * (total == 0) + Flag.NON_FINITE * ~finite
    return scores.where(finite, torch.nan), flags
