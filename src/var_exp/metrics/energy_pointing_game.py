"""Energy-based pointing game, also known as relevance mass accuracy.

    score = sum of positive relevance inside the region / total positive relevance

A uniform map scores the region's share of the picture.

Source: Wang et al., "Score-CAM", CVPR-W 2020 (the energy name); Arras et al., "CLEVR-XAI",
Information Fusion 2022 (relevance mass accuracy).
"""

from collections.abc import Sequence
from functools import partial

from jaxtyping import Bool, Float, Int
from torch import Tensor

from var_exp.metrics.base import SampleMetric
from var_exp.metrics.share import (
    Counted,
    ScoresAndFlags,
    check_magnitude,
    score_in_blocks,
    share_inside,
)


def energy_pointing_game(
    maps: Float[Tensor, "N c h w"],
    regions: Bool[Tensor, "N H W"],
    magnitude: Counted = "positive",
) -> Float[Tensor, " N"]:
    """Share of the relevance that lies inside the region.

    Args:
        maps: [N, c, h, w], raw and signed; channels are summed, then resized to the regions' size.
        regions: [N, H, W] bool.
        magnitude: "positive" counts only positive values, "abs" all by their size.

    Returns:
        [N] float64 in [0, 1]; 0 for a map with nothing to count, NaN for an empty region or a map
        that is not finite.

    Raises:
        ValueError: shapes or types that do not belong together, or an unknown magnitude.
    """
    return _scores(maps, regions, magnitude)[0]


class EnergyPointingGame(SampleMetric):
    """Mean share of the relevance inside the region; see `energy_pointing_game`.

    Args:
        magnitude: "positive" or "abs".

    Raises:
        ValueError: an unknown magnitude.

    Examples:
        >>> import torch
        >>> metric = EnergyPointingGame()
        >>> metric.update(maps=torch.ones(1, 3, 2, 2), regions=torch.eye(2, dtype=torch.bool)[None])
        >>> metric.compute()
        tensor(0.5000, dtype=torch.float64)
    """

    higher_is_better = True
    bounds = (0.0, 1.0)
    chance_is_area = True

    def __init__(self, magnitude: Counted = "positive") -> None:
        super().__init__()
        check_magnitude(magnitude)
        self.magnitude = magnitude

    def update(
        self,
        *,
        maps: Float[Tensor, "N c h w"],
        regions: Bool[Tensor, "N H W"],
        classes: Int[Tensor, " N"] | None = None,
        ids: Sequence[str] | None = None,
    ) -> None:
        """Score N maps; classes and ids name the rows (see `SampleMetric.record`)."""
        self.record(*_scores(maps, regions, self.magnitude), classes, ids)


def _scores(maps: Tensor, regions: Tensor, magnitude: Counted) -> ScoresAndFlags:
    """Scores and flags."""
    check_magnitude(magnitude)
    return score_in_blocks(partial(share_inside, magnitude=magnitude), maps, regions)
