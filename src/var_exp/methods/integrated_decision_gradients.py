"""Integrated decision gradients: integrated gradients that count where the logit changes.

    φ_c = (x - x0) · ∫_0^1 d y_c / d x (x_a) · d y_c / d a da,   x_a = x0 + a (x - x0)

Walker et al. 2024, arXiv 2305.20052. The baseline x0 is zero in normalised space, the data set's
mean colour. The maps sum to ∫ (d y_c / d a)² da, in squared units of the logit.

The path is sampled where the logit changes: a first pass finds its change over `intervals` equal
parts of the path, and the `steps` samples are the middles of cells that hold equal amounts of

    F(a) = a / 2 + (absolute change up to a) / (2 · total absolute change).

Departures from the paper: half of the samples is spread evenly, so that no part of the path is left
out; cells are not rounded to whole samples per interval, so that the map does not jump; a fall of
the logit is sampled as densely as a rise; d y_c / d a is the exact d y_c / d x · (x - x0), not a
finite difference. The authors' code divides by the number of steps once more.

Cost: `intervals` + 1 forward passes shared by all classes, then `steps` forward and backward passes
for each class, since every class has its own samples.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import ClassVar

from torch import Tensor, nn

from var_exp.engine.chunks import add_by_row, check_at_least_one
from var_exp.engine.gradients import class_gradients
from var_exp.engine.path import equal_cells, logits_on_path
from var_exp.engine.scores import check_range
from var_exp.methods.method import Method
from var_exp.types import Classes, Images, Maps


@dataclass(frozen=True)
class IntegratedDecisionGradients(Method):
    """Gradients along the path from the mean colour, weighted by the logit's slope on it.

    Args:
        steps: Gradients per image and class.
        intervals: Equal parts of the path over which the logit's change is measured first; with 1
            the samples are even.

    Raises:
        ValueError: an option below 1.
    """

    invariant_to_folding: ClassVar[bool] = True

    steps: int = 32
    intervals: int = 32

    def __post_init__(self) -> None:
        super().__post_init__()
        check_at_least_one(steps=self.steps, intervals=self.intervals)

    def _attribute(
        self, model: nn.Module, images: Images, classes: Classes, ids: Sequence[str | None]
    ) -> Maps:
        n_classes = classes.shape[1]
        path = logits_on_path(model, images, self.intervals, self._limit)
        check_range(classes, path.shape[2])
        asked = path.gather(2, classes.cpu()[:, None].expand(-1, path.shape[1], -1))
        # [B · K, n]: every class has its own cells
        changes = asked.diff(dim=1).abs().transpose(1, 2).flatten(0, 1)
        edges = equal_cells(changes, self.steps)
        middles = ((edges[:, 1:] + edges[:, :-1]) / 2).to(images)
        widths = edges.diff().to(images)
        maps = images.new_zeros(classes.numel(), *images.shape[1:])

        def weighted(pairs: Tensor, cells: Tensor) -> Tensor:
            ends = images[pairs // n_classes]
            points = middles[pairs, cells].view(-1, 1, 1, 1) * ends
            gradients = class_gradients(model, points, classes.reshape(-1, 1)[pairs]).gradients
            slopes = (gradients[:, 0] * ends).sum((1, 2, 3))
            return gradients[:, 0].mul_((slopes * widths[pairs, cells]).view(-1, 1, 1, 1))

        for pairs, _, found in self._limit.pairs(classes.numel(), self.steps, weighted):
            add_by_row(maps, pairs, found)
        return maps.view(*classes.shape, *images.shape[1:]).mul_(images[:, None])
