"""The pictures of one sample: its maps of every competing class, base and refined.

One colour scale (`SCALE_RULE`) for all maps of a sample, symmetric about zero, so that colours
compare between classes and between base and refined map.
"""

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cache, cached_property

from jaxtyping import Bool, Float, UInt8
from matplotlib import font_manager
from matplotlib.figure import Figure
from PIL import Image, ImageDraw, ImageFont
from torch import Tensor

from var_exp.refine.var import VAR
from var_exp.report.overlays import coloured, greyed, note, overlay, scale_of
from var_exp.variants import BASE

SCALE_RULE = (
    "Red speaks for the class, blue against it, no colour is zero. One scale for all maps of a "
    "picture: full colour is the 98 % quantile of the non-zero |base map| over its classes, "
    "opacity follows |map| to the power 0.6; what VAR keeps is drawn K times as strong, for an "
    "even share of K classes is 1/K. A line outlines the true region of the class."
)

_CELL, _GAP, _STRIP = 200, 6, 24  # pixels of `panel_picture`: a cell, between cells, a line of text


@dataclass(frozen=True)
class Panel:
    """One sample with the maps of all K competing classes under several variants.

    Attributes:
        sample_id: Name of the sample.
        image: As people should see it, not normalised.
        class_names: The K competing classes, those asked about first.
        asked: A, how many of them were asked about and scored.
        maps: Per variant one raw signed map per class, of any number of channels; the base first.
        regions: True region of each class asked about; None when the data does not say.
        predicted: What the model says, in words; None to leave it out.
        kind: Why this sample is shown, such as "best"; "" to leave it out.
        metric: The measure of the scores.
        scores: Per variant the score of each class asked about, NaN when undefined.
        competition: Settings of the class competition; None when classes do not compete.
        sharing: Variants that hold each class's share of its map, such as VAR's.

    Raises:
        ValueError: no base map, or shapes that do not fit the image and the classes.
    """

    sample_id: str
    image: UInt8[Tensor, "3 H W"]
    class_names: Sequence[str]
    asked: int
    maps: Mapping[str, Float[Tensor, "K _ H W"]]
    regions: Bool[Tensor, "A H W"] | None = None
    predicted: str | None = None
    kind: str = ""
    metric: str = ""
    scores: Mapping[str, Sequence[float]] = field(default_factory=dict)
    competition: VAR | None = None
    sharing: Collection[str] = ()

    def __post_init__(self) -> None:
        if BASE not in self.maps or not self.class_names:
            raise ValueError("a panel must have a base map and a class; give maps={'base': …}.")
        size = tuple(self.image.shape[1:])
        expected = (len(self.class_names), *size)
        for name, maps in self.maps.items():
            if (len(maps), *maps.shape[2:]) != expected:
                raise ValueError(
                    f"'{name}' of panel {self.sample_id} must have the classes and size {expected} "
                    f"of its panel, got {(len(maps), *maps.shape[2:])}; resize the maps first."
                )
        if self.regions is not None and tuple(self.regions.shape) != (self.asked, *size):
            raise ValueError(
                f"regions of panel {self.sample_id} must have the shape {(self.asked, *size)}, got "
                f"{tuple(self.regions.shape)}; give one per class asked about."
            )

    @cached_property
    def scale(self) -> float:
        """The |base map| that gets full colour in all pictures of this sample; 0 for empty maps."""
        return scale_of(self.flat(BASE))

    def strength(self, variant: str) -> int:
        """How many times as strong as a base map one of a variant is drawn; see `SCALE_RULE`."""
        return len(self.class_names) if variant in self.sharing else 1

    @property
    def competes(self) -> bool:
        """Whether there is a competition to show."""
        return self.competition is not None and len(self.class_names) > 1

    def flat(self, variant: str) -> Float[Tensor, "K H W"]:
        """Maps of one variant with their channels summed, as people see them."""
        return self.maps[variant].sum(1)

    def region(self, column: int) -> Bool[Tensor, "H W"] | None:
        """True region of one of the competing classes, where it is known."""
        known = self.regions is not None and column < self.asked
        return self.regions[column] if self.regions is not None and known else None

    def shares(self) -> Float[Tensor, "K H W"]:
        """Class distribution at every pixel, the mean over the channels that compete.

        Raises:
            ValueError: the classes do not compete.
        """
        if self.competition is None:
            raise ValueError(f"the classes of panel {self.sample_id} do not compete.")
        return self.competition.distribution(self.maps[BASE][None])[0].mean(1)


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
    picture.paste(_fit(coloured(panel.image), cell), (0, _STRIP))
    _write(picture, panel.sample_id, (0, 0, cell[0], _STRIP))
    if panel.predicted is not None:
        _write(picture, panel.predicted, (0, _STRIP + cell[1], cell[0], _STRIP))
    grey = greyed(panel.image).convert("RGBA")
    for row, variant in enumerate(panel.maps):
        top = _STRIP + row * (cell[1] + _GAP)
        _write_upwards(picture, variant, (cell[0] + _GAP, top, _STRIP, cell[1]))
        for column, values in enumerate(panel.flat(variant)):
            left = _STRIP + (column + 1) * (cell[0] + _GAP)
            drawn = overlay(
                values * panel.strength(variant), panel.scale, panel.region(column)
            ).convert("RGBA")
            drawn = Image.alpha_composite(grey, drawn)
            picture.paste(_fit(drawn.convert("RGB"), cell), (left, top))
            _write(picture, note(values), (left, top, cell[0], _STRIP))
            if row == 0:
                _write(picture, panel.class_names[column], (left, 0, cell[0], _STRIP))
    return picture


def panel_figure(panel: Panel) -> Figure:
    """The whole panel as a Matplotlib figure."""
    picture = panel_picture(panel)
    figure = Figure(figsize=(picture.width / 100, picture.height / 100))
    axis = figure.add_axes((0.0, 0.0, 1.0, 1.0))
    axis.imshow(picture)
    axis.set_axis_off()
    return figure


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
