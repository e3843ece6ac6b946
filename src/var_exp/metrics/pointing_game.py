"""Pointing game: does the strongest pixel of the map lie on the object, or within 15 px of it?

    hit where min over region pixels r of |p - r|² < tolerance², at p = argmax of the map

Equal maxima are the normal case for sparse maps, so the score is the expected hit rate over all of
them: 0 or 1 for a single maximum, the share of accepted pixels for a constant map. Reference codes
take the first (TorchRay) or call any tie a hit (Quantus). The tolerance is in pixels of the
regions; the customary 15 belongs to pictures of about 500 px.

Published figures on VOC and COCO are means over the classes' hit rates (average="classes"), in
which a rare class weighs as much as a frequent one. A class without a defined score is left out;
TorchRay counts it as 0, which makes no difference on a whole test set, where every class is seen.

Source: Zhang et al., "Top-down Neural Attention by Excitation Backprop", ECCV 2016; tolerance,
strict comparison and the mean over classes as in TorchRay.
"""

import math
from collections.abc import Sequence
from functools import partial
from typing import get_args

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor
from torch.nn import functional as F  # noqa: N812 (the name everybody knows)

from var_exp.metrics.base import Average, Flag, SampleMetric
from var_exp.metrics.share import TIE, ScoresAndFlags, score_in_blocks


def pointing_game(
    maps: Float[Tensor, "N c h w"], regions: Bool[Tensor, "N H W"], tolerance: float = 15.0
) -> Float[Tensor, " N"]:
    """Expected hit rate of the strongest pixels.

    Args:
        maps: [N, c, h, w], raw and signed; channels are summed, then resized to the regions' size.
        regions: [N, H, W] bool.
        tolerance: Distance in pixels; a pixel hits when it is strictly nearer to the region.

    Returns:
        [N] float64 in [0, 1]; NaN for an empty region or a map that is not finite.

    Raises:
        ValueError: shapes or types that do not belong together, or a tolerance not above 0.
    """
    return _scores(maps, regions, tolerance)[0]


class PointingGame(SampleMetric):
    """Mean expected hit rate of the strongest pixels; see `pointing_game`.

    Args:
        tolerance: Distance in pixels of the regions, positive.
        average: "samples" for the mean over all maps, "classes" for the mean over the classes'.

    Raises:
        ValueError: a tolerance not above 0, or an unknown average.
    """

    higher_is_better = True
    bounds = (0.0, 1.0)

    def __init__(self, tolerance: float = 15.0, average: Average = "samples") -> None:
        super().__init__()
        _check_tolerance(tolerance)
        if average not in get_args(Average):
            raise ValueError(f"average must be samples or classes, got '{average}'.")
        self.tolerance = tolerance
        self.average: Average = average

    def update(
        self,
        *,
        maps: Float[Tensor, "N c h w"],
        regions: Bool[Tensor, "N H W"],
        classes: Int[Tensor, " N"] | None = None,
        ids: Sequence[str] | None = None,
    ) -> None:
        """Score N maps; classes and ids name the rows (see `SampleMetric.record`)."""
        self.record(*_scores(maps, regions, self.tolerance), classes, ids)


def _scores(maps: Tensor, regions: Tensor, tolerance: float) -> ScoresAndFlags:
    """Scores and flags."""
    _check_tolerance(tolerance)
    return score_in_blocks(partial(_hit_rates, tolerance=tolerance), maps, regions)


def _hit_rates(
    values: Float[Tensor, "N H W"], regions: Bool[Tensor, "N H W"], tolerance: float
) -> ScoresAndFlags:
    """Scores and flags of pixel values."""
    finite = values.sum((1, 2)).isfinite()
    size = values.abs().amax((1, 2), keepdim=True)
    strongest = values >= values.amax((1, 2), keepdim=True) - TIE * size
    count = strongest.sum((1, 2))
    rates = _peak_hits(values, regions, tolerance).double()
    tied = count > 1
    if tied.any():
        hits = (strongest[tied] & _near(regions[tied], tolerance)).sum((1, 2))
        rates[tied] = hits / count[tied].double()
    empty_region = ~regions.flatten(1).any(1)
    flags = (
        Flag.EMPTY_MAP * (size[:, 0, 0] == 0)
        + Flag.EMPTY_REGION * empty_region
        + Flag.NON_FINITE * ~finite
        + Flag.TIED * tied
    )
    return rates.where(finite & ~empty_region, torch.nan), flags


def _peak_hits(
    values: Float[Tensor, "N H W"], regions: Bool[Tensor, "N H W"], tolerance: float
) -> Bool[Tensor, " N"]:
    """Whether the strongest pixel is near the region: all there is to ask when nothing is tied."""
    height, width = regions.shape[1:]
    peak = values.flatten(1).argmax(1)
    rows = torch.arange(height, device=regions.device) - (peak // width)[:, None]
    columns = torch.arange(width, device=regions.device) - (peak % width)[:, None]
    around = rows[:, :, None] ** 2 + columns[:, None] ** 2 < tolerance**2
    return (around & regions).flatten(1).any(1)


def _near(regions: Bool[Tensor, "N H W"], tolerance: float) -> Bool[Tensor, "N H W"]:
    """All pixels at a distance strictly below the tolerance from the region, column by column."""
    height, width = regions.shape[1:]
    above = F.pad(regions.cumsum(1, dtype=torch.int32), (0, 0, 1, 0))  # region pixels above a row
    rows = torch.arange(height, device=regions.device)
    near = torch.zeros_like(regions)
    for shift in range(min(math.ceil(tolerance), width)):
        reach = max(d for d in range(height) if d**2 + shift**2 < tolerance**2)
        first, last = (rows - reach).clamp_min(0), (rows + reach + 1).clamp_max(height)
        in_column = above[:, last] > above[:, first]
        near[:, :, shift:] |= in_column[:, :, : width - shift]
        near[:, :, : width - shift] |= in_column[:, :, shift:]
    return near


def _check_tolerance(tolerance: float) -> None:
    """Refuse a tolerance that no pixel can meet."""
    if not tolerance > 0:
        raise ValueError(f"tolerance must be a positive number of pixels, got {tolerance}.")
