"""Class sensitivity: how alike the maps of two classes of the same picture are.

    score = Pearson correlation of the target's map and another class's map over the pixels

1 is one map for both classes, so nothing said about either; 0 is unrelated maps, -1 opposite ones.
Lower is better. A random map scores 0 as well, so read it beside a measure of place.

Source: Rebuffi et al., "There and Back Again", CVPR 2020, arXiv 2004.02866, who compare the classes
of highest and lowest score; here the other class is the next one asked about.
"""

from collections.abc import Sequence

import torch
from jaxtyping import Float, Int
from torch import Tensor

from var_exp.metrics.base import Flag, SampleMetric
from var_exp.metrics.share import ScoresAndFlags, pixel_values
from var_exp.metrics.similarity import correlation


def class_sensitivity(
    maps: Float[Tensor, "N c h w"], other_maps: Float[Tensor, "N _ h w"]
) -> Float[Tensor, " N"]:
    """Pearson correlation of two classes' maps, their channels summed.

    Args:
        maps: [N, c, h, w], raw and signed.
        other_maps: The same of another class of the same picture.

    Returns:
        [N] float64 in [-1, 1]; NaN where a map is constant, such as all zero, or not finite.

    Raises:
        ValueError: maps of different shapes.
    """
    return _scores(maps, other_maps)[0]


class ClassSensitivity(SampleMetric):
    """Mean correlation between the maps of two classes; see `class_sensitivity`.

    Examples:
        >>> metric = ClassSensitivity()
        >>> maps = torch.tensor([[[[1.0, 2.0, 3.0]]]])
        >>> metric.update(maps=maps, other_maps=-maps)
        >>> metric.compute().round(decimals=6)
        tensor(-1., dtype=torch.float64)
    """

    higher_is_better = False
    bounds = (-1.0, 1.0)

    def update(
        self,
        *,
        maps: Float[Tensor, "N c h w"],
        other_maps: Float[Tensor, "N _ h w"],
        classes: Int[Tensor, " N"] | None = None,
        ids: Sequence[str] | None = None,
    ) -> None:
        """Score N maps; classes and ids name the rows (see `SampleMetric.record`)."""
        self.record(*_scores(maps, other_maps), classes, ids)


def _scores(maps: Tensor, other_maps: Tensor) -> ScoresAndFlags:
    """Scores and flags."""
    if maps.ndim != 4 or other_maps.ndim != 4 or _place(maps) != _place(other_maps):
        raise ValueError(
            "maps and other_maps must be [N, c, h, w] of one N, h and w, got "
            f"{list(maps.shape)} and {list(other_maps.shape)}; pass the "
            "maps of another class of the same pictures."
        )
    size = (maps.shape[2], maps.shape[3])
    left, right = (pixel_values(m, size).flatten(1) for m in (maps, other_maps))
    empty = (left == 0).all(1) | (right == 0).all(1)
    finite = left.isfinite().all(1) & right.isfinite().all(1)
    scores = correlation(left, right)
    constant = scores.isnan()
    flags = Flag.EMPTY_MAP * empty + Flag.NON_FINITE * ~finite + Flag.TIED * (constant & finite)
    return scores.where(finite, torch.nan), flags


def _place(maps: Tensor) -> tuple[int, ...]:
    return (len(maps), *maps.shape[2:])
