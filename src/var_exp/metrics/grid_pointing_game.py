"""Grid pointing game: of a class's map over a grid of pictures, the share in that class's cell.

    score = sum of positive relevance inside the cell / total positive relevance; chance 1 / n²

Three variants are published that do not compare, so each has its own name in `conf/metric`:
    grid_pointing_game        sum channels, resize, clamp (Rao et al., the official evaluation)
    grid_pointing_game_abs    absolute values instead of the clamp (the same, for guided backprop)
    grid_pointing_game_bcos   smoothed by a mean filter before the clamp (Böhle et al., B-cos)

Departure: the official code scores 0 when the total is below 1e-7; here only when it is 0, so that
the score does not depend on the units of the map.

Source: Rao, Böhle, Schiele, "Towards Better Understanding Attribution Methods", CVPR 2022; Böhle,
Fritz, Schiele, "B-cos Networks", CVPR 2022.
"""

from collections.abc import Sequence

from jaxtyping import Bool, Float, Int
from torch import Tensor
from torch.nn import functional as F  # noqa: N812 (the name everybody knows)

from var_exp.metrics.base import SampleMetric
from var_exp.metrics.share import (
    Counted,
    ScoresAndFlags,
    check_magnitude,
    score_in_blocks,
    share_inside,
)


def grid_pointing_game(
    maps: Float[Tensor, "N c h w"],
    regions: Bool[Tensor, "N H W"],
    magnitude: Counted = "positive",
    smoothing: int = 1,
) -> Float[Tensor, " N"]:
    """Share of the relevance that lies inside the class's cell.

    Args:
        maps: [N, c, h, w], raw and signed; channels are summed, then resized to the grid's size.
        regions: [N, H, W] bool, the cell of each map's class.
        magnitude: "positive" counts only positive values, "abs" all by their size.
        smoothing: Side of the mean filter in grid pixels (zero padding), odd; 1 leaves the map.

    Returns:
        [N] float64 in [0, 1]; 0 for a map with nothing to count, NaN for an empty region or a map
        that is not finite.

    Raises:
        ValueError: shapes or types that do not belong together, or an option out of its range.
    """
    return _scores(maps, regions, magnitude, smoothing)[0]


class GridPointingGame(SampleMetric):
    """Mean share of the relevance inside the class's cell; see `grid_pointing_game`.

    Args:
        magnitude: "positive" or "abs".
        smoothing: Side of the mean filter in grid pixels, odd.

    Raises:
        ValueError: an option out of its range.
    """

    higher_is_better = True
    bounds = (0.0, 1.0)
    chance_is_area = True

    def __init__(self, magnitude: Counted = "positive", smoothing: int = 1) -> None:
        super().__init__()
        check_magnitude(magnitude)
        _check_smoothing(smoothing)
        self.magnitude = magnitude
        self.smoothing = smoothing

    def update(
        self,
        *,
        maps: Float[Tensor, "N c h w"],
        regions: Bool[Tensor, "N H W"],
        classes: Int[Tensor, " N"] | None = None,
        ids: Sequence[str] | None = None,
    ) -> None:
        """Score N maps; classes and ids name the rows (see `SampleMetric.record`)."""
        self.record(*_scores(maps, regions, self.magnitude, self.smoothing), classes, ids)


def _scores(maps: Tensor, regions: Tensor, magnitude: Counted, smoothing: int) -> ScoresAndFlags:
    """Scores and flags."""
    check_magnitude(magnitude)
    _check_smoothing(smoothing)

    def score(values: Tensor, cells: Tensor) -> ScoresAndFlags:
        if smoothing > 1:
            values = F.avg_pool2d(values, smoothing, stride=1, padding=smoothing // 2)
        return share_inside(values, cells, magnitude)

    return score_in_blocks(score, maps, regions)


def _check_smoothing(smoothing: int) -> None:
    """Refuse a filter without a centre."""
    if smoothing < 1 or smoothing % 2 == 0:
        raise ValueError(f"smoothing must be an odd number of pixels, got {smoothing}; 1 is none.")
