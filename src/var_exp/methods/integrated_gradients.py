"""Integrated gradients: the gradient averaged along the straight line from a baseline to the image.

    φ_c = (x - x0) · ∫_0^1 d y_c / d x (x0 + a (x - x0)) da

(Sundararajan et al. 2017, arXiv 1703.01365) by a quadrature. The baseline x0 is zero in normalised
space, the data set's mean colour. The maps sum to y_c(x) - y_c(x0) up to the quadrature's error,
which `methods.completeness` measures.

    gauss_legendre   the same nodes for every image: best where the path is smooth
    even             the mean over evenly spaced nodes with both ends among them, as the published
                     code of VAR (arXiv 2503.07346) has it: the trapezoidal rule, but for the ends,
                     which count about twice as much
    curvature        middles of cells, narrow where the logits bend: half of the cells' share is
                     even, half goes with the root of |y''(a)|, the density that makes the bound
                     Σ |y''| (cell)² on the error smallest (Swain & Singhi 2024, arXiv 2410.04118)

Departures from the last paper: the nodes are each image's own instead of one set for a data set;
y'' is measured by `steps` + 1 forward passes, as the root mean square over all logits, so that
nodes depend on the image alone and serve all classes; middles instead of left ends.
Cost: `steps` forward and K · steps backward passes; with curvature `steps` + 1 forward more.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import ClassVar, Literal, TypeAlias, get_args

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor, nn
from torch.nn.functional import pad

from var_exp.engine.chunks import add_by_row, check_at_least_one
from var_exp.engine.gradients import class_gradients
from var_exp.engine.path import equal_cells, logits_on_path
from var_exp.methods.completeness import change_from_zero
from var_exp.methods.method import Method
from var_exp.types import Classes, Images, Logits, Maps

Quadrature: TypeAlias = Literal["gauss_legendre", "even", "curvature"]


@dataclass(frozen=True)
class IntegratedGradients(Method):
    """Integrated gradients from the zero baseline, all classes sharing the forward passes.

    Args:
        steps: Quadrature nodes per image; the smoother the network, the fewer suffice.
        quadrature: Where they lie: "gauss_legendre", "even" from baseline to image, or "curvature",
            denser where the logits bend.

    Raises:
        ValueError: an option out of its range.
    """

    invariant_to_folding: ClassVar[bool] = True

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
        positions, shares = (found.to(images) for found in self._nodes(model, images))
        maps = images.new_zeros(*classes.shape, *images.shape[1:])

        def weighted(rows: Tensor, steps: Tensor) -> Tensor:
            points = positions[rows, steps].view(-1, 1, 1, 1) * images[rows]
            gradients = class_gradients(model, points, classes[rows]).gradients
            return gradients.mul_(shares[rows, steps].view(-1, 1, 1, 1, 1))

        for rows, _, gradients in self._limit.pairs(len(images), self.steps, weighted):
            add_by_row(maps, rows, gradients)
        return maps.mul_(images[:, None])

    def _nodes(
        self, model: nn.Module, images: Images
    ) -> tuple[Float[Tensor, "B n"], Float[Tensor, "B n"]]:
        """Positions 0 … 1 on the path of each image, and their weights, which sum to 1."""
        if self.quadrature != "curvature":
            nodes, weights = _same_nodes(self.quadrature, self.steps)
            return nodes.expand(len(images), -1), weights.expand(len(images), -1)
        path = logits_on_path(model, images, self.steps, self._limit)
        bends = path.diff(n=2, dim=1).square().mean(2).sqrt()  # at the inner ends
        bends = (pad(bends, (1, 0)) + pad(bends, (0, 1))) / 2  # of the parts that meet there
        edges = equal_cells(bends.sqrt(), self.steps)
        return (edges[:, 1:] + edges[:, :-1]) / 2, edges.diff()


def _same_nodes(
    quadrature: Quadrature, steps: int
) -> tuple[Float[Tensor, " n"], Float[Tensor, " n"]]:
    """Positions and weights of a rule that is the same for every image."""
    if quadrature == "even":
        return torch.linspace(0, 1, steps, dtype=torch.float64), torch.full([steps], 1 / steps)
    nodes, weights = np.polynomial.legendre.leggauss(steps)  # on [-1, 1]
    return torch.as_tensor((1 + nodes) / 2), torch.as_tensor(weights / 2)
