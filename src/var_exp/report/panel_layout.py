"""Where everything stands in the picture of one panel that can stand alone, in a paper or a chat.

At the top what is explained; at the left the photograph, who wins and what the classes share; then
a column per class and a row per variant, and how strongly each class wins where; what the colours
mean at the bottom. The painters (`panel_picture`) only put the pieces where they are told to.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial
from itertools import zip_longest
from math import ceil

from PIL import Image

from var_exp.report.figure_style import INK, LINE, SOFT
from var_exp.report.letters import broken, width_of
from var_exp.report.overlays import class_colours, outline_lines
from var_exp.report.panel_parts import SCALE_BAR, Row, Side, rows, scale_bar, sides, told
from var_exp.report.panels import Panel, probability

_WIDTH, _MARGIN, _GAP = 1200, 36, 14  # pixels
_NARROWEST, _WIDEST, _TALLEST = 150, 290, 380  # of a cell, pixels
_MOST = 6  # classes beside each other
_HEADLINE, _HEAD, _TEXT, _SMALL = 30, 20, 17, 15  # sizes of letters, pixels
_LEADING = 1.3  # of a line of text, per size of its letters


@dataclass(frozen=True)
class Words:
    """One line of text; (x, y) is the left end of its base line."""

    text: str
    x: float
    y: float
    size: float
    colour: str = INK
    bold: bool = False


@dataclass(frozen=True)
class Bar:
    """A rectangle of one colour; (x, y) is its upper left corner."""

    x: float
    y: float
    width: float
    height: float
    colour: str


@dataclass(frozen=True)
class Picture:
    """An image to be fitted into a rectangle, with lines (x, y, x, y) in pixels of the image."""

    image: Image.Image
    x: float
    y: float
    width: float
    height: float
    lines: Sequence[tuple[int, int, int, int]] = ()


Piece = Words | Bar | Picture


@dataclass(frozen=True)
class Layout:
    """Pieces on a white ground of so many pixels, the lowest first."""

    width: float
    height: float
    pieces: Sequence[Piece]


def layout_of(panel: Panel) -> Layout:
    """Lay out one panel: about 1200 pixels wide, six classes at most beside each other."""
    sheet = _Sheet(panel)
    sheet.title()
    beside, maps = list(sides(panel)), list(rows(panel))
    for columns in sheet.bands:
        sheet.heads(columns)
        for side, row in zip_longest(beside, maps):
            sheet.row(side, row, columns)
        beside = []  # only beside the first classes
    sheet.legend()
    return Layout(sheet.width, sheet.y + _MARGIN - 12, sheet.pieces)


class _Sheet:
    """Adds pieces from the top down.

    Attributes:
        pieces: Those added.
        width: Of the whole, pixels.
        y: Upper end of what comes next.
        bands: Classes that stand beside each other.
    """

    def __init__(self, panel: Panel) -> None:
        self.panel = panel
        self.pieces: list[Piece] = []
        self.y = float(_MARGIN)
        count = len(panel.class_names)
        beside = ceil(count / ceil(count / _MOST))
        self.bands = [range(k, min(k + beside, count)) for k in range(0, count, beside)]
        room = (_WIDTH - 2 * _MARGIN - beside * _GAP) / (beside + 1)
        room = min(_WIDEST, max(_NARROWEST, room))
        height, width = panel.image.shape[1:]
        factor = min(room / width, _TALLEST / height)
        self._cell = (max(1.0, width * factor), max(1.0, height * factor))
        self._column = max(_NARROWEST, self._cell[0]) + _GAP
        self.width = max(720.0, 2 * _MARGIN + (beside + 1) * self._column - _GAP)
        self._room = self.width - 2 * _MARGIN
        self._left = _MARGIN + self._column  # of the first class
        self._colours = class_colours(count)

    def title(self) -> None:
        """What is explained; below it which picture, what made the maps, and the prediction."""
        panel, width = self.panel, self._room
        write = partial(_write, self.pieces, x=_MARGIN, width=width)
        self.y = write(text=panel.sentence, y=self.y, size=_HEADLINE, bold=True, lines=3)
        says = panel.predicted is not None and not panel.told
        parts = (panel.sample_id, panel.source, f"the model says {panel.predicted}" if says else "")
        told = "   ·   ".join(part for part in parts if part)
        self.y = 16 + write(text=told, y=self.y + 4, size=_TEXT, colour=SOFT, lines=2)

    def heads(self, columns: Sequence[int]) -> None:
        """Name, colour and probability of the classes of a band."""
        room = self._column - _GAP
        size = _HEAD if room > 200 else _TEXT - 1
        ends = []
        for place, k in enumerate(columns):
            x, indent = self._left + place * self._column, 0
            if self.panel.competes:
                self.pieces.append(Bar(x, self.y + size / 5, 14, 14, self._colours[k]))
                indent = 22
            name = self.panel.class_names[k]
            where = (x + indent, self.y, room - indent)
            ends.append(_write(self.pieces, name, *where, size, bold=True, lines=2))
        self.y = max(ends) + 2
        below = self.y
        for place, k in enumerate(columns if self.panel.probabilities else ()):
            x, share = self._left + place * self._column, self.panel.probabilities[k]
            told = f"probability {probability(share)}"
            below = _write(self.pieces, told, x, self.y, room, _SMALL, SOFT, lines=1) + 3
            self.pieces.append(Bar(x, below, room, 6, LINE))
            if share > 0:
                self.pieces.append(Bar(x, below, room * share, 6, self._colours[k]))
        self.y = below + (23 if self.panel.probabilities else 10)

    def row(self, side: Side | None, row: Row | None, columns: Sequence[int]) -> None:
        """A picture at the left and a row of the classes' pictures, with what they are."""
        top = self.y + _TEXT * _LEADING + 4
        below = end = top + self._cell[1] + 3
        if side is not None:
            self.pieces.append(Words(side.name, _MARGIN, self.y + _TEXT, _TEXT, SOFT))
            self.pieces.append(Picture(side.image, _MARGIN, top, *self._cell, side.lines))
        if row is not None:
            self.pieces.append(Words(row.name, self._left, self.y + _TEXT, _TEXT, bold=True))
            x = self._left + width_of(row.name, _TEXT, bold=True) + 10
            where = (x, self.y, self.width - _MARGIN - x)
            _write(self.pieces, row.meaning, *where, _TEXT, SOFT, lines=1)
            for place, k in enumerate(columns):
                x = self._left + place * self._column
                region = self.panel.region(k)
                lines = [] if region is None else outline_lines(region)
                self.pieces.append(Picture(row.pictures[k], x, top, *self._cell, lines))
                y = end
                for remark, colour in row.remarks[k]:
                    width = self._column - _GAP
                    y = _write(self.pieces, remark, x, y, width, _SMALL, colour, lines=3)
                below = max(below, y)
        self.y = below + 15

    def legend(self) -> None:
        """The colours of the maps, and what the pictures mean."""
        self.pieces.append(Bar(_MARGIN, self.y + 4, self._room, 1, LINE))
        y, x = self.y + 22, float(_MARGIN)
        full = f"{self.panel.scale:.2g}"
        for part in (f"against the class  \N{MINUS SIGN}{full}", "", f"+{full}  for the class"):
            if part:
                self.pieces.append(Words(part, x, y + 13, _SMALL, SOFT))
            else:
                self.pieces.append(Picture(scale_bar(), x, y, SCALE_BAR, 15))
            x += (width_of(part, _SMALL) or SCALE_BAR) + 12
        text = " ".join(told(self.panel))
        self.y = _write(self.pieces, text, _MARGIN, y + 28, self._room, _SMALL, SOFT, lines=9)


def _write(
    pieces: list[Piece],
    text: str,
    x: float,
    y: float,
    width: float,
    size: float,
    colour: str = INK,
    *,
    bold: bool = False,
    lines: int,
) -> float:
    """Add text broken to a width, its upper end at y; returns the lower end."""
    for line in broken(text, width, size, bold=bold, lines=lines):
        pieces.append(Words(line, x, y + size, size, colour, bold))
        y += size * _LEADING
    return y
