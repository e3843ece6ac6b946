"""A picture as somebody gives it, as the network sees it, and as people are shown it."""

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Literal, TypeAlias

import numpy as np
import torch
from jaxtyping import Bool, Float
from PIL import Image
from torch import Tensor

from var_exp.data.batches import collate, to_display
from var_exp.data.geometry import Geometry
from var_exp.data.pictures import as_rgb, read_picture, refuse_address
from var_exp.types import PREDICTED, ConfigError, InputSpec, Sample

Picture: TypeAlias = str | Path | Image.Image | np.ndarray | Tensor
"""A file, a PIL image, an array [H, W, 3] of bytes, or a normalised tensor [C, H, W]."""

Region: TypeAlias = Literal["predicted"] | tuple[int, int] | np.ndarray | Tensor
"""Where a network that classifies pixels is asked: a mask [H, W] of bool, (row, column) of one
pixel, both of the picture as given, or "predicted", where it puts the first of the classes."""


@dataclass(frozen=True, eq=False)
class SeenPicture:
    """One picture.

    Attributes:
        images: [1, C, H, W], what the network takes.
        shown: [3, H, W] in 0..1, as people see it.
        name: Of its file; "" where it has none.
        size: Width and height of the upright picture.
        geometry: How it became what the network takes; None for a tensor, which is that already.
    """

    images: Float[Tensor, "1 C H W"]
    shown: Float[Tensor, "3 H W"]
    name: str
    size: tuple[int, int]
    geometry: Geometry | None

    def within(self, region: tuple[int, int] | np.ndarray | Tensor) -> Bool[Tensor, "H W"]:
        """A region of the picture, where the network sees it.

        Raises:
            ConfigError: it does not fit the picture, or lies where the network sees nothing.
        """
        width, height = self.size
        if isinstance(region, tuple):
            seen = self._pixel(*region)
        else:
            mask = torch.as_tensor(region)
            if mask.dtype != torch.bool or mask.shape != (height, width):
                raise ConfigError(
                    f"a region must be a mask of bool of the picture's {height} x {width} px, got "
                    f"{mask.dtype} {list(mask.shape)}; compare values first (mask > 0), or give "
                    "(row, column) of one pixel."
                )
            seen = mask if self.geometry is None else self.geometry.masks(mask)
        if not seen.any():
            raise ConfigError(
                "nothing of the region is in what the network sees of the picture, which is its "
                "middle where it crops; choose another region."
            )
        return seen.to(self.images.device)

    def _pixel(self, row: int, column: int) -> Bool[Tensor, "H W"]:
        """What the network sees at one pixel of the picture: the nearest of its own."""
        width, height = self.size
        if not (0 <= row < height and 0 <= column < width):
            raise ConfigError(
                f"pixel ({row}, {column}) is outside of the picture of {height} x {width} px; give "
                "(row, column), counted from 0 at the upper left."
            )
        seen = torch.zeros(self.images.shape[2:], dtype=torch.bool)
        if self.geometry is None:
            seen[row, column] = True
            return seen
        columns, rows = self.geometry.centres(self.size)
        down, across = (rows - row - 0.5).abs(), (columns - column - 0.5).abs()
        if all(far.min() <= max(far[:2].diff().abs().item(), 1) / 2 for far in (down, across)):
            seen[down.argmin(), across.argmin()] = True  # else it was cut away
        return seen


def seen_picture(
    picture: Picture, spec: Callable[[], InputSpec], device: torch.device
) -> SeenPicture:
    """Read a picture and make of it what a network takes.

    Args:
        picture: See `Picture`.
        spec: Says how pictures become the network's input; asked where it is needed.
        device: Of the network.

    Raises:
        ConfigError: no picture of a kind that is read.
        BadData: a file that cannot be read.
    """
    if isinstance(picture, Tensor):
        if picture.ndim != 3 or not picture.is_floating_point():
            raise ConfigError(
                f"a tensor must be a normalised picture [C, H, W] of floats, got "
                f"{picture.dtype} {list(picture.shape)}; pass a file or a PIL image instead, "
                "or normalise it as the network expects."
            )
        images = picture.detach().clone()[None].to(device).contiguous()
        shown = _displayed(picture.detach().cpu().float(), spec)
        return SeenPicture(images, shown, "", (picture.shape[2], picture.shape[1]), None)
    rgb, name = _read(picture)
    geometry = Geometry.of(spec())
    sample = Sample(geometry.picture(rgb), torch.tensor([PREDICTED]), None, name)
    (batch,) = collate([sample], spec())
    # in the memory layout of a run, whose kernels then give the same digits
    images = batch.images.to(device).contiguous()
    return SeenPicture(images, sample.image, name, rgb.size, geometry)


def _displayed(image: Tensor, spec: Callable[[], InputSpec]) -> Tensor:
    """A normalised tensor as people see it: in its own range where nobody knows the scale."""
    try:
        return to_display(image[None], spec())[0].float() / 255
    except (ConfigError, RuntimeError):  # no description, or other than three channels
        grey = image if len(image) == 3 else image.mean(0, keepdim=True).expand(3, -1, -1)
        low, high = grey.min(), grey.max()
        return (grey - low) / (high - low).clamp_min(1e-12)


def _read(picture: str | Path | Image.Image | np.ndarray) -> tuple[Image.Image, str]:
    """The picture in RGB, and its name."""
    if isinstance(picture, Image.Image):
        return as_rgb(picture, "the image"), Path(getattr(picture, "filename", "") or "").name
    if isinstance(picture, np.ndarray):
        if picture.ndim != 3 or picture.shape[2] != 3 or picture.dtype != np.uint8:
            raise ConfigError(
                f"an array must be [H, W, 3] of bytes, got {picture.dtype} {list(picture.shape)}; "
                "pass a PIL image, or a normalised tensor [C, H, W]."
            )
        return Image.fromarray(picture), ""
    if not isinstance(picture, str | Path):
        raise ConfigError(
            f"a picture must be a file, a PIL image, an array or a tensor, got "
            f"{type(picture).__name__}."
        )
    refuse_address(str(picture))
    return read_picture(Path(picture).expanduser()), Path(picture).name
