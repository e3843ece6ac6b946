"""How the output of a layer lies over the image."""

from dataclasses import dataclass
from typing import Any, Literal, TypeAlias

from jaxtyping import Float
from torch import Tensor
from torch.nn.functional import interpolate, pad

from var_exp.models.grids import Grid
from var_exp.types import Images, Maps

Layout: TypeAlias = Literal["channels_first", "channels_last", "tokens"]
Frame: TypeAlias = tuple[int, int, int, int]
Upsampling: TypeAlias = Literal["bilinear", "nearest"]


@dataclass(frozen=True)
class Target:
    """A layer with a spatial output, and how to read that output.

    Attributes:
        name: Dotted name of the module in the model.
        layout: Order of the output's axes.
        grid: (h, w) of the feature map.
        prefix: Tokens in front of the spatial ones; 0 for the other layouts.
        run: Which run of the module, from 0: a model may use an activation again.
        frame: (top, left, height, width) in pixels of what the grid covers, where the model pads
            the image: the image lies in it at (-top, -left). None where it covers the image.
    """

    name: str
    layout: Layout
    grid: Grid
    prefix: int = 0
    run: int = 0
    frame: Frame | None = None

    def to_map(self, output: Float[Tensor, "B ..."] | tuple[Any, ...]) -> Float[Tensor, "B D h w"]:
        """Bring the layer's output (or its gradient) to channels first, without other tokens.

        Of a layer that returns several things, as a tuple, the first is its output.
        """
        values: Tensor = first_of(output)
        if self.layout == "channels_first":
            return values
        if self.layout == "channels_last":
            return values.permute(0, 3, 1, 2)
        h, w = self.grid
        tokens = values[:, self.prefix : self.prefix + h * w]
        return tokens.transpose(1, 2).reshape(len(values), -1, h, w)

    def to_pixels(
        self, maps: Float[Tensor, "B K h w"], images: Images, upsampling: Upsampling = "bilinear"
    ) -> Maps:
        """Bring maps of the grid to image size, with one map channel."""
        return to_pixels(maps, images, self.frame, upsampling)


def first_of(output: Any) -> Any:
    """What a layer returned, or the first of several things, such as tokens and their attention."""
    return output[0] if isinstance(output, tuple) and output else output


def to_pixels(
    maps: Float[Tensor, "B K h w"],
    images: Images,
    frame: Frame | None,
    upsampling: Upsampling = "bilinear",
) -> Maps:
    """Bring maps to image size, with one map channel.

    Args:
        maps: Of any grid.
        images: [B, C, H, W]
        frame: What of the image the grid covers, as of `Target`. A padded border is cut off.
        upsampling: "bilinear", or "nearest", which leaves every cell a flat square.
    """
    size = (images.shape[2], images.shape[3])
    top, left, *covered = frame or (0, 0, *size)
    corners = False if upsampling == "bilinear" else None  # the other has no such option
    fine = interpolate(maps, tuple(covered), mode=upsampling, align_corners=corners)
    # padding by less than nothing cuts off
    sides = (left, size[1] - left - covered[1], top, size[0] - top - covered[0])
    return (pad(fine, sides) if any(sides) else fine).unsqueeze(2)
