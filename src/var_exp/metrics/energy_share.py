"""Energy share: of the relevance on an object, how much lies on the part that matters.

    score = sum of positive relevance in region and reference / sum of it in the reference

The energy pointing game with a smaller world: what lies outside the reference does not count. With
the parts of one object as regions it asks which part a map points at, with one of two objects, at
which of them. A uniform map scores the region's share of the reference.

Source: relevance mass accuracy (Arras et al., "CLEVR-XAI", Information Fusion 2022), restricted to
a reference.
"""

from collections.abc import Sequence

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

from var_exp.metrics.base import SampleMetric
from var_exp.metrics.share import ScoresAndFlags, score_in_blocks, share_inside


def energy_share(
    maps: Float[Tensor, "N c h w"],
    regions: Bool[Tensor, "N H W"],
    scope: Bool[Tensor, "N H W"],
) -> Float[Tensor, " N"]:
    """Share of the positive relevance of a reference that lies inside the region.

    Args:
        maps: [N, c, h, w], raw and signed; channels are summed, then resized to the regions' size.
        regions: [N, H, W] bool; only their part inside the reference counts.
        scope: [N, H, W] bool, the reference.

    Returns:
        [N] float64 in [0, 1]; 0 for a map with nothing positive in the reference, NaN for an empty
        region or a map that is not finite.

    Raises:
        ValueError: shapes or types that do not belong together.
    """
    return _scores(maps, regions, scope)[0]


class EnergyShare(SampleMetric):
    """Mean share of the reference's relevance inside the region; see `energy_share`.

    Examples:
        >>> metric = EnergyShare()
        >>> halves = torch.tensor([[[True, True], [False, False]]])
        >>> corner = torch.tensor([[[True, False], [False, False]]])
        >>> metric.update(maps=torch.ones(1, 1, 2, 2), regions=corner, scope=halves)
        >>> metric.compute()
        tensor(0.5000, dtype=torch.float64)
    """

    higher_is_better = True
    bounds = (0.0, 1.0)

    def update(
        self,
        *,
        maps: Float[Tensor, "N c h w"],
        regions: Bool[Tensor, "N H W"],
        scope: Bool[Tensor, "N H W"],
        classes: Int[Tensor, " N"] | None = None,
        ids: Sequence[str] | None = None,
    ) -> None:
        """Score N maps; classes and ids name the rows (see `SampleMetric.record`)."""
        self.record(*_scores(maps, regions, scope), classes, ids)


class IrrelevantEnergyShare(EnergyShare):
    """The same where the region holds what says nothing about the class: lower is better."""

    higher_is_better = False


def _scores(maps: Tensor, regions: Tensor, scope: Tensor) -> ScoresAndFlags:
    """Scores and flags."""
    if scope.shape != regions.shape or scope.dtype != torch.bool:
        raise ValueError(
            f"scope must be a bool tensor {list(regions.shape)} as the regions, got "
            f"{scope.dtype} of shape {list(scope.shape)}; pass one reference per map."
        )
    return score_in_blocks(
        lambda values, inside, scope: share_inside(values, inside, "positive", scope),
        *(maps, regions, scope),
    )
