"""Sobol indices: the share of the logit's variance under masks that each cell has a part in.

    S_cj = E[(y_c(x_a) - y_c(x_a with cell j as in b))²] / (2 Var y_c(x_a))      (Jansen 1999)

the total index: what cell j explains alone and together with others. A mask a gives every cell a
share a_j, even on [0, 1], of the image beside the mean colour; a and b are rows of a scrambled
Sobol sequence. Fel et al. 2021, arXiv 2111.04138. Never negative; a cell that does not matter has
0, and in an additive model the indices sum to 1. Where the logit does not vary, all are 0.

Departures from the paper: cells of a grid without smoothing at display. Cost: `samples` forward
passes at most, n (M + 1) for n designs and M = grid² cells; any number of classes is free.
"""

from dataclasses import dataclass

import numpy as np
import torch
from jaxtyping import Float
from scipy.stats import qmc
from torch import Generator, Tensor

from var_exp.methods.segments import SegmentMethod


@dataclass(frozen=True)
class Sobol(SegmentMethod):
    """Total Sobol indices of the cells; one map channel, a pixel has the index of its whole cell.

    Args:
        grid: Cells along a side of the image; M = grid² features.
        samples: Masks per image at most: as many designs of M + 1 masks as fit, a power of two,
            at least two.
        seed: Of the sequence, combined with each sample's id.

    Raises:
        ValueError: an option out of its range.
    """

    samples: int = 1040

    def __post_init__(self) -> None:
        super().__post_init__()
        least = 2 * (self.grid**2 + 1)
        if self.samples < least:
            raise ValueError(
                f"samples must be at least {least}, two designs for the cells of grid={self.grid}, "
                f"got {self.samples}; set samples={least} or more, or a smaller grid."
            )

    def _draw(self, generator: Generator) -> Float[Tensor, "n M"]:
        """Masks a of all designs, then those with cell 0 as in b, and so on, cell by cell."""
        cells = self.grid**2
        stream = np.random.default_rng(generator.initial_seed())
        sequence = qmc.Sobol(2 * cells, scramble=True, seed=stream)
        drawn = torch.as_tensor(sequence.random_base2(self._log_designs), dtype=torch.float32)
        a, b = drawn.chunk(2, dim=1)
        own = torch.eye(cells, dtype=torch.bool)[:, None]  # [M, 1, M]
        return torch.cat([a, torch.where(own, b, a).flatten(0, 1)])

    def _fit(
        self, kept: Float[Tensor, "n M"], scores: Float[Tensor, "n K"]
    ) -> Float[Tensor, "K M"]:
        by_mask = scores.unflatten(0, (-1, 2**self._log_designs))  # [M + 1, n, K]
        whole, changes = by_mask[0], by_mask[1:] - by_mask[0]
        variances = whole.var(0)
        indices = changes.square().mean(1) / (2 * variances)
        found: Tensor = indices.masked_fill(variances == 0, 0).T
        return found

    @property
    def _log_designs(self) -> int:
        """Binary logarithm of the number of designs."""
        return (self.samples // (self.grid**2 + 1)).bit_length() - 1
