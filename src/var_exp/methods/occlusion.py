"""Occlusion: how far the logit drops when a window of the image is covered.

    φ_c(p) = mean over the windows that cover p of  y_c(x) - y_c(x with the window covered)

Zeiler & Fergus 2014, arXiv 1311.2901; with overlapping windows averaged, as in Captum. A covered
pixel is zero in normalised space, the data set's mean colour. Cost: one forward pass per window;
any number of classes is free.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from math import ceil

import torch
from jaxtyping import Bool
from torch import Tensor, nn

from var_exp.engine.chunks import add_by_row, check_at_least_one
from var_exp.engine.perturb import masked_logits
from var_exp.engine.scores import check_logits, class_scores
from var_exp.methods.method import Method
from var_exp.models.frozen import frozen
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
        height, width = images.shape[2:]
        down, across = self._intervals(height), self._intervals(width)

        def keep(_: Tensor, indices: Tensor) -> Tensor:
            rows, columns = down[indices // len(across)], across[indices % len(across)]
            return 1.0 - (rows[:, None, :, None] & columns[:, None, None, :]).float()

        with torch.no_grad(), frozen(model):
            scores = class_scores(check_logits(model(images.clone())), classes)
        maps = images.new_zeros(*classes.shape, height, width)
        n_windows = len(down) * len(across)
        for rows, masks, logits in masked_logits(model, images, keep, n_windows, limit=self._limit):
            drops = scores[rows] - class_scores(logits, classes[rows])
            add_by_row(maps, rows, drops[:, :, None, None] * (1 - masks))
        covering = down.sum(0)[:, None] * across.sum(0)
        return maps.div_(covering.to(maps)).unsqueeze(2)

    def _intervals(self, length: int) -> Bool[Tensor, "m length"]:
        """Pixels covered by each position of the window along one side of the image."""
        count = 1 + max(0, ceil((length - self.window) / self.stride))
        starts = self.stride * torch.arange(count)[:, None]
        pixels = torch.arange(length)
        return (pixels >= starts) & (pixels < starts + self.window)
