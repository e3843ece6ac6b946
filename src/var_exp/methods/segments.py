"""What methods share that give each cell of a grid one value, from masked copies of the image.

    LIME, KernelSHAP    y_c(x with the cells z kept) ≈ b_c + Σ_j z_j φ_cj,   z in {0, 1}^M
    Sobol, HSIC         how much y_c depends on z_j

A removed cell is zero in normalised space, the data set's mean colour. Every pixel of cell j is
given φ_cj, so what a method says of the values holds for the sum over the M = grid² cells, not over
pixels.
"""

from abc import abstractmethod
from collections.abc import Sequence
from dataclasses import dataclass
from typing import ClassVar

import torch
from jaxtyping import Float, Int, Shaped
from torch import Generator, Tensor, nn

from var_exp.engine.chunks import check_at_least_one
from var_exp.engine.perturb import masked_scores
from var_exp.engine.scores import class_scores
from var_exp.methods.method import Method
from var_exp.models.selfcheck import Needs
from var_exp.seeds import sample_generator
from var_exp.types import Classes, ConfigError, Images, Logits, Maps


@dataclass(frozen=True)
class SegmentMethod(Method):
    """Values of the cells of a grid, from the scores of masked copies; one map channel.

    A sample has the same masks for all classes.

    Args:
        grid: Cells along a side of the image; the features are these grid² cells, whose sides
            differ by a pixel at most.
        samples: Masks per image.
        seed: Of the masks, combined with each sample's id.

    Raises:
        ValueError: an option below 1.
    """

    invariant_to_folding: ClassVar[bool] = True

    needs: ClassVar[Needs] = "logits"

    grid: int = 8
    samples: int = 1000
    seed: int = 0

    def __post_init__(self) -> None:
        super().__post_init__()
        check_at_least_one(grid=self.grid, samples=self.samples)

    def _check(self, model: nn.Module, image: Images) -> None:
        """Refuse an image of fewer pixels a side than cells.

        Raises:
            ConfigError: more cells than pixels.
        """
        grid_cells(self.grid, *image.shape[2:])

    def _attribute(
        self, model: nn.Module, images: Images, classes: Classes, ids: Sequence[str | None]
    ) -> Maps:
        cells = grid_cells(self.grid, *images.shape[2:]).to(images.device)
        drawn = [self._draw(sample_generator(self.seed, id)) for id in ids]
        kept = torch.stack(drawn).to(images.device)

        def make_masks(rows: Tensor, indices: Tensor) -> Tensor:
            return kept[rows, indices][:, None, cells].to(images)

        scores = masked_scores(
            *(model, images, classes, make_masks, kept.shape[1]),
            limit=self._limit,
            score=self._score,
        )
        # image by image: [n, M] in float64 need not be held for the whole batch
        fits = [self._fit(*pair) for pair in zip(kept, scores, strict=True)]
        return torch.stack(fits)[..., cells].unsqueeze(2)

    def _score(self, logits: Logits, classes: Classes) -> Float[Tensor, "B K"]:
        """What is explained."""
        return class_scores(logits, classes)

    @abstractmethod
    def _draw(self, generator: Generator) -> Shaped[Tensor, "n M"]:
        """What each of the n masks of a sample keeps of each cell: yes or no, or a share."""

    @abstractmethod
    def _fit(
        self, kept: Shaped[Tensor, "n M"], scores: Float[Tensor, "n K"]
    ) -> Float[Tensor, "K M"]:
        """Values of the cells, from the scores of the masks that `_draw` drew."""


def grid_cells(grid: int, height: int, width: int) -> Int[Tensor, "H W"]:
    """Number of the cell, 0 … grid² - 1 row by row, that each pixel lies in.

    Raises:
        ConfigError: more cells than pixels along a side.
    """
    if grid > min(height, width):
        raise ConfigError(
            f"grid must be at most the shorter side of the image, got grid={grid} for {height} x "
            f"{width} px; set grid={min(height, width)} or less."
        )
    down, across = (torch.arange(side) * grid // side for side in (height, width))
    return down[:, None] * grid + across


def weighted_least_squares(
    inputs: Float[Tensor, "n m"],
    targets: Float[Tensor, "n K"],
    weights: Float[Tensor, " n"],
    ridge: float = 0.0,
) -> Float[Tensor, "m K"]:
    """Solve min_β Σ_i w_i (t_i - x_i·β)² + ridge |β|² for K targets, by the normal equations."""
    weighted = (inputs * weights[:, None]).T
    penalty = ridge * torch.eye(inputs.shape[1], dtype=inputs.dtype, device=inputs.device)
    solution: Tensor = torch.linalg.solve(weighted @ inputs + penalty, weighted @ targets)
    return solution
