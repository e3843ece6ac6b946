"""Occlusion: how far the logit drops when a window of the image is covered.

    φ_c(p) = mean over the windows that cover p of  y_c(x) - y_c(x with the window covered)

Zeiler & Fergus 2014, arXiv 1311.2901; with overlapping windows averaged, as in Captum. A covered
pixel is zero in normalised space, the data set's mean colour. Cost: one forward pass per window;
any number of classes is free.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from math import ceil
from typing import ClassVar

import torch
from jaxtyping import Bool
from torch import Tensor, nn

from var_exp.engine.chunks import check_at_least_one
from var_exp.engine.perturb import masked_scores
from var_exp.engine.scores import check_logits, class_scores
from var_exp.methods.method import Method
from var_exp.models.frozen import frozen
from var_exp.models.selfcheck import Needs
from var_exp.types import Classes, Images, Maps


@dataclass(frozen=True)
class Occlusion(Method):
    """Mean drop of the logit over the square windows that cover a pixel; one map channel.

    The windows start at multiples of the stride, and the last one is cut by the image's border, so
    that every pixel is covered.

    Args:
        window: Side of the window in pixels.
        stride: Step of the window in pixels; at most `window`, or pixels would stay uncovered.

    Raises:
        ValueError: an option out of its range.
    """

    invariant_to_folding: ClassVar[bool] = True

    needs: ClassVar[Needs] = "logits"

    window: int = 16
    stride: int = 8

    def __post_init__(self) -> None:
        super().__post_init__()
        check_at_least_one(window=self.window, stride=self.stride)
        if self.stride > self.window:
            raise ValueError(
                f"stride must be at most window, got {self.stride} > {self.window}; "
                f"set stride={self.window} or less."
            )

    def _attribute(
        self, model: nn.Module, images: Images, classes: Classes, ids: Sequence[str | None]
    ) -> Maps:
        down, across = (self._intervals(side).to(images.device) for side in images.shape[2:])

        def keep(_: Tensor, indices: Tensor) -> Tensor:
            rows, columns = down[indices // len(across)], across[indices % len(across)]
            return 1.0 - (rows[:, None, :, None] & columns[:, None, None, :]).float()

        with torch.no_grad(), frozen(model):
            scores = class_scores(check_logits(model(images.clone())).double(), classes)
        n_windows = len(down) * len(across)
        covered = masked_scores(model, images, classes, keep, n_windows, limit=self._limit)
        drops = (scores[:, None] - covered).float().unflatten(1, (len(down), len(across)))
        # a window is a product of intervals, so that no map per window and class is ever held
        totals = torch.einsum("bijk,ih,jw->bkhw", drops, down.float(), across.float())
        return totals.div_(down.sum(0)[:, None] * across.sum(0)).unsqueeze(2)

    def _intervals(self, length: int) -> Bool[Tensor, "m length"]:
        """Pixels covered by each position of the window along one side of the image."""
        count = 1 + max(0, ceil((length - self.window) / self.stride))
        starts = self.stride * torch.arange(count)[:, None]
        pixels = torch.arange(length)
        return (pixels >= starts) & (pixels < starts + self.window)
