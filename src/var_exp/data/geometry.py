"""The way from an upright picture to what a model sees; its masks and boxes go the same way.

To the bit as timm and torchvision resize and crop.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal, Self, TypeAlias

import numpy as np
import torch
from jaxtyping import Bool, Float
from PIL import Image
from torch import Tensor

from var_exp.types import InputSpec

Box: TypeAlias = Sequence[float]
"""Left, top, right, bottom in pixels of the upright picture; right and bottom are outside."""

_MOST_RESIZED = 2**26  # pixels: 200 MB
_RESAMPLING = {
    "bilinear": Image.Resampling.BILINEAR,
    "bicubic": Image.Resampling.BICUBIC,
}


@dataclass(frozen=True)
class Geometry:
    """The way from a picture to what the model sees, for pictures, masks and boxes alike.

    "center" resizes the picture to cover height and width / crop_pct and cuts them out of the
    middle; "squash" resizes both sides to that, without keeping their ratio; "border" resizes the
    picture to fit into it and fills the rest with `fill`. So timm evaluates the weights that say
    so. "whole" resizes the short side to the shorter of height and width and cuts nothing away, so
    that pictures keep their shape: for networks that take pictures of any size.

    Args:
        size: Height in pixels of what the model sees.
        width: Its width; None for a square.
        crop_pct: Share of the resized side that the crop keeps; "whole" has no crop.
        interpolation: "bilinear" or "bicubic", both antialiased.
        mode: See above.
        fill: RGB in [0, 1] of what lies outside the picture ("border").

    Examples:
        >>> Geometry(size=4).boxes([(0, 0, 4, 8)], of=(8, 8)).int()[0, 0].tolist()
        [1, 1, 0, 0]
    """

    size: int
    crop_pct: float = 1.0
    interpolation: str = "bicubic"
    mode: Literal["center", "squash", "border", "whole"] = "center"
    fill: tuple[float, ...] = (0.0, 0.0, 0.0)
    width: int | None = None

    @classmethod
    def of(cls, spec: InputSpec) -> Self:
        """Geometry of what a model expects to see."""
        return cls(
            *(spec.size, spec.crop_pct, spec.interpolation, spec.crop_mode, spec.mean, spec.width)
        )

    def picture(self, picture: Image.Image) -> Float[Tensor, "3 h w"]:
        """Resize and crop an RGB picture; values in [0, 1]."""
        (width, height), (left, top) = self._resized(*picture.size)
        seen = self._seen(width, height)
        resample = _RESAMPLING[self.interpolation]
        if width * height > _MOST_RESIZED:  # a strip: resize no more than is seen
            x, y = picture.width / width, picture.height / height
            box = left * x, top * y, (left + seen[0]) * x, (top + seen[1]) * y
            resized, left, top = picture.resize(seen, resample, box), 0, 0
        else:
            resized = picture.resize((width, height), resample)
        red, green, blue = (round(255 * value) for value in self.fill)
        view = Image.new("RGB", seen, (red, green, blue))
        view.paste(resized, (-left, -top))
        return torch.from_numpy(np.array(view)).permute(2, 0, 1).float() / 255

    def masks(self, masks: Bool[Tensor, "... H W"]) -> Bool[Tensor, "... h w"]:
        """Masks of the picture, each pixel from the one that its centre falls on."""
        height, width = masks.shape[-2:]
        columns, rows = self.centres((width, height))
        inside = _within(rows, 0, height)[:, None] & _within(columns, 0, width)
        rows, columns = rows.long().clamp(0, height - 1), columns.long().clamp(0, width - 1)
        return masks[..., rows[:, None], columns] & inside

    def boxes(self, boxes: Sequence[Box], of: tuple[int, int]) -> Bool[Tensor, "boxes h w"]:
        """Regions of boxes: the pixels whose centre falls into them.

        A box on whole pixels gives what `masks` makes of the same box filled.

        Args:
            boxes: In pixels of the picture; pixel i reaches from i to i + 1.
            of: Width and height of that picture.
        """
        columns, rows = self.centres(of)
        regions = [
            _within(rows, top, bottom)[:, None] & _within(columns, left, right)
            for left, top, right, bottom in boxes
        ]
        return torch.stack(regions) if regions else torch.zeros(0, len(rows), len(columns)).bool()

    def centres(self, of: tuple[int, int]) -> tuple[Float[Tensor, " w"], Float[Tensor, " h"]]:
        """Where the centres of the columns and rows that the model sees lie in the picture.

        Args:
            of: Width and height of that picture.

        Returns:
            x of the columns and y of the rows, float64; outside of the picture in a border.
        """
        (width, height), (left, top) = self._resized(*of)
        columns, rows = (
            torch.arange(seen, dtype=torch.float64) + 0.5 for seen in self._seen(width, height)
        )
        return (columns + left) * of[0] / width, (rows + top) * of[1] / height

    def _seen(self, width: int, height: int) -> tuple[int, int]:
        """Width and height of what the model sees of a picture resized to these."""
        return (width, height) if self.mode == "whole" else self._wanted()

    def _wanted(self) -> tuple[int, int]:
        """Width and height of the model's input."""
        return self.size if self.width is None else self.width, self.size

    def _resized(self, width: int, height: int) -> tuple[tuple[int, int], tuple[int, int]]:
        """Size of the resized picture, and left and top of what the model sees in it."""
        across, down = (
            side if self.mode == "whole" else math.floor(side / self.crop_pct)
            for side in self._wanted()
        )
        if self.mode == "squash":
            resized = across, down
        elif self.mode == "border":
            resized = _kept_in_shape(width, height, max(width / across, height / down))
        elif across == down or self.mode == "whole":  # int(), as torchvision cuts the long side
            side, short = min(across, down), min(width, height)
            resized = int(side * width / short), int(side * height / short)
        else:
            resized = _kept_in_shape(width, height, min(width / across, height / down))
        spare = [a - b for a, b in zip(resized, self._seen(*resized), strict=True)]
        left, top = (round(s / 2) if s >= 0 else -(-s // 2) for s in spare)
        return (max(1, resized[0]), max(1, resized[1])), (left, top)


def _kept_in_shape(width: int, height: int, ratio: float) -> tuple[int, int]:
    return round(width / ratio), round(height / ratio)


def _within(places: Tensor, start: float, end: float) -> Tensor:
    return (places >= start) & (places < end)
