"""Picture files and mask files, whoever wrote them: read as RGB, 8 bit, upright, or refused.

A file is data from a stranger: only a closed list of formats is read, and one picture takes at most
1.25 GiB of memory. `var_exp.data.geometry` has the way from there to what a model sees.
"""

import re
import warnings
from functools import cache
from pathlib import Path
from typing import IO, TypeAlias

import numpy as np
import torch
from jaxtyping import Bool
from numpy.typing import NDArray
from PIL import Image, ImageFile, UnidentifiedImageError
from torch import Tensor

from var_exp.files import no_file
from var_exp.types import BadData

Source: TypeAlias = Path | IO[bytes]

SUFFIXES = frozenset({
    ".jpg", ".jpeg", ".jfif", ".png", ".webp", ".gif", ".bmp", ".tif", ".tiff", ".ppm", ".pgm",
    ".jp2", ".avif",
})  # fmt: skip
"""Endings of the files that are taken for pictures; what they hold decides how they are read."""

_FORMATS = ("JPEG", "MPO", "PNG", "WEBP", "GIF", "BMP", "DIB", "TIFF", "PPM", "JPEG2000", "AVIF")
"""What a file may hold. Others, such as PostScript, Pillow reads by starting an interpreter."""

_MEMORY = 5 * 2**28  # bytes that reading one picture may take at its worst, in each loader process
_BYTES = {"JPEG2000": 25, "WEBP": 20, "AVIF": 16}  # for a pixel: while it is decoded, as measured
_BYTES_CMYK = 12  # of a progressive JPEG
_BYTES_ELSE = 10  # what is decoded, and what is made of it
_STRIP = 2**20  # pixels that are converted at a time

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
_INTERPRETATION, _WHITE_IS_ZERO = 0x0106, 0  # in TIFF; Pillow minds it in 8 bit only
_SMEARING = ("JPEG", "MPO", "WEBP", "AVIF", "JPEG2000")  # no formats for masks


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
        BadData: it is missing, empty, no picture, broken, cut off, so large that it would take
            more than 1.25 GiB of memory (134 million pixels; of CMYK, WebP, JPEG 2000 and AVIF 53
            to 111 million), or in 32-bit numbers of unknown range.
    """
    name = name or str(source)
    with _decode(source, name) as opened:
        picture = _upright(opened) if upright else opened
    del opened  # where it was turned, one of the two is enough in memory
    return _rgb(picture, name)


def refuse_address(path: str) -> None:
    """Refuse an address of the web where a file is wanted.

    Raises:
        BadData: it is one.
    """
    if re.match(r"(?:https?|ftp|s3|gs):/", path):  # `Path` makes one slash of two
        raise BadData(
            f"'{path}' is an address, and pictures are read from the disk; download it first and "
            "give the file."
        )


def as_rgb(picture: Image.Image, name: str) -> Image.Image:
    """A picture in memory as `read_picture` gives it: RGB, 8 bit, upright.

    Raises:
        BadData: it cannot be decoded, or holds 32-bit numbers of unknown range.
    """
    try:
        picture.load()
    except Exception as error:  # each format brings its own
        raise _unreadable(name, str(error) or type(error).__name__) from error
    return _rgb(_upright(_noted(picture)), name)


def read_mask(source: Source, name: str | None = None) -> Bool[Tensor, "H W"]:
    """Read a mask picture, upright: True wherever it is not black (and not transparent).

    Raises:
        BadData: as `read_picture`, or of a format that smears masks, such as JPEG.
    """
    name = name or str(source)
    with _decode(source, name) as opened:
        _refuse_smeared(opened, name)
        picture = _upright(opened)
        if _transparent(picture):
            picture = _on(picture, (0, 0, 0))
        elif picture.mode == "P":
            picture = picture.convert("RGB")
        values = np.asarray(picture)
    if picture.mode == "F" and not np.isfinite(values).all():
        raise _unreadable(name, "it holds numbers that are none")
    black = 65535 if _is_inverted(picture) else 0
    return torch.from_numpy(values.any(-1) if values.ndim == 3 else values != black)


def read_labels(source: Source, name: str | None = None) -> NDArray[np.int64]:
    """Read a picture of class numbers as it is stored, [H, W].

    Palette and grey pictures hold the numbers themselves (Pascal VOC), coloured ones red + 256
    green (ImageNet-S).

    Raises:
        BadData: as `read_mask`.
    """
    name = name or str(source)
    with _decode(source, name) as opened:
        _refuse_smeared(opened, name)
        if opened.mode == "F":
            raise _unreadable(name, "class numbers are whole numbers, and these are none")
        values = np.asarray(opened).astype(np.int64)
    return values if values.ndim == 2 else values[..., 0] + 256 * values[..., 1]


def _refuse_smeared(opened: Image.Image, name: str) -> None:
    if opened.format in _SMEARING:
        raise BadData(
            f"the mask '{name}' is a {opened.format}, which smears masks; save it as PNG."
        )


def check_header(source: Source, name: str | None = None) -> tuple[int, int]:
    """Width and height as stored, from the head of a picture file; no pixel is decoded.

    Raises:
        BadData: it is missing, empty, no picture, or too large.
    """
    with _open(source, name or str(source)) as opened:
        return opened.size


def _open(source: Source, name: str) -> ImageFile.ImageFile:
    if isinstance(source, Path) and (reason := no_file(source)):
        raise _unreadable(name, reason)
    try:
        with warnings.catch_warnings():
            # of what is half as large as Pillow's limit, or odd in its metadata
            warnings.simplefilter("ignore")
            opened = Image.open(source, formats=_formats())
    except Exception as error:  # each format brings its own
        raise _unreadable(name, _reason(source, error)) from error
    each = _BYTES_CMYK if opened.mode == "CMYK" else _BYTES_ELSE
    most = _MEMORY // _BYTES.get(opened.format or "", each)
    if opened.width * opened.height > most:
        opened.close()
        raise _unreadable(name, _too_large(most))
    return opened


@cache
def _formats() -> tuple[str, ...]:
    """Those of the formats that this Pillow was built with."""
    Image.init()
    return tuple(name for name in _FORMATS if name in Image.OPEN)


def _too_large(most: int) -> str:
    return f"it has more than {most // 1_000_000} million pixels, save it smaller"


def _decode(source: Source, name: str) -> Image.Image:
    """Open and decode, so that nothing is left to fail; `format` says what the file was."""
    opened = _open(source, name)
    # else Pillow maps the file, and mixes up the rows of a turned TIFF
    opened.filename = ""  # of files that were opened
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # about metadata that nobody reads
            opened.load()
    except Exception as error:  # each format brings its own
        opened.close()
        raise _unreadable(name, str(error) or type(error).__name__) from error
    return _noted(opened)


def _noted(picture: Image.Image) -> Image.Image:
    """Keep what its numbers mean where it is handed on as it is turned or cut."""
    tags = getattr(picture, "tag_v2", {})
    if picture.mode.startswith("I;16") and tags.get(_INTERPRETATION) == _WHITE_IS_ZERO:
        picture.info["white_is_zero"] = True
    if picture.mode == "I" and picture.format in ("PNG", "PPM"):  # Pillow scales them to 16 bit
        picture.info["sixteen_bit"] = True
    return picture


def _is_inverted(picture: Image.Image) -> bool:
    return "white_is_zero" in picture.info


def _reason(source: Source, error: Exception) -> str:
    if isinstance(source, Path) and source.is_file() and not source.stat().st_size:
        return "the file is empty"
    if isinstance(error, UnidentifiedImageError):
        return "it is no picture of a format that is read: " + ", ".join(_formats())
    if isinstance(error, Image.DecompressionBombError):
        return _too_large(_MEMORY // _BYTES_ELSE)
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
    """A decoded picture as RGB, 8 bit; large ones in strips, which bounds the memory."""
    if picture.mode in ("I", "F") and "sixteen_bit" not in picture.info:
        raise _unreadable(name, "its 32-bit numbers have no known range, save it in 8 or 16 bit")
    if picture.mode == "RGB" and not _transparent(picture):
        return picture
    rows = max(1, _STRIP // picture.width)
    if picture.height <= rows:
        return _strip_rgb(picture)
    whole = Image.new("RGB", picture.size)
    for top in range(0, picture.height, rows):
        strip = picture.crop((0, top, picture.width, min(top + rows, picture.height)))
        strip.info = dict(picture.info)
        whole.paste(_strip_rgb(strip), (0, top))
    return whole


def _strip_rgb(picture: Image.Image) -> Image.Image:
    if picture.mode == "I" or picture.mode.startswith("I;16"):
        values = np.asarray(picture).astype(np.float64)
        values = 65535 - values if _is_inverted(picture) else values
        picture = Image.fromarray((values * (255 / 65535)).round().astype(np.uint8))
    return _on(picture, (255, 255, 255)) if _transparent(picture) else picture.convert("RGB")


def _transparent(picture: Image.Image) -> bool:
    return picture.mode in ("RGBA", "LA", "PA", "RGBa", "La") or "transparency" in picture.info


def _on(picture: Image.Image, colour: tuple[int, int, int]) -> Image.Image:
    """Put a picture with transparent pixels on a colour."""
    layer = picture.convert("RGBA")
    return Image.alpha_composite(Image.new("RGBA", layer.size, (*colour, 255)), layer).convert(
        "RGB"
    )
