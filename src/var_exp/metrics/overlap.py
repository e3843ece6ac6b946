"""Overlap: how well the pixels that a map marks cover a region, as in segmentation.

    IoU = |marked ∩ region| / |marked ∪ region|      precision = |marked ∩ region| / |marked|
    F1  = 2 |marked ∩ region| / (|marked| + |region|)   recall = |marked ∩ region| / |region|

What a map marks depends on the threshold, so its name is part of the metric's name:
    fixed_fraction   values above a fraction of the maximum, 1/4 unless told otherwise (InterpretDL)
    mean_threshold   values above the mean of the map (Chefer et al., ImageNet-Segmentation)
    best_threshold   values from the level up whose marks have the highest IoU, and so the highest
                     F1: an upper bound that knows the region; of equally good levels the highest;
                     precision and recall are those at this level, and only tell how F1 comes about

Both published thresholds are strict: a pixel at the threshold is not marked. A map that marks
nothing scores 0 in all four: one without a positive value (fixed fraction), a constant one (mean).
The best level depends on the order of the pixels only, and a map without any order marks them all.

Departures: the published IoU (Chefer) pools the pixels of the whole data set and averages over
object and background; here it is that of the object, per sample. InterpretDL adds 1e-6 to F1's
denominator and leaves 0 / 0 unguarded.

Source: InterpretDL, `evaluate_models/localization.py`; Chefer, Gur, Wolf, "Transformer
Interpretability Beyond Attention Visualization", CVPR 2021.
"""

from collections.abc import Sequence
from functools import partial
from typing import Literal, get_args

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

from var_exp.metrics.base import Flag, SampleMetric
from var_exp.metrics.share import TIE, ScoresAndFlags, score_in_blocks

Measure = Literal["iou", "precision", "recall", "f1"]
Threshold = Literal["fixed_fraction", "mean_threshold", "best_threshold"]


def overlap(
    maps: Float[Tensor, "N c h w"],
    regions: Bool[Tensor, "N H W"],
    measure: Measure = "iou",
    threshold: Threshold = "fixed_fraction",
    fraction: float = 0.25,
) -> Float[Tensor, " N"]:
    """IoU, precision, recall or F1 of the marked pixels and the region.

    Args:
        maps: [N, c, h, w], raw and signed; channels are summed, then resized to the regions' size.
        regions: [N, H, W] bool.
        measure: "iou", "precision", "recall" or "f1".
        threshold: "fixed_fraction", "mean_threshold" or "best_threshold", see above.
        fraction: Of the maximum, in [0, 1); for "fixed_fraction" only.

    Returns:
        [N] float64 in [0, 1]; NaN for an empty region or a map that is not finite.

    Raises:
        ValueError: shapes or types that do not belong together, or an option out of its range.
    """
    return _scores(maps, regions, measure, threshold, fraction)[0]


class Overlap(SampleMetric):
    """Mean of `overlap`.

    Args:
        measure: "iou", "precision", "recall" or "f1".
        threshold: "fixed_fraction", "mean_threshold" or "best_threshold".
        fraction: Of the maximum, in [0, 1); for "fixed_fraction" only.

    Raises:
        ValueError: an option out of its range.

    Examples:
        >>> metric = Overlap("iou")
        >>> region = torch.tensor([[[True, True, False, False]]])
        >>> metric.update(maps=torch.tensor([[[[4.0, 1.0, 3.0, 0.0]]]]), regions=region)
        >>> metric.compute()
        tensor(0.3333, dtype=torch.float64)
    """

    higher_is_better = True
    bounds = (0.0, 1.0)

    def __init__(
        self,
        measure: Measure = "iou",
        threshold: Threshold = "fixed_fraction",
        fraction: float = 0.25,
    ) -> None:
        super().__init__()
        _check_options(measure, threshold, fraction)
        self.measure: Measure = measure
        self.threshold: Threshold = threshold
        self.fraction = fraction
        # A uniform map marks everything, or nothing where the mean decides.
        self.chance_is_area = measure in ("iou", "precision") and threshold != "mean_threshold"

    def update(
        self,
        *,
        maps: Float[Tensor, "N c h w"],
        regions: Bool[Tensor, "N H W"],
        classes: Int[Tensor, " N"] | None = None,
        ids: Sequence[str] | None = None,
    ) -> None:
        """Score N maps; classes and ids name the rows (see `SampleMetric.record`)."""
        options = (self.measure, self.threshold, self.fraction)
        self.record(*_scores(maps, regions, *options), classes, ids)


