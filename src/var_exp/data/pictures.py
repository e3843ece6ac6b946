"""From a picture file to what a model sees; its masks and boxes go the same way.

Reading answers for the file: upright, RGB, 8 bit, whatever it holds. `Geometry` answers for the
way from there to the model's square, to the bit as timm and torchvision resize and crop.
"""

import math
import warnings
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Literal, Self, TypeAlias

import numpy as np
import torch
from jaxtyping import Bool, Float
from numpy.typing import NDArray
from PIL import Image, UnidentifiedImageError
from torch import Tensor

from var_exp.types import BadData, InputSpec

Source: TypeAlias = Path | IO[bytes]
Box: TypeAlias = Sequence[float]
"""Left, top, right, bottom in pixels of the upright picture; right and bottom are outside."""

SUFFIXES = frozenset({
    ".jpg", ".jpeg", ".jfif", ".png", ".webp", ".gif", ".bmp", ".tif", ".tiff", ".ppm", ".pgm",
    ".jp2", ".avif",
})  # fmt: skip
"""Endings of the files that are taken for pictures; what they hold decides how they are read."""

_UPRIGHT = {  # EXIF orientation -> what turns the stored picture upright
    2: Image.Transpose.FLIP_LEFT_RIGHT,
    3: Image.Transpose.ROTATE_180,
    4: Image.Transpose.FLIP_TOP_BOTTOM,
    5: Image.Transpose.TRANSPOSE,
    6: Image.Transpose.ROTATE_270,
    7: Image.Transpose.TRANSVERSE,
    8: Image.Transpose.ROTATE_90,
}
_ORIENTATION = 0x0112
_MOST_RESIZED = 2**26  # pixels: 200 MB
_RESAMPLING = {
    "bilinear": Image.Resampling.BILINEAR,
    "bicubic": Image.Resampling.BICUBIC,
}


def read_picture(source: Source, name: str | None = None, *, upright: bool = True) -> Image.Image:
    """Read a picture: RGB, 8 bit, upright.

    Turned as its EXIF orientation says (a broken EXIF block says nothing); grey becomes three equal
    channels; 16 bit are scaled to 8; CMYK is converted without a colour profile, JPEG's inverted
    CMYK put right; what is transparent shows white; of an animation or several pages the first. The
    content decides about the format, not the file's name.

    Args:
        source: File, or open binary stream.
        name: What the picture is called in an error; the file's path by default.
        upright: False leaves it as it is stored, where boxes or masks are known of that.

    Raises:
        BadData: it is missing, empty, no picture, broken, cut off, larger than Pillow's limit of
            179 million pixels, or in 32-bit numbers of unknown range.
    """
    name = name or str(source)
    with _decode(source, name) as opened:
        return _rgb(_upright(opened) if upright else opened, name)


def as_rgb(picture: Image.Image, name: str) -> Image.Image:
    """A picture in memory as `read_picture` gives it: RGB, 8 bit, upright.

    Raises:
        BadData: it cannot be decoded, or holds 32-bit numbers of unknown range.
    """
    try:
        picture.load()
    except Exception as error:  # each format brings its own
        raise _unreadable(name, str(error) or type(error).__name__) from error
    return _rgb(_upright(picture), name)


def read_mask(source: Source, name: str | None = None) -> Bool[Tensor, "H W"]:
    """Read a mask picture, upright: True wherever it is not black (and not transparent).

    Raises:
        BadData: as `read_picture`, or a JPEG, which smears masks.
    """
    name = name or str(source)
    with _decode(source, name) as opened:
        _refuse_jpeg(opened, name)
        picture = _upright(opened)
        if _transparent(picture):
            picture = _on(picture, (0, 0, 0))
        elif picture.mode == "P":
            picture = picture.convert("RGB")
        values = np.asarray(picture)
    return torch.from_numpy(values.any(-1) if values.ndim == 3 else values != 0)


def read_labels(source: Source, name: str | None = None) -> NDArray[np.int64]:
    """Read a picture of class numbers as it is stored, [H, W].

    Palette and grey pictures hold the numbers themselves (Pascal VOC), coloured ones red + 256
    green (ImageNet-S).

    Raises:
        BadData: as `read_mask`.
    """
    name = name or str(source)
    with _decode(source, name) as opened:
        _refuse_jpeg(opened, name)
        values = np.asarray(opened).astype(np.int64)
    return values if values.ndim == 2 else values[..., 0] + 256 * values[..., 1]


def _refuse_jpeg(opened: Image.Image, name: str) -> None:
    if opened.format == "JPEG":
        raise BadData(f"the mask '{name}' is a JPEG, which smears masks; save it as PNG.")


def check_header(source: Source, name: str | None = None) -> tuple[int, int]:
    """Width and height as stored, from the head of a picture file; no pixel is decoded.

    Raises:
        BadData: it is missing, empty, no picture, or too large.
    """
    with _open(source, name or str(source)) as opened:
        return opened.size


def _open(source: Source, name: str) -> Image.Image:
    try:
        with warnings.catch_warnings():
            # Pillow warns of what is half as large as what it refuses
            warnings.simplefilter("ignore", Image.DecompressionBombWarning)
            return Image.open(source)
    except Exception as error:  # each format brings its own
        raise _unreadable(name, _reason(source, error)) from error


