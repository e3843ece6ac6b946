"""Grid confusion: of each class's map over a grid of pictures, the share in every one of the cells.

    matrix[i, j] = mean share of the positive relevance of the class in cell i that lies in cell j
    score        = share in the own cell - largest share in another one, in [-1, 1]; higher is
                   better

The diagonal of the matrix is the grid pointing game by place. What lies beside it tells a map that
spreads from one that points at a wrong cell, and shows places that draw relevance whatever is in
them. The score asks whether the own cell wins, and by how much; a uniform map leads by 0, and so
does an empty one. Rows of the matrix sum to 1, less the part of the maps that are empty.

Source: this project; the shares are those of the grid pointing game (Rao, Böhle, Schiele, "Towards
Better Understanding Attribution Methods", CVPR 2022).
"""

from collections.abc import Sequence
from functools import partial, reduce

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

from var_exp.metrics.matrix_metric import MatrixMetric
from var_exp.metrics.share import Counted, check_magnitude, score_in_blocks, share_inside


def grid_confusion(
    maps: Float[Tensor, "N c h w"],
    cells: Bool[Tensor, "N A H W"],
    magnitude: Counted = "positive",
) -> Float[Tensor, "N A"]:
    """Share of the relevance in each cell.

    Args:
        maps: [N, c, h, w], raw and signed; channels are summed, then resized to the cells' size.
        cells: [N, A, H, W] bool, the cells of each map's picture; they do not overlap.
        magnitude: "positive" counts only positive values, "abs" all by their size.

    Returns:
        [N, A] float64 in [0, 1]; 0 for a map with nothing to count, NaN for an empty cell or a map
        that is not finite.

    Raises:
        ValueError: shapes or types that do not belong together, cells that overlap, or an unknown
            magnitude.
    """
    return _shares(maps, cells, magnitude)[0]


class GridConfusion(MatrixMetric):
    """Mean lead of the own cell, and the matrix of mean shares.

    Args:
        magnitude: "positive" or "abs".

    Raises:
        ValueError: an unknown magnitude.

    Examples:
        >>> metric = GridConfusion()
        >>> cells = torch.tensor([[[[True, False]], [[False, True]]]])
        >>> maps = torch.tensor([[[[3.0, 1.0]]], [[[0.0, 1.0]]]])
        >>> metric.update(maps=maps, cells=cells.expand(2, -1, -1, -1), own=torch.tensor([0, 1]))
        >>> metric.compute()
        tensor(0.7500, dtype=torch.float64)
        >>> metric.matrix()
        tensor([[0.7500, 0.2500],
                [0.0000, 1.0000]], dtype=torch.float64)
    """

    higher_is_better = True
    bounds = (-1.0, 1.0)
    matrix_axes = ("class of cell", "share in cell")

    def __init__(self, magnitude: Counted = "positive") -> None:
        super().__init__()
        check_magnitude(magnitude)
        self.magnitude: Counted = magnitude

    def update(
        self,
        *,
        maps: Float[Tensor, "N c h w"],
        cells: Bool[Tensor, "N A H W"],
        own: Int[Tensor, " N"],
        classes: Int[Tensor, " N"] | None = None,
        ids: Sequence[str] | None = None,
    ) -> None:
        """Score N maps; own is the number of the cell that belongs to each map's class.

        Raises:
            ValueError: what `grid_confusion` refuses.
        """
        shares, flags = _shares(maps, cells, self.magnitude)
        one = torch.nn.functional.one_hot(own, cells.shape[1]).bool()
        lead = shares[one] - shares.masked_fill(one, -torch.inf).amax(1)
        self.record(lead, flags, classes, ids)
        self.keep_lines(shares, own)


def _shares(
    maps: Tensor, cells: Tensor, magnitude: Counted
) -> tuple[Float[Tensor, "N A"], Int[Tensor, " N"]]:
    """Shares and flags."""
    check_magnitude(magnitude)
    if cells.ndim != 4 or cells.shape[1] < 2 or (cells.sum(1) > 1).any():
        raise ValueError(
            f"cells must be a bool tensor [N, A, H, W] of at least two cells without overlap, got "
            f"{cells.dtype} of shape {list(cells.shape)}; use pictures with a place for each class."
        )
    return score_in_blocks(partial(_shares_of, magnitude=magnitude), maps, cells[:, 0], cells)


def _shares_of(
    values: Float[Tensor, "N H W"],
    _: Bool[Tensor, "N H W"],
    cells: Bool[Tensor, "N A H W"],
    magnitude: Counted,
) -> tuple[Float[Tensor, "N A"], Int[Tensor, " N"]]:
    """Shares and flags of pixel values."""
    scored = [share_inside(values, cell, magnitude) for cell in cells.unbind(1)]
    shares = torch.stack([share for share, _ in scored], 1)
    return shares, reduce(torch.bitwise_or, (flags for _, flags in scored))
