"""RISE: the mean of random masks, weighted by the class probability of the masked image.

    φ_c = 1 / (p n) Σ_i softmax(y(x · M_i))_c · M_i        Petsiuk et al. 2018, arXiv 1806.07421

A mask is a coarse grid of cells kept with probability p, upsampled bilinearly and shifted at random
by less than a cell. Departure from the authors' code, whose resize (scikit-image's) mirrors the
grid at its border: here the outermost half cell is flat (6.7 % of a mask's pixels differ). A
removed pixel is zero in normalised space, the data set's mean colour. As in
the paper the score is a probability, so the maps are never negative. Cost: `masks` forward passes;
any number of classes is free.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from math import ceil
from typing import ClassVar

import torch
from torch import Tensor, nn
from torch.nn.functional import interpolate

from var_exp.engine.chunks import check_at_least_one
from var_exp.engine.perturb import masked_logits
from var_exp.engine.scores import class_scores
from var_exp.methods.method import Method
from var_exp.models.selfcheck import Needs
from var_exp.seeds import sample_generator
from var_exp.types import Classes, Images, Maps


@dataclass(frozen=True)
class RISE(Method):
    """Random input sampling; one map channel, and the same masks for all classes.

    Args:
        masks: Masks per image; the paper takes 4000 to 8000.
        grid: Cells along a side of the coarse mask.
        keep: Probability that a cell is kept; 0 < keep < 1.
        seed: Of the masks, combined with each sample's id.

    Raises:
        ValueError: an option out of its range.
    """

    invariant_to_folding: ClassVar[bool] = True

    refiner: ClassVar[str] = "var_by_class"  # masks are weighted by the class's probability

    needs: ClassVar[Needs] = "logits"

    masks: int = 1000
    grid: int = 7
    keep: float = 0.5
    seed: int = 0

    def __post_init__(self) -> None:
        super().__post_init__()
        check_at_least_one(masks=self.masks, grid=self.grid)
        if not 0 < self.keep < 1:
            raise ValueError(f"keep must lie between 0 and 1, got {self.keep}; set keep=0.5.")

    def _attribute(
        self, model: nn.Module, images: Images, classes: Classes, ids: Sequence[str | None]
    ) -> Maps:
        height, width = images.shape[2:]
        cell = (ceil(height / self.grid), ceil(width / self.grid))
        drawn = [self._draw(id, cell) for id in ids]

        def make_masks(rows: Tensor, indices: Tensor) -> Tensor:
            coarse = torch.stack([drawn[r][0][i] for r, i in zip(rows, indices, strict=True)])
            size = ((self.grid + 1) * cell[0], (self.grid + 1) * cell[1])
            fine = interpolate(coarse[:, None], size, mode="bilinear", align_corners=False)
            shifts = [drawn[r][1][i].tolist() for r, i in zip(rows, indices, strict=True)]
            return torch.stack(
                [
                    mask[:, top : top + height, left : left + width]
                    for mask, (top, left) in zip(fine, shifts, strict=True)
                ]
            )

        maps = torch.zeros(*classes.shape, height * width, device=images.device)
        chunks = masked_logits(model, images, make_masks, self.masks, limit=self._limit)
        for rows, masks, logits in chunks:
            scores = class_scores(logits.float().softmax(1), classes[rows])
            present, counts = rows.unique_consecutive(return_counts=True)
            parts = (part.split(counts.tolist()) for part in (scores, masks.flatten(1).float()))
            # a matrix product per image: no map per mask and class is ever held
            for row, own_scores, own_masks in zip(present.tolist(), *parts, strict=True):
                maps[row] += own_scores.T @ own_masks
        return maps.div_(self.keep * self.masks).view(*classes.shape, 1, height, width)

    def _draw(self, id: str | None, cell: tuple[int, int]) -> tuple[Tensor, Tensor]:
        """Coarse masks [M, s, s] and shifts [M, 2] in pixels (down, right) of one sample."""
        generator = sample_generator(self.seed, id)
        kept = torch.rand(self.masks, self.grid, self.grid, generator=generator) < self.keep
        shifts = torch.rand(self.masks, 2, generator=generator) * torch.tensor(cell)
        return kept.float(), shifts.long()
