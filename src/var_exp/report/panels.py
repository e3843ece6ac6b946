"""Pictures of signed maps: drawn over the greyed image, red speaks for the class, blue against it.

Scale rule (`SCALE_RULE`): one scale per sample and variant, shared by all classes and symmetric
about zero, so that colours compare between the classes of a row. Zero is transparent.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cache

import numpy as np
from jaxtyping import Bool, Float, UInt8
from matplotlib import colormaps, font_manager
from PIL import Image, ImageDraw, ImageFont
from torch import Tensor

SCALE_RULE = (
    "Red speaks for the class, blue against it, no colour is zero. Full colour is the 99.5 % "
    "quantile of the non-zero |map| over all classes of that picture and variant, opacity follows "
    "|map| to the power 0.6; a thin line outlines the true region of the class."
)

_LEVELS = 31  # shades per sign: more cannot be told apart over a picture, and fewer compress well
_OUTLINE = 2 * _LEVELS + 1  # palette index of the true region's outline
_CELL, _GAP, _STRIP = 200, 6, 24  # pixels of `panel_picture`: a cell, between cells, a line of text


@dataclass(frozen=True)
class Panel:
    """One sample with the maps of several classes under several variants.

    Attributes:
        sample_id: Name of the sample.
        image: As people should see it, not normalised.
        class_names: The A classes asked about.
        regions: True region of each class; None when the data does not say.
        maps: Per variant one signed map per class, channels summed.
        predicted: What the model says, in words; None to leave it out.

    Raises:
        ValueError: no map at all, or shapes that do not fit the image and the classes.
    """

    sample_id: str
    image: UInt8[Tensor, "3 H W"]
    class_names: Sequence[str]
    regions: Bool[Tensor, "A H W"] | None
    maps: Mapping[str, Float[Tensor, "A H W"]]
    predicted: str | None = None

    def __post_init__(self) -> None:
        if not self.maps or not self.class_names:
            raise ValueError("a panel must have at least one variant and one class, got none.")
        expected = (len(self.class_names), *self.image.shape[1:])
        regions = {} if self.regions is None else {"regions": self.regions}
        for name, tensor in {**self.maps, **regions}.items():
            if tuple(tensor.shape) != expected:
                raise ValueError(
                    f"'{name}' of panel {self.sample_id} must have the shape {expected} of its "
                    f"classes and image, got {tuple(tensor.shape)}; sum channels and resize first."
                )


def greyed(image: UInt8[Tensor, "3 H W"]) -> Image.Image:
    """The image in light grey, quiet enough for colours on top (mode "L")."""
    grey = Image.fromarray(image.permute(1, 2, 0).contiguous().cpu().numpy()).convert("L")
    return grey.point([round(255 * 0.58 + 0.38 * level) for level in range(256)])


def scale_of(maps: Float[Tensor, "A H W"]) -> float:
    """The |value| that gets full colour, 0 when the maps are empty.

    The quantile is over non-zero values, since a refined map is mostly zeros.
    """
    sizes = np.abs(maps.detach().cpu().numpy())
    sizes = sizes[np.isfinite(sizes) & (sizes > 0)]
    return float(np.quantile(sizes, 0.995)) if sizes.size else 0.0


def overlay(
    values: Float[Tensor, "H W"], scale: float, region: Bool[Tensor, "H W"] | None = None
) -> Image.Image:
    """A signed map as a transparent palette picture, to be laid on the greyed image.

    Args:
        values: Signed; what is not finite is drawn as zero (`note` says so beside the picture).
        scale: The |value| that gets full colour and opacity; 0 draws nothing.
        region: Outlined when given.
    """
    numbers = np.nan_to_num(values.detach().cpu().numpy(), posinf=0.0, neginf=0.0)
    share = np.clip(numbers / scale, -1.0, 1.0) if scale > 0 else np.zeros_like(numbers)
    indices = (np.rint(share * _LEVELS) + _LEVELS).astype(np.uint8)
    if region is not None:
        indices[_outline(region.cpu().numpy())] = _OUTLINE
    colours, opacities = _palette()
    picture = Image.fromarray(indices)
    picture.putpalette(colours)  # turns "L" into "P"
    picture.info["transparency"] = opacities
    return picture


def note(values: Float[Tensor, "H W"]) -> str:
    """What the eye could mistake: "empty map", "not finite in n pixels", or ""."""
    numbers = values.detach().cpu().numpy()
    if broken := np.count_nonzero(~np.isfinite(numbers)):
        return f"not finite in {broken:,} pixels"
    return "" if numbers.any() else "empty map"


def panel_picture(panel: Panel) -> Image.Image:
    """The whole panel as one picture: a row per variant, the image and then a column per class.

    For loggers; the page lays the same cells out itself. Mode "RGB", cells of about 200 px.
    """
    height, width = panel.image.shape[1:]
    factor = max(1, round(_CELL / max(height, width)))
    shrink = min(1.0, _CELL / (factor * max(height, width)))
    cell = (round(width * factor * shrink), round(height * factor * shrink))
    columns, rows = 1 + len(panel.class_names), len(panel.maps)
    size = (
        _STRIP + columns * (cell[0] + _GAP),
        _STRIP + rows * (cell[1] + _GAP),
    )
    picture = Image.new("RGB", size, "white")
    image = Image.fromarray(panel.image.permute(1, 2, 0).contiguous().cpu().numpy())
    picture.paste(_fit(image, cell), (0, _STRIP))
    _write(picture, panel.sample_id, (0, 0, cell[0], _STRIP))
    if panel.predicted is not None:
        _write(picture, panel.predicted, (0, _STRIP + cell[1], cell[0], _STRIP))
    grey = greyed(panel.image).convert("RGBA")
    for row, (variant, maps) in enumerate(panel.maps.items()):
        top = _STRIP + row * (cell[1] + _GAP)
        _write_upwards(picture, variant, (cell[0] + _GAP, top, _STRIP, cell[1]))
        scale = scale_of(maps)
        for column, values in enumerate(maps):
            left = _STRIP + (column + 1) * (cell[0] + _GAP)
            region = None if panel.regions is None else panel.regions[column]
            drawn = Image.alpha_composite(grey, overlay(values, scale, region).convert("RGBA"))
            picture.paste(_fit(drawn.convert("RGB"), cell), (left, top))
            _write(picture, note(values), (left, top, cell[0], _STRIP))
            if row == 0:
                _write(picture, panel.class_names[column], (left, 0, cell[0], _STRIP))
    return picture


@cache
def _palette() -> tuple[bytes, bytes]:
    """RGB triples and opacities of the palette: blue to red, then the outline."""
    share = np.arange(-_LEVELS, _LEVELS + 1) / _LEVELS
    # The middle of the colour map is white: start a step into each side, let opacity fade.
    colours = colormaps["RdBu_r"](0.5 + np.sign(share) * (0.26 + 0.16 * np.abs(share)))
    rgb = np.vstack([np.rint(colours[:, :3] * 255), [20, 20, 20]]).astype(np.uint8)
    opacity = np.append(np.rint(255 * np.abs(share) ** 0.6), 255).astype(np.uint8)
    return rgb.tobytes(), opacity.tobytes()


def _outline(region: Bool[np.ndarray, "H W"]) -> Bool[np.ndarray, "H W"]:
    """Pixels of the region that touch its outside or the picture's edge."""
    padded = np.pad(region, 1)
    inner = padded[:-2, 1:-1] & padded[2:, 1:-1] & padded[1:-1, :-2] & padded[1:-1, 2:]
    outline: Bool[np.ndarray, "H W"] = region & ~inner
    return outline


