"""HSIC: how much the logit depends on whether a cell is seen, by a kernel measure of dependence.

    φ_cj = 1/n² tr(K_j H L_c H),   K_j(z, z') = ½ - (z_j - z'_j)²,   H = I - 1/n
    L_c(i, i') = exp(-(y_ci - y_ci')² / (2 width_c²)),   width_c² the mean of (y_ci - y_ci')²

over n masks z, half of which keep cell j, with the logits y. Novello, Fel & Vigouroux 2022, arXiv
2206.06219. Never negative; 0 where the logit has nothing to do with the cell, or does not vary. It
says that the cell matters, not in which direction.

Departures from the paper: the width is the root mean square distance, since medians jump where
masks leave the logit as it is; cells of a grid without smoothing at display. In float64. Cost:
`samples` forward passes; any number of classes is free.
"""

from dataclasses import dataclass

import torch
from jaxtyping import Bool, Float
from torch import Generator, Tensor

from var_exp.methods.segments import SegmentMethod


@dataclass(frozen=True)
class HSIC(SegmentMethod):
    """Dependence of the logit on the cells; one map channel, a pixel has its cell's value.

    Args:
        grid: Cells along a side of the image; grid² features.
        samples: Masks per image.
        seed: Of the masks, combined with each sample's id.

    Raises:
        ValueError: an option out of its range.
    """

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.samples < 2:
            raise ValueError(
                f"samples must be at least 2, got {self.samples}; set samples=1000, for example."
            )

    def _draw(self, generator: Generator) -> Bool[Tensor, "n M"]:
        """Latin hypercube of two levels: half of the masks keep a cell, at random."""
        order = torch.rand(self.samples, self.grid**2, generator=generator).argsort(0)
        return order < self.samples // 2

    def _fit(self, kept: Bool[Tensor, "n M"], scores: Float[Tensor, "n K"]) -> Float[Tensor, "K M"]:
        inputs = kept.to(scores)
        # of zeros and ones H K_j H is 2 c cᵀ, c the centred column
        centred = inputs - inputs.mean(0)
        values = []
        for score in scores.T:
            squares = (score[:, None] - score).square()
            mean = squares.mean()
            similar = (-squares / (2 * mean)).exp() if mean > 0 else squares
            values.append(2 * (centred * (similar @ centred)).mean(0) / len(kept))
        return torch.stack(values)
