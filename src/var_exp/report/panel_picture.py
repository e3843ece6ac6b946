"""One panel as a picture that can stand alone: pixels for files, a figure for papers."""

from collections.abc import Iterator

import numpy as np
from matplotlib.axes import Axes
from matplotlib.collections import LineCollection
from matplotlib.figure import Figure
from matplotlib.patches import Rectangle
from PIL import Image, ImageDraw

from var_exp.report.figure_style import INK
from var_exp.report.letters import font
from var_exp.report.panel_layout import Bar, Picture, Words, layout_of
from var_exp.report.panels import Panel

_PER_INCH = 100  # pixels of a layout
_ENLARGED = 2  # from here on the pixels of a small image are shown as they are


def panel_picture(panel: Panel) -> Image.Image:
    """The whole panel in pixels (mode "RGB"), about 1200 wide: title, maps, legend, caption."""
    layout = layout_of(panel)
    canvas = Image.new("RGB", (round(layout.width), round(layout.height)), "white")
    draw = ImageDraw.Draw(canvas)
    for piece in layout.pieces:
        match piece:
            case Words():
                letters = font(piece.size, bold=piece.bold)
                draw.text((piece.x, piece.y), piece.text, piece.colour, letters, anchor="ls")
            case Bar():
                end = (piece.x + piece.width - 1, piece.y + piece.height - 1)
                draw.rectangle((piece.x, piece.y, *map(max, end, (piece.x, piece.y))), piece.colour)
            case Picture():
                size = (max(1, round(piece.width)), max(1, round(piece.height)))
                canvas.paste(_fit(piece.image, size), (round(piece.x), round(piece.y)))
                for colour, thick in (("white", 5), (INK, 2)):  # to be seen on light and dark
                    for start, end in _lines(piece):
                        draw.line((*start, *end), fill=colour, width=thick)
    return canvas


def panel_figure(panel: Panel) -> Figure:
    """The same as a Matplotlib figure, its words as text; it belongs to no window of pyplot."""
    layout = layout_of(panel)
    figure = Figure((layout.width / _PER_INCH, layout.height / _PER_INCH), _PER_INCH)
    figure.patch.set_facecolor("white")
    axis = figure.add_axes((0, 0, 1, 1))
    for place, piece in enumerate(layout.pieces):
        _draw(axis, piece, place)
    axis.set(xlim=(0, layout.width), ylim=(layout.height, 0), aspect="auto")
    axis.axis("off")
    return figure


def _draw(axis: Axes, piece: Words | Bar | Picture, place: int) -> None:
    """Draw one piece above those before it."""
    match piece:
        case Words():
            axis.text(
                piece.x,
                piece.y,
                piece.text,
                color=piece.colour,
                fontsize=piece.size * 72 / _PER_INCH,
                fontweight="bold" if piece.bold else "normal",
                family="DejaVu Sans",
                verticalalignment="baseline",
                parse_math=False,
                zorder=place,
            )
        case Bar():
            corner = (piece.x, piece.y)
            axis.add_patch(
                Rectangle(
                    corner, piece.width, piece.height, color=piece.colour, linewidth=0, zorder=place
                )
            )
        case Picture():
            extent = (piece.x, piece.x + piece.width, piece.y + piece.height, piece.y)
            axis.imshow(np.asarray(piece.image), extent=extent, aspect="auto", zorder=place)
            for colour, thick in (("white", 2.4), (INK, 1.2)):
                lines = LineCollection(
                    list(_lines(piece)), colors=colour, linewidths=thick, zorder=place
                )
                axis.add_collection(lines, autolim=False)


def _lines(piece: Picture) -> Iterator[tuple[tuple[float, float], tuple[float, float]]]:
    """Both ends of each line of a picture, where they lie in the layout."""
    across, down = piece.width / piece.image.width, piece.height / piece.image.height
    for a, b, c, d in piece.lines:
        yield (
            (piece.x + a * across, piece.y + b * down),
            (piece.x + c * across, piece.y + d * down),
        )


def _fit(image: Image.Image, size: tuple[int, int]) -> Image.Image:
    """Crisp pixels when much enlarged, smooth otherwise."""
    crisp = size[0] >= _ENLARGED * image.width
    return image.resize(size, Image.Resampling.NEAREST if crisp else Image.Resampling.LANCZOS)