def _fit(picture: Image.Image, size: tuple[int, int]) -> Image.Image:
    """Crisp pixels when enlarged, averages when shrunk."""
    enlarged = size[0] >= picture.width
    return picture.resize(size, Image.Resampling.NEAREST if enlarged else Image.Resampling.BOX)


def _write(picture: Image.Image, text: str, box: tuple[int, int, int, int]) -> None:
    """Centre one line in a box (left, top, width, height), cut short to fit its width."""
    left, top, width, height = box
    font = _font()
    while font.getlength(text) > width and len(text) > 1:
        text = text[:-2] + "…"
    place = (left + width / 2, top + height / 2)
    if text:
        draw = ImageDraw.Draw(picture)
        draw.rectangle(draw.textbbox(place, text, font=font, anchor="mm"), fill="white")
        draw.text(place, text, fill=(20, 20, 20), font=font, anchor="mm")


def _write_upwards(picture: Image.Image, text: str, box: tuple[int, int, int, int]) -> None:
    """The same, reading from bottom to top."""
    left, top, width, height = box
    label = Image.new("RGB", (height, width), "white")
    _write(label, text, (0, 0, height, width))
    picture.paste(label.transpose(Image.Transpose.ROTATE_90), (left, top))


@cache
def _font() -> ImageFont.FreeTypeFont:
    """The font that Matplotlib ships, so that every machine draws the same letters."""
    return ImageFont.truetype(font_manager.findfont("DejaVu Sans"), size=13)
