"""Complexity: over how many pixels a map spreads its relevance, as the entropy of its magnitudes.

    H = - Σ_i p_i ln p_i, p = |a| / Σ|a| over P pixels, in [0, ln P] nats

0 is a single pixel, ln P a constant map; exp H is a number of pixels. Lower is simpler. Divided by
ln P, maps of different sizes compare. An all-zero map has no distribution: its score is undefined,
so that emptiness is not the best value. Competition lowers complexity by construction: read it
beside faithfulness or localisation, never alone.

Source: Bhatt, Weller, Moura, "Evaluating and Aggregating Feature-based Model Explanations", IJCAI
2020, arXiv:2005.00631.
"""

import math
from collections.abc import Sequence

import torch
from jaxtyping import Float, Int
from torch import Tensor

from var_exp.metrics.base import Bounds, Flag, SampleMetric
from var_exp.metrics.share import ScoresAndFlags, magnitudes


def complexity(maps: Float[Tensor, "N c h w"], normalise: bool = False) -> Float[Tensor, " N"]:
    """Entropy of the magnitudes of each map.

    Args:
        maps: [N, c, h, w], raw and signed; channels are summed.
        normalise: Divide by ln P, the entropy of a constant map of P pixels, at least 2.

    Returns:
        [N] float64 in [0, ln P] nats, or in [0, 1] normalised; NaN for an all-zero map or one that
        is not finite.

    Raises:
        ValueError: maps are not float [N, c, h, w].
    """
    return _scores(maps, normalise)[0]


class Complexity(SampleMetric):
    """Mean of `complexity`.

    Args:
        normalise: Divide by ln P, the entropy of a constant map.

    Examples:
        >>> metric = Complexity(normalise=True)
        >>> metric.update(maps=torch.tensor([[[[0.0, 2.0, -2.0, 0.0]]]]))
        >>> metric.compute()
        tensor(0.5000, dtype=torch.float64)
    """

    higher_is_better = False
    bounds: Bounds = (0.0, None)  # ln P, which depends on the picture
    rewards_sparsity = True

    def __init__(self, normalise: bool = False) -> None:
        super().__init__()
        self.normalise = normalise
        if normalise:
            self.bounds = (0.0, 1.0)

    def update(
        self,
        *,
        maps: Float[Tensor, "N c h w"],
        classes: Int[Tensor, " N"] | None = None,
        ids: Sequence[str] | None = None,
    ) -> None:
        """Score N maps; classes and ids name the rows (see `SampleMetric.record`)."""
        self.record(*_scores(maps, self.normalise), classes, ids)


def _scores(maps: Tensor, normalise: bool) -> ScoresAndFlags:
    """Scores and flags."""
    values, finite = magnitudes(maps)
    total = values.sum(1, keepdim=True)
    empty = total[:, 0] == 0
    scores = torch.special.entr(values / total).sum(1)
    if normalise:
        scores = scores / math.log(values.shape[1])
    flags = Flag.EMPTY_MAP * empty + Flag.NON_FINITE * ~finite
    return scores.where(finite & ~empty, torch.nan), flags
