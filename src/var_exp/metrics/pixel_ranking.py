"""Pixel average precision and AUC: how well the order of the pixels tells a region from the rest.

    AP  = Σ_n (R_n - R_{n-1}) P_n over the levels n of the map, precision P and recall R from it up
    AUC = P(a pixel inside is above one outside) + 1/2 P(they are equal)

No threshold is chosen and the size of the values does not matter. Equal pixels, the normal case for
refined maps, make one level together, as in scikit-learn, whose figures these are
(`average_precision_score`, `roc_auc_score`); a constant map scores the region's share of the
picture in AP and 1/2 in AUC. AUC weighs all of the background, so a small region is found easily;
AP does not.

Source: Everingham et al., "The Pascal VOC Challenge", IJCV 2010, with the sum of scikit-learn in
place of interpolated precision; Fawcett, "An introduction to ROC analysis", 2006.
"""

from collections.abc import Sequence
from functools import partial
from typing import Literal, get_args

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

from var_exp.metrics.base import Flag, SampleMetric
from var_exp.metrics.share import TIE, ScoresAndFlags, score_in_blocks

RankingMeasure = Literal["average_precision", "auc"]


def pixel_ranking(
    maps: Float[Tensor, "N c h w"],
    regions: Bool[Tensor, "N H W"],
    measure: RankingMeasure = "average_precision",
) -> Float[Tensor, " N"]:
    """Average precision or AUC of the pixels of a map against a region.

    Args:
        maps: [N, c, h, w], raw and signed; channels are summed, then resized to the regions' size.
        regions: [N, H, W] bool.
        measure: "average_precision" or "auc".

    Returns:
        [N] float64 in [0, 1]; NaN for an empty region, for AUC also for one that is the whole
        picture, and for a map that is not finite.

    Raises:
        ValueError: shapes or types that do not belong together, or an unknown measure.
    """
    return _scores(maps, regions, measure)[0]


class PixelRanking(SampleMetric):
    """Mean of `pixel_ranking`.

    Args:
        measure: "average_precision" or "auc".

    Raises:
        ValueError: an unknown measure.

    Examples:
        >>> metric = PixelRanking("auc")
        >>> region = torch.tensor([[[True, True, False, False]]])
        >>> metric.update(maps=torch.tensor([[[[4.0, 0.0, 3.0, 0.0]]]]), regions=region)
        >>> metric.compute()
        tensor(0.6250, dtype=torch.float64)
    """

    higher_is_better = True
    bounds = (0.0, 1.0)

    def __init__(self, measure: RankingMeasure = "average_precision") -> None:
        super().__init__()
        _check(measure)
        self.measure: RankingMeasure = measure
        self.chance_is_area = measure == "average_precision"

    def update(
        self,
        *,
        maps: Float[Tensor, "N c h w"],
        regions: Bool[Tensor, "N H W"],
        classes: Int[Tensor, " N"] | None = None,
        ids: Sequence[str] | None = None,
    ) -> None:
        """Score N maps; classes and ids name the rows (see `SampleMetric.record`)."""
        self.record(*_scores(maps, regions, self.measure), classes, ids)


def _scores(maps: Tensor, regions: Tensor, measure: RankingMeasure) -> ScoresAndFlags:
    """Scores and flags."""
    _check(measure)
    return score_in_blocks(partial(_ranked, measure=measure), maps, regions)


def _ranked(
    values: Float[Tensor, "N H W"], regions: Bool[Tensor, "N H W"], measure: RankingMeasure
) -> ScoresAndFlags:
    """Scores and flags of pixel values."""
    values, order = values.flatten(1).sort(1, descending=True)
    inside = regions.flatten(1).gather(1, order)
    size = values.abs().amax(1, keepdim=True)
    finite = values.isfinite().all(1)
    first, last = _levels(values[:, :-1] - values[:, 1:] > TIE * size)
    hits = inside.cumsum(1)
    area, count = hits[:, -1], inside.shape[1]
    up_to = hits.gather(1, last).double()  # hits from the level of each pixel up
    if measure == "average_precision":
        scores = (inside * up_to / (last + 1)).sum(1) / area.clamp_min(1)
        undefined = area == 0
    else:
        outside = (~inside).cumsum(1).double()
        above = outside.gather(1, first) - (~inside).gather(1, first).double()
        below = outside[:, -1:] - (above + outside.gather(1, last)) / 2  # half of the equal ones
        scores = (inside * below).sum(1) / (area * (count - area)).clamp_min(1)
        undefined = (area == 0) | (area == count)
    tied = ((last > first) & finite[:, None]).any(1)
    flags = (
        Flag.EMPTY_MAP * (size[:, 0] == 0)
        + Flag.EMPTY_REGION * (area == 0)
        + Flag.NON_FINITE * ~finite
        + Flag.TIED * tied
    )
    return scores.where(finite & ~undefined, torch.nan), flags


def _levels(
    falls: Bool[Tensor, "N rest"],
) -> tuple[Int[Tensor, "N P"], Int[Tensor, "N P"]]:
    """First and last place of the level of each pixel, from where the sorted values fall."""
    edge = torch.ones_like(falls[:, :1])
    place = torch.arange(falls.shape[1] + 1, device=falls.device).expand(len(falls), -1)
    first = place.where(torch.cat([edge, falls], 1), 0).cummax(1).values
    last = place.where(torch.cat([falls, edge], 1), falls.shape[1])
    return first, last.flip(1).cummin(1).values.flip(1)


def _check(measure: str) -> None:
    """Refuse an unknown measure."""
    if measure not in get_args(RankingMeasure):
        raise ValueError(f"measure must be average_precision or auc, got '{measure}'.")
