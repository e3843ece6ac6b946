"""LIME: ridge regression of the class probability on which cells of the image are kept.

    min over b, φ_c of  Σ_i w_i (softmax(y(x_i))_c - b - z_i·φ_c)² + ridge |φ_c|²
    w_i = exp(-d_i² / (2 width²)),   d_i = 1 - cos(z_i, 1) = 1 - √(|z_i| / M)

Ribeiro et al. 2016, arXiv 1602.04938, with the settings of the authors' explainer for images: every
cell kept with probability 1/2, the whole image among the samples, this kernel, ridge regression on
all cells. As there the score is a probability, not a logit. Different from there: the segments are
cells of a grid instead of superpixels, and a removed one is the data set's mean colour instead of
the segment's own. Solved in float64. Cost: `samples` forward passes; any number of classes is free.
"""

from dataclasses import dataclass

import torch
from jaxtyping import Bool, Float
from torch import Generator, Tensor

from var_exp.engine.scores import class_scores
from var_exp.methods.segments import SegmentMethod, weighted_least_squares
from var_exp.types import Classes, Logits


@dataclass(frozen=True)
class LIME(SegmentMethod):
    """Local linear model of the class probability; one map channel, a pixel has its cell's value.

    The ridge shrinks the coefficients, and the intercept, which is not shrunk, is not shown: the
    map does not sum to anything.

    Args:
        grid: Cells along a side of the image; grid² features.
        samples: Masks per image, the one that keeps everything among them.
        kernel_width: Of the kernel on the cosine distance; > 0, the smaller the more local.
        ridge: Penalty of the squared coefficients; > 0.
        seed: Of the masks, combined with each sample's id.

    Raises:
        ValueError: an option out of its range.
    """

    kernel_width: float = 0.25
    ridge: float = 1.0

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.kernel_width <= 0:
            raise ValueError(
                f"kernel_width must be above 0, got {self.kernel_width}; set kernel_width=0.25."
            )
        if self.ridge <= 0:
            raise ValueError(f"ridge must be above 0, got {self.ridge}; set ridge=1.")

    def _score(self, logits: Logits, classes: Classes) -> Float[Tensor, "B K"]:
        return class_scores(logits.softmax(1), classes)

    def _draw(self, generator: Generator) -> Bool[Tensor, "n M"]:
        kept = torch.rand(self.samples, self.grid**2, generator=generator) < 0.5
        kept[0] = True
        return kept

    def _fit(self, kept: Bool[Tensor, "n M"], scores: Float[Tensor, "n K"]) -> Float[Tensor, "K M"]:
        inputs = kept.to(scores)
        distances = 1 - inputs.mean(1).sqrt()
        weights = (-(distances**2) / (2 * self.kernel_width**2)).exp()  # 1 for the whole image
        # around their weighted mean the inputs leave the intercept alone, so it goes unpenalised
        inputs = inputs - weights @ inputs / weights.sum()
        return weighted_least_squares(inputs, scores, weights, self.ridge).T
