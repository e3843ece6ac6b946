"""Gradient SHAP (expected gradients): integrated gradients averaged over random baselines.

    φ_c = E [ (x - x') · d y_c / d x (x' + u (x - x')) ],   u ~ U(0, 1),  x' ~ N(0, σ²)

Erion et al. 2021, arXiv 1906.10670; Lundberg & Lee 2017, arXiv 1705.07874. The mean over `samples`
draws of (u, x') stands for the expectation, in which the maps sum to y_c(x) - E y_c(x').

Departures from the papers: baselines x' come from Gaussian noise around the zero of the normalised
space, the data set's mean colour, and not from a data set; σ is a share of the image's range, as in
SmoothGrad, and the image itself stays without noise. With σ = 0 this is integrated gradients by
Monte Carlo. Cost: `samples` forward and K · samples backward passes.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import Tensor, nn

from var_exp.engine.chunks import add_by_row, check_at_least_one
from var_exp.engine.gradients import class_gradients
from var_exp.engine.noise import check_noise, gaussian_like, generators_of
from var_exp.methods.method import Method
from var_exp.types import Classes, Images, Maps


@dataclass(frozen=True)
class GradientSHAP(Method):
    """Gradients at random points between random baselines and the image; classes share the draws.

    Args:
        samples: Draws per image.
        noise: Standard deviation of the baselines as a share of the image's range (maximum -
            minimum); >= 0.
        seed: Of the draws, combined with each sample's id.

    Raises:
        ValueError: an option out of its range.
    """

    invariant_to_folding: ClassVar[bool] = True

    samples: int = 25
    noise: float = 0.15
    seed: int = 0

    def __post_init__(self) -> None:
        super().__post_init__()
        check_at_least_one(samples=self.samples)
        check_noise(self.noise)

    def _attribute(
        self, model: nn.Module, images: Images, classes: Classes, ids: Sequence[str | None]
    ) -> Maps:
        def contributions(rows: Tensor, draws: Tensor) -> Tensor:
            generators = generators_of(self.seed, ids, rows, draws)
            baselines = gaussian_like(images[rows], self.noise, generators)
            positions = [torch.rand(1, 1, 1, generator=generator) for generator in generators]
            differences = images[rows] - baselines
            points = baselines + torch.stack(positions).to(images) * differences
            gradients = class_gradients(model, points, classes[rows]).gradients
            return gradients.mul_(differences[:, None])

        maps = images.new_zeros(*classes.shape, *images.shape[1:])
        for rows, _, found in self._limit.pairs(len(images), self.samples, contributions):
            add_by_row(maps, rows, found)
        return maps.div_(self.samples)
