"""KernelSHAP: Shapley values of the cells of the image, by weighted least squares.

    min over φ_c of  Σ_z w(z) (y_c(x_z) - y_c(0) - z·φ_c)²   with   Σ_j φ_cj = y_c(x) - y_c(0)
    w(z) = 1 / (s (M - s) n_s),   s = |z| = 1 … M - 1,   n_s the number of coalitions of s cells

Lundberg & Lee 2017, arXiv 1705.07874; x_z keeps the cells z of the image x. The constraint is
solved exactly, in float64: the last coefficient is eliminated. Over all coalitions the solution is
the Shapley values, and all are taken where `samples` allows. Else those of 1 and of M - 1 cells
are, which determine every coefficient; the rest is drawn, its sizes by the kernel's weight, each
coalition with its complement. The result is then exact where no more than two cells interact,
linear models included, and an estimate elsewhere. Cost: at most `samples` + 2 forward passes; any
number of classes is free.
"""

from dataclasses import dataclass

import torch
from jaxtyping import Bool, Float
from torch import Generator, Tensor

from var_exp.methods.segments import SegmentMethod, weighted_least_squares


@dataclass(frozen=True)
class KernelSHAP(SegmentMethod):
    """Shapley values of the logit; one map channel, a pixel has the value of its whole cell.

    The values of the cells (not of the pixels) sum to y_c(x) - y_c(0) up to rounding.

    Args:
        grid: Cells along a side of the image; grid² features.
        samples: Coalitions per image, beside the whole and the empty image; at least 2 grid², and
            better ten times as many. From 2^(grid²) - 2 on the values are exact: 14 for grid=2,
            510 for grid=3. Of an odd number the last is left out.
        seed: Of the coalitions, combined with each sample's id.

    Raises:
        ValueError: an option out of its range.
    """

    def __post_init__(self) -> None:
        super().__post_init__()
        least = 2 * self.grid**2
        if self.samples < least:
            raise ValueError(
                f"samples must be at least {least}, twice the cells of grid={self.grid}, got "
                f"{self.samples}; set samples={least} or more, or a smaller grid."
            )

    def _draw(self, generator: Generator) -> Bool[Tensor, "n M"]:
        """The whole image, the empty one, and the coalitions."""
        cells = self.grid**2
        ends = torch.tensor([[True], [False]]).expand(2, cells)
        if self.samples >= 2**cells - 2:
            numbers = torch.arange(1, 2**cells - 1)
            return torch.cat([ends, (numbers[:, None] >> torch.arange(cells)) % 2 == 1])
        single = torch.eye(cells, dtype=torch.bool)
        sizes = torch.arange(2, cells - 1)
        shares = (1 / (sizes * (cells - sizes)).double()).cumsum(0)
        chances = torch.rand(self.samples // 2 - cells, 1, generator=generator).double()
        chosen = sizes[torch.searchsorted(shares / shares[-1], chances, right=True)]
        order = torch.rand(len(chosen), cells, generator=generator).argsort(1)
        half = order < chosen  # a random permutation holds each number of cells at random places
        return torch.cat([ends, single, ~single, half, ~half])

    def _fit(self, kept: Bool[Tensor, "n M"], scores: Float[Tensor, "n K"]) -> Float[Tensor, "K M"]:
        whole, empty, scores = scores[0], scores[1], scores[2:]
        coalitions, sizes = kept[2:].to(scores), kept[2:].sum(1)
        of_size = sizes * (kept.shape[1] - sizes) * sizes.bincount()[sizes]
        last = coalitions[:, -1:]
        others = weighted_least_squares(
            coalitions[:, :-1] - last,
            scores - empty - last * (whole - empty),
            1 / of_size.to(scores),
        )
        return torch.cat([others, (whole - empty - others.sum(0))[None]]).T
