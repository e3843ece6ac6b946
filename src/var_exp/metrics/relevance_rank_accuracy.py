"""Relevance rank accuracy: of the K strongest pixels, the share inside a region of K pixels.

    score = |top K pixels ∩ region| / K, K = |region|

Refined maps are mostly zeros, so the K-th place often falls among equal pixels. The score is then
the expected value under random tie-breaking: all inside pixels above the cut, and of the equal ones
the share that still finds room,

    score = (inside above + inside equal · (K - above) / equal) / K

A uniform map scores the region's share of the picture, and so does an all-zero one. Quantus lets
argsort decide instead, which is the order of the pixels in memory.

Source: Arras, Osman, Samek, "CLEVR-XAI", Information Fusion 2022, arXiv:2003.07258.
"""

from collections.abc import Sequence

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

from var_exp.metrics.base import Flag, SampleMetric
from var_exp.metrics.share import TIE, ScoresAndFlags, score_in_blocks


def relevance_rank_accuracy(
    maps: Float[Tensor, "N c h w"], regions: Bool[Tensor, "N H W"]
) -> Float[Tensor, " N"]:
    """Expected share of the strongest pixels inside the region, as many as the region has.

    Args:
        maps: [N, c, h, w], raw and signed; channels are summed, then resized to the regions' size.
        regions: [N, H, W] bool.

    Returns:
        [N] float64 in [0, 1]; NaN for an empty region or a map that is not finite.

    Raises:
        ValueError: shapes or types that do not belong together.
    """
    return score_in_blocks(_accuracies, maps, regions)[0]


class RelevanceRankAccuracy(SampleMetric):
    """Mean of `relevance_rank_accuracy`.

    Examples:
        >>> metric = RelevanceRankAccuracy()
        >>> region = torch.tensor([[[True, True, False, False]]])
        >>> metric.update(maps=torch.tensor([[[[4.0, 0.0, 3.0, 0.0]]]]), regions=region)
        >>> metric.compute()
        tensor(0.5000, dtype=torch.float64)
    """

    higher_is_better = True
    bounds = (0.0, 1.0)
    chance_is_area = True

    def update(
        self,
        *,
        maps: Float[Tensor, "N c h w"],
        regions: Bool[Tensor, "N H W"],
        classes: Int[Tensor, " N"] | None = None,
        ids: Sequence[str] | None = None,
    ) -> None:
        """Score N maps; classes and ids name the rows (see `SampleMetric.record`)."""
        self.record(*score_in_blocks(_accuracies, maps, regions), classes, ids)


def _accuracies(values: Float[Tensor, "N H W"], regions: Bool[Tensor, "N H W"]) -> ScoresAndFlags:
    """Scores and flags of pixel values."""
    values, inside = values.flatten(1), regions.flatten(1)
    finite, size = values.isfinite().all(1), values.abs().amax(1, keepdim=True)
    places = inside.sum(1, keepdim=True)  # K
    last = (places - 1).clamp_min(0)
    cut = values.sort(1, descending=True).values.gather(1, last)
    above = values > cut + TIE * size
    equal = (values >= cut - TIE * size) & ~above
    room, rivals = places - above.sum(1, keepdim=True), equal.sum(1, keepdim=True)
    share = room.double() / rivals.clamp_min(1)
    hits = (above & inside).sum(1) + (equal & inside).sum(1) * share[:, 0]
    empty_region = places[:, 0] == 0
    flags = (
        Flag.EMPTY_MAP * (size[:, 0] == 0)
        + Flag.EMPTY_REGION * empty_region
        + Flag.NON_FINITE * ~finite
        + Flag.TIED * (finite & ~empty_region & (rivals > room)[:, 0])
    )
    scores = hits / places[:, 0].clamp_min(1)
    return scores.where(finite & ~empty_region, torch.nan), flags
