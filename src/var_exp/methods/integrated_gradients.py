"""Integrated gradients: the gradient averaged along the straight line from a baseline to the image.

    φ_c = (x - x0) · ∫_0^1 d y_c / d x (x0 + a (x - x0)) da

(Sundararajan et al. 2017, arXiv 1703.01365) by Gauss-Legendre quadrature, or as the mean of the
gradients at evenly spaced points with both ends among them, as the published code of VAR (arXiv
2503.07346) has it: the trapezoidal rule, but for the ends, which count about twice as much. The
baseline x0 is zero in normalised space, the data set's mean colour. The maps sum to
y_c(x) - y_c(x0) up to the quadrature's error, which `methods.completeness` measures.
Cost: `steps` forward and K · steps backward passes.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import ClassVar, Literal, TypeAlias, get_args

import numpy as np
import torch
from torch import Tensor, nn

from var_exp.engine.chunks import add_by_row, check_at_least_one
from var_exp.engine.gradients import class_gradients
from var_exp.methods.completeness import change_from_zero
from var_exp.methods.method import Method
from var_exp.types import Classes, Images, Logits, Maps

Quadrature: TypeAlias = Literal["gauss_legendre", "even"]


@dataclass(frozen=True)
class IntegratedGradients(Method):
    """Integrated gradients from the zero baseline, all classes sharing the forward passes.

    Args:
        steps: Quadrature nodes per image; the smoother the network, the fewer suffice.
        quadrature: "gauss_legendre", or "even", the mean over evenly spaced nodes from baseline to
            image.

    Raises:
        ValueError: an option out of its range.
    """

    only_function: ClassVar[bool] = True

    steps: int = 32
    quadrature: Quadrature = "gauss_legendre"

    def __post_init__(self) -> None:
        super().__post_init__()
        check_at_least_one(steps=self.steps)
        if self.quadrature not in get_args(Quadrature):
            raise ValueError(
                f"quadrature must be one of {', '.join(get_args(Quadrature))}, got "
                f"'{self.quadrature}'; choose one of these."
            )
        if self.quadrature == "even" and self.steps < 2:
            raise ValueError("quadrature=even needs both ends; set steps to 2 or more.")

    def sums(self, model: nn.Module, images: Images, logits: Logits) -> Logits:
        """Change of the logits from the zero baseline."""
        return change_from_zero(model, images, logits)

    def _attribute(
        self, model: nn.Module, images: Images, classes: Classes, ids: Sequence[str | None]
    ) -> Maps:
        if self.quadrature == "even":
            nodes, weights = np.linspace(0, 1, self.steps), np.full(self.steps, 1 / self.steps)
        else:
            nodes, weights = np.polynomial.legendre.leggauss(self.steps)  # on [-1, 1]
            nodes, weights = (1 + nodes) / 2, weights / 2
        positions, shares = (torch.as_tensor(each).to(images) for each in (nodes, weights))
        maps = images.new_zeros(*classes.shape, *images.shape[1:])

        def weighted(rows: Tensor, steps: Tensor) -> Tensor:
            points = positions[steps].view(-1, 1, 1, 1) * images[rows]
            gradients = class_gradients(model, points, classes[rows]).gradients
            return gradients.mul_(shares[steps].view(-1, 1, 1, 1, 1))

        for rows, _, gradients in self._limit.pairs(len(images), self.steps, weighted):
            add_by_row(maps, rows, gradients)
        return maps.mul_(images[:, None])