def _scores(
    maps: Tensor, regions: Tensor, measure: Measure, threshold: Threshold, fraction: float
) -> ScoresAndFlags:
    """Scores and flags."""
    _check_options(measure, threshold, fraction)
    score = partial(_overlaps, measure=measure, threshold=threshold, fraction=fraction)
    return score_in_blocks(score, maps, regions)


def _overlaps(
    values: Float[Tensor, "N H W"],
    regions: Bool[Tensor, "N H W"],
    measure: Measure,
    threshold: Threshold,
    fraction: float,
) -> ScoresAndFlags:
    """Scores and flags of pixel values."""
    values, inside = values.flatten(1), regions.flatten(1)
    highest, area = values.amax(1), inside.sum(1)
    finite, size = values.isfinite().all(1), values.abs().amax(1)
    if threshold == "best_threshold":
        hits, marked = _best_level(values, inside, size)
    else:
        mean = threshold == "mean_threshold"
        cut = values.mean(1) if mean else fraction * highest
        above = values > (cut + TIE * size)[:, None]
        hits, marked = (above & inside).sum(1), above.sum(1)
    both: dict[Measure, Tensor] = {
        "iou": marked + area - hits,
        "precision": marked,
        "recall": area,
        "f1": (marked + area) / 2,
    }
    scores = hits / both[measure].double().where(hits > 0, 1)
    empty = size == 0
    nothing = (highest <= 0) & ~empty & (threshold == "fixed_fraction")
    constant = highest - values.amin(1) <= TIE * size
    flags = (
        Flag.EMPTY_MAP * empty
        + Flag.NOTHING_POSITIVE * nothing
        + Flag.EMPTY_REGION * (area == 0)
        + Flag.NON_FINITE * ~finite
        + Flag.TIED * (finite & constant)
    )
    return scores.where(finite & (area > 0), torch.nan), flags


def _best_level(
    values: Float[Tensor, "N P"], inside: Bool[Tensor, "N P"], size: Float[Tensor, " N"]
) -> tuple[Int[Tensor, " N"], Int[Tensor, " N"]]:
    """Pixels inside and in all from the level up whose IoU is highest; equal values go together."""
    values, order = values.sort(1, descending=True)
    hits = inside.gather(1, order).cumsum(1)
    marked = torch.arange(1, values.shape[1] + 1, device=values.device).expand_as(hits)
    iou = hits / (marked + hits[:, -1:] - hits).double()
    torn = values[:, :-1] - values[:, 1:] <= TIE * size[:, None]  # a level cannot end here
    iou[:, :-1].masked_fill_(torn, -1)
    best = iou.argmax(1, keepdim=True)  # the first of equally good ones
    return hits.gather(1, best)[:, 0], marked.gather(1, best)[:, 0]


def _check_options(measure: str, threshold: str, fraction: float) -> None:
    """Refuse what is out of its range."""
    if measure not in get_args(Measure):
        raise ValueError(f"measure must be iou, precision, recall or f1, got '{measure}'.")
    if threshold not in get_args(Threshold):
        raise ValueError(
            "threshold must be fixed_fraction, mean_threshold or best_threshold, got "
            f"'{threshold}'."
        )
    if not 0 <= fraction < 1:
        raise ValueError(f"fraction must be a share of the maximum in [0, 1), got {fraction}.")