def _decode(source: Source, name: str) -> Image.Image:
    """Open and decode, so that nothing is left to fail; `format` says what the file was."""
    opened = _open(source, name)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # about metadata that nobody reads
            opened.load()
    except Exception as error:  # each format brings its own
        opened.close()
        raise _unreadable(name, str(error) or type(error).__name__) from error
    return opened


def _reason(source: Source, error: Exception) -> str:
    if isinstance(source, Path) and source.is_file() and not source.stat().st_size:
        return "the file is empty"
    if isinstance(error, UnidentifiedImageError):
        return "it is no picture that Pillow knows"
    if isinstance(error, FileNotFoundError):
        return "there is no such file"
    if isinstance(error, Image.DecompressionBombError):
        limit = 2 * (Image.MAX_IMAGE_PIXELS or 0) // 1_000_000
        return f"it has more than {limit} million pixels"
    return str(error) or type(error).__name__


def _unreadable(name: str, reason: str) -> BadData:
    return BadData(f"cannot read picture '{name}' ({reason.rstrip('.')}); repair or remove it.")


def _upright(picture: Image.Image) -> Image.Image:
    try:
        orientation = picture.getexif().get(_ORIENTATION)
    except Exception:  # a broken EXIF block is no reason to lose the picture
        orientation = None
    turn = _UPRIGHT.get(orientation) if isinstance(orientation, int) else None
    return picture if turn is None else picture.transpose(turn)


def _rgb(picture: Image.Image, name: str) -> Image.Image:
    if picture.mode.startswith("I;16") or (picture.mode == "I" and picture.format == "PNG"):
        values = np.asarray(picture).astype(np.float64)
        picture = Image.fromarray((values * (255 / 65535)).round().astype(np.uint8))
    if picture.mode in ("I", "F"):
        raise _unreadable(name, "its 32-bit numbers have no known range, save it in 8 or 16 bit")
    return _on(picture, (255, 255, 255)) if _transparent(picture) else picture.convert("RGB")


def _transparent(picture: Image.Image) -> bool:
    return picture.mode in ("RGBA", "LA", "PA", "RGBa", "La") or "transparency" in picture.info


def _on(picture: Image.Image, colour: tuple[int, int, int]) -> Image.Image:
    """Put a picture with transparent pixels on a colour."""
    layer = picture.convert("RGBA")
    return Image.alpha_composite(Image.new("RGBA", layer.size, (*colour, 255)), layer).convert(
        "RGB"
    )


@dataclass(frozen=True)
class Geometry:
    """The way from a picture to what the model sees, for pictures, masks and boxes alike.

    "center" resizes the short side to size / crop_pct and cuts the square out of the middle;
    "squash" resizes both sides to that, without keeping their ratio; "border" resizes the long
    side and fills the rest with `fill`. So timm evaluates the weights that say so. "whole" resizes
    the short side to size and cuts nothing away, so what comes is no square: for networks that take
    pictures of any size.

    Args:
        size: Side of the square in pixels, in "whole" the short side.
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

    @classmethod
    def of(cls, spec: InputSpec) -> Self:
        """Geometry of what a model expects to see."""
        return cls(spec.side, spec.crop_pct, spec.interpolation, spec.crop_mode, spec.mean)

    def picture(self, picture: Image.Image) -> Float[Tensor, "3 h w"]:
        """Resize and crop an RGB picture; values in [0, 1]."""
        (width, height), (left, top) = self._resized(*picture.size)
        seen = self._seen(width, height)
        resample = _RESAMPLING[self.interpolation]
        if width * height > _MOST_RESIZED:  # a strip: resize no more than the square needs
            x, y = picture.width / width, picture.height / height
            box = left * x, top * y, (left + seen[0]) * x, (top + seen[1]) * y
            resized, left, top = picture.resize(seen, resample, box), 0, 0
        else:
            resized = picture.resize((width, height), resample)
        red, green, blue = (round(255 * value) for value in self.fill)
        square = Image.new("RGB", seen, (red, green, blue))
        square.paste(resized, (-left, -top))
        return torch.from_numpy(np.array(square)).permute(2, 0, 1).float() / 255

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
        return (width, height) if self.mode == "whole" else (self.size, self.size)

    def _resized(self, width: int, height: int) -> tuple[tuple[int, int], tuple[int, int]]:
        """Size of the resized picture, and left and top of what the model sees in it."""
        side = self.size if self.mode == "whole" else math.floor(self.size / self.crop_pct)
        if self.mode == "squash":
            resized = side, side
        elif self.mode == "border":
            longest = max(width, height)
            resized = round(width * side / longest), round(height * side / longest)
        else:  # int(), as torchvision cuts the long side
            short = min(width, height)
            resized = int(side * width / short), int(side * height / short)
        spare = [a - b for a, b in zip(resized, self._seen(*resized), strict=True)]
        left, top = (round(s / 2) if s >= 0 else -(-s // 2) for s in spare)
        return (max(1, resized[0]), max(1, resized[1])), (left, top)


def _within(places: Tensor, start: float, end: float) -> Tensor:
    return (places >= start) & (places < end)
