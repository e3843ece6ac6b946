"""Pixel accuracy and mIoU: a map read as a segmentation, object against background.

A pixel is marked where the map is above its mean. Of the four counts of pixels, marked or not and
in the region or not,

    accuracy = (in both + in neither) / pixels
    mIoU     = 1/2 (IoU of the marked with the region + IoU of the others with the background)

The papers on transformers pool the counts of all pictures before they divide, so that large
objects weigh more: `pooled` does that, from the mean counts in `matrix`. The mean of the accuracies
is the pooled one where all pictures have one size; the mean of the mIoUs is not.

Source: Chefer, Gur, Wolf, "Transformer Interpretability Beyond Attention Visualization", CVPR 2021
(ImageNet-Segmentation); min-max scaling before the threshold, as there, changes nothing.
"""

from collections.abc import Sequence
from typing import Literal, get_args

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

from var_exp.metrics.base import Flag
from var_exp.metrics.matrix_metric import MatrixMetric
from var_exp.metrics.share import TIE, MeasuresAndFlags, score_in_blocks

SegmentationMeasure = Literal["accuracy", "miou"]


def segmentation(
    maps: Float[Tensor, "N c h w"],
    regions: Bool[Tensor, "N H W"],
    measure: SegmentationMeasure = "miou",
) -> Float[Tensor, " N"]:
    """Pixel accuracy or mIoU of each map, read as a segmentation at its mean.

    Args:
        maps: [N, c, h, w], raw and signed; channels are summed, then resized to the regions' size.
        regions: [N, H, W] bool.
        measure: "accuracy" or "miou".

    Returns:
        [N] float64 in [0, 1]; NaN for an empty region or a map that is not finite.

    Raises:
        ValueError: shapes or types that do not belong together, or an unknown measure.
    """
    _check(measure)
    return _read(score_in_blocks(_counts, maps, regions)[0], measure)


class Segmentation(MatrixMetric):
    """Mean of `segmentation`, and the pooled figure of the papers.

    Args:
        measure: "accuracy" or "miou".

    Raises:
        ValueError: an unknown measure.

    Examples:
        >>> metric = Segmentation("miou")
        >>> region = torch.tensor([[[True, True, False, False]]])
        >>> metric.update(maps=torch.tensor([[[[4.0, 0.0, 0.0, 0.0]]]]), regions=region)
        >>> metric.compute(), metric.pooled()
        (tensor(0.5833, dtype=torch.float64), tensor(0.5833, dtype=torch.float64))
    """

    higher_is_better = True
    bounds = (0.0, 1.0)
    matrix_axes = ("object, background", "share of the pixels that are marked, not marked")

    def __init__(self, measure: SegmentationMeasure = "miou") -> None:
        super().__init__()
        _check(measure)
        self.measure: SegmentationMeasure = measure

    def update(
        self,
        *,
        maps: Float[Tensor, "N c h w"],
        regions: Bool[Tensor, "N H W"],
        classes: Int[Tensor, " N"] | None = None,
        ids: Sequence[str] | None = None,
    ) -> None:
        """Score N maps; classes and ids name the rows (see `SampleMetric.record`)."""
        counts, flags = score_in_blocks(_counts, maps, regions)
        self.record(_read(counts, self.measure), flags, classes, ids)
        self.matrices.append(counts / regions[0].numel())

    def pooled(self) -> Float[Tensor, ""]:
        """The measure of the counts of all maps together, over all processes; float64."""
        return self.pooled_of(self.matrix())

    def pooled_of(self, matrix: Float[Tensor, "2 2"]) -> Float[Tensor, ""]:
        """The measure of the mean shares of the pixels, as `matrix` has them."""
        return _read(matrix.flatten()[None], self.measure)[0]


def _counts(values: Float[Tensor, "N H W"], regions: Bool[Tensor, "N H W"]) -> MeasuresAndFlags:
    """Pixels [N, 4] of the object and of the background, marked and not; NaN where undefined."""
    values, inside = values.flatten(1), regions.flatten(1)
    finite, size = values.isfinite().all(1), values.abs().amax(1)
    marked = values > (values.mean(1) + TIE * size)[:, None]
    pairs = [i & m for i in (inside, ~inside) for m in (marked, ~marked)]
    counts = torch.stack([both.sum(1) for both in pairs], 1).double()
    empty_region = ~inside.any(1)
    flags = (
        Flag.EMPTY_MAP * (size == 0)
        + Flag.EMPTY_REGION * empty_region
        + Flag.NON_FINITE * ~finite
        + Flag.TIED * (finite & (values.amax(1) - values.amin(1) <= TIE * size))
    )
    return counts.where((finite & ~empty_region)[:, None], torch.nan), flags


def _read(counts: Float[Tensor, "N 4"], measure: SegmentationMeasure) -> Float[Tensor, " N"]:
    """The measure, from the four counts; a background without a pixel is found where none is."""
    hits, missed, false, right = counts.unbind(1)
    if measure == "accuracy":
        return (hits + right) / counts.sum(1)
    background = right + missed + false
    ious = hits / (hits + missed + false), (right / background).where(background != 0, 1.0)
    return (ious[0] + ious[1]) / 2


def _check(measure: str) -> None:
    """Refuse an unknown measure."""
    if measure not in get_args(SegmentationMeasure):
        raise ValueError(f"measure must be accuracy or miou, got '{measure}'.")
