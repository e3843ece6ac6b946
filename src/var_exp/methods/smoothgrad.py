"""SmoothGrad and VarGrad: mean and variance of the gradient over noisy copies of the image.

With g_i = d y_c / d x (x + ε_i), ε_i ~ N(0, σ²), i = 1 … n:

smoothgrad    mean of g_i                      Smilkov et al. 2017, arXiv 1706.03825
vargrad       mean of (g_i - mean of g)²       Adebayo et al. 2018, arXiv 1810.03292

σ is a share of each image's own range of values, as in the first paper. SmoothGrad stays signed
(the paper shows absolute values). VarGrad is never negative: it is the variance of the n draws
(divided by n, as in Captum), in the squared units of a gradient.
Cost: `samples` forward and K · samples backward passes.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import ClassVar

import torch
from jaxtyping import Float, Int
from torch import Tensor, nn

from var_exp.engine.chunks import add_by_row, check_at_least_one
from var_exp.engine.gradients import class_gradients
from var_exp.engine.noise import check_noise, gaussian_like, generators_of
from var_exp.methods.method import Method
from var_exp.types import Classes, Images, Maps


@dataclass(frozen=True)
class SmoothGrad(Method):
    """Mean gradient under Gaussian noise; all classes see the same noise.

    Args:
        samples: Noisy copies per image.
        noise: Standard deviation as a share of the image's range (maximum - minimum); >= 0, the
            paper takes 0.1 to 0.2.
        seed: Of the noise, combined with each sample's id.

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
        maps = images.new_zeros(*classes.shape, *images.shape[1:])
        for rows, gradients in self._noisy_gradients(model, images, classes, ids):
            add_by_row(maps, rows, gradients)
        return maps.div_(self.samples)

    def _noisy_gradients(
        self, model: nn.Module, images: Images, classes: Classes, ids: Sequence[str | None]
    ) -> Iterator[tuple[Int[Tensor, " n"], Float[Tensor, "n K C H W"]]]:
        """Yield rows of the batch and the gradients at noisy copies of these images."""

        def noisy(rows: Tensor, draws: Tensor) -> Tensor:
            generators = generators_of(self.seed, ids, rows, draws)
            copies = images[rows] + gaussian_like(images[rows], self.noise, generators)
            return class_gradients(model, copies, classes[rows]).gradients

        for rows, _, gradients in self._limit.pairs(len(images), self.samples, noisy):
            yield rows, gradients


@dataclass(frozen=True)
class VarGrad(SmoothGrad):
    """Variance of the gradient under Gaussian noise; all classes see the same noise.

    Options and errors are those of `SmoothGrad`; with one sample the map is zero.
    """

    def _attribute(
        self, model: nn.Module, images: Images, classes: Classes, ids: Sequence[str | None]
    ) -> Maps:
        # in float64: the difference of two large sums keeps its digits, whatever the chunks
        sums = images.new_zeros(*classes.shape, *images.shape[1:], dtype=torch.float64)
        squares = torch.zeros_like(sums)
        for rows, gradients in self._noisy_gradients(model, images, classes, ids):
            precise = gradients.double()
            add_by_row(sums, rows, precise)
            add_by_row(squares, rows, precise.square_())
        mean = sums.div_(self.samples)
        return squares.div_(self.samples).sub_(mean.square_()).clamp_(min=0)
