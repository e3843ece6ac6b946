"""What metrics share that keep a matrix: of the map of one class, what it means for every class."""

from typing import Any, ClassVar

import torch
from jaxtyping import Float, Int
from torch import Tensor, distributed
from torchmetrics.utilities.distributed import gather_all_tensors

from var_exp.metrics.base import SampleMetric


class MatrixMetric(SampleMetric):
    """A measure whose maps each fill one line of a matrix over the A classes asked about."""

    matrix_state = "matrices"
    row_states: ClassVar[dict[str, torch.dtype]] = {
        **SampleMetric.row_states,
        "matrices": torch.float64,
    }
    matrices: list[Tensor]
    """Per map the matrix with its own line filled in and the others NaN, [N, A A]."""

    _width = 0

    def keep_lines(self, lines: Float[Tensor, "N A"], own: Int[Tensor, " N"]) -> None:
        """Keep the line of each map; own is the number of its class among the A asked about."""
        one = torch.nn.functional.one_hot(own, lines.shape[1]).bool()
        self.matrices.append(torch.where(one[:, :, None], lines[:, None], torch.nan).flatten(1))

    def matrix(self) -> Float[Tensor, "A A"]:
        """Mean of the lines over all processes (call it on each), float64."""
        with self.sync_context():
            return square(self._rows("matrices").nanmean(0))

    def sync(self, *args: Any, **kwargs: Any) -> None:
        """Agree on the number of classes first: a process without a map has not seen any."""
        self._width = self.matrices[0].shape[1] if len(self.matrices) else 0
        if distributed.is_available() and distributed.is_initialized():
            widths = gather_all_tensors(torch.tensor(self._width, device=self.device))
            self._width = max(int(width) for width in widths)
        super().sync(*args, **kwargs)

    def row_shape(self, name: str) -> tuple[int, ...]:
        """Shape of one row of a state."""
        return (self._width,) if name == "matrices" else super().row_shape(name)


def square(numbers: Float[Tensor, " AA"]) -> Float[Tensor, "A A"]:
    """The flattened matrix as a matrix."""
    side = round(len(numbers) ** 0.5)
    return numbers.view(side, side)
