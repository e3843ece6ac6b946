"""Where everything stands in the picture of one panel that can stand alone, in a paper or a chat.

At the top what is explained; at the left the photograph, who wins and what the classes share; then
a column per class and a row per variant, and how strongly each class wins where; what the colours
mean at the bottom. The painters (`panel_picture`) only put the pieces where they are told to.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from math import isfinite

import numpy as np
from PIL import Image

from var_exp.report.figure_style import INK, LINE, SOFT
from var_exp.report.letters import broken, width_of
from var_exp.report.overlays import (
    class_colours,
    coloured,
    greyed,
    outline_lines,
    overlay,
    painted,
    rgb_of,
    scale_colours,
    winners,
)
from var_exp.report.panels import Panel, probability
from var_exp.variants import BASE

ACCENT = "#a31627"
_WIDTH, _MARGIN, _GAP = 1200, 36, 14  # pixels
_NARROWEST, _WIDEST, _TALLEST = 150, 290, 380  # of a cell, pixels
_HEADLINE, _HEAD, _TEXT, _SMALL = 30, 20, 17, 15  # sizes of letters, pixels
_SCALE_BAR = 300  # pixels of the colour bar
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


@dataclass(frozen=True)
class _Row:
    """One row of maps: what stands over it, a picture per class, a remark under each."""

    name: str
    meaning: str
    pictures: Sequence[Image.Image]
    remarks: Sequence[Sequence[str]]


def layout_of(panel: Panel) -> Layout:
    """Lay out one panel; as wide as its classes need, 1200 pixels for most."""
    count = len(panel.class_names)
    height, width = panel.image.shape[1:]
    room = (_WIDTH - 2 * _MARGIN - count * _GAP) / (count + 1)
    room = min(_WIDEST, max(_NARROWEST, room))
    factor = min(room / width, _TALLEST / height)
    cell = (max(1.0, width * factor), max(1.0, height * factor))
    column = max(_NARROWEST, cell[0]) + _GAP
    whole = max(720.0, 2 * _MARGIN + (count + 1) * column - _GAP)
    text = whole - 2 * _MARGIN
    pieces: list[Piece] = []
    y = float(_MARGIN)
    y = _write(pieces, panel.sentence, _MARGIN, y, text, _HEADLINE, bold=True, lines=3)
    y = _write(pieces, _subtitle(panel), _MARGIN, y + 4, text, _TEXT, SOFT, lines=2) + 16
    y = _heads(pieces, panel, _MARGIN + column, y, column)
    sides = list(_sides(panel))
    rows = list(_rows(panel))
    for place in range(max(len(rows), len(sides))):
        heading = y + _TEXT * _LEADING
        below = 0.0
        if place < len(sides):
            name, side, lines = sides[place]
            pieces.append(Words(name, _MARGIN, y + _TEXT, _TEXT, SOFT))
            pieces.append(Picture(side, _MARGIN, heading + 4, *cell, lines))
        if place < len(rows):
            row, left = rows[place], _MARGIN + column
            pieces.append(Words(row.name, left, y + _TEXT, _TEXT, bold=True))
            after = left + width_of(row.name, _TEXT, bold=True) + 10
            _write(pieces, row.meaning, after, y, whole - _MARGIN - after, _TEXT, SOFT, lines=1)
            for k, image in enumerate(row.pictures):
                x = left + k * column
                region = panel.region(k)
                lines = [] if region is None else outline_lines(region)
                pieces.append(Picture(image, x, heading + 4, *cell, lines))
                bottom = y_under = heading + 4 + cell[1] + 3
                for remark in row.remarks[k]:
                    tone = SOFT if remark[:1].isdigit() else ACCENT
                    bottom = _write(pieces, remark, x, bottom, column - _GAP, _SMALL, tone, lines=3)
                below = max(below, bottom - y_under)
        y = heading + 4 + cell[1] + below + 18
    y = _legend(pieces, panel, y + 4, text)
    return Layout(whole, y + _MARGIN - 12, pieces)


def _subtitle(panel: Panel) -> str:
    """Which picture, what made the maps, and the prediction where the title does not say it."""
    says = "" if panel.predicted is None or panel.told else f"the model says {panel.predicted}"
    return "   ·   ".join(part for part in (panel.sample_id, panel.source, says) if part)


def _heads(pieces: list[Piece], panel: Panel, left: float, y: float, column: float) -> float:
    """Name, colour and probability of each class; returns where the rows begin."""
    room = column - _GAP
    size = _HEAD if room > 200 else _TEXT - 1
    colours = class_colours(len(panel.class_names))
    ends = []
    for k, name in enumerate(panel.class_names):
        x = left + k * column
        if panel.competes:
            pieces.append(Bar(x, y + size / 5, 14, 14, colours[k]))
        indent = 22 if panel.competes else 0
        place = (x + indent, y, room - indent)
        ends.append(_write(pieces, name, *place, size, bold=True, lines=2))
    y = max(ends) + 2
    if not panel.probabilities:
        return y + 10
    for k, share in enumerate(panel.probabilities):
        x = left + k * column
        told = f"probability {probability(share)}"
        y_after = _write(pieces, told, x, y, room, _SMALL, SOFT, lines=1)
        pieces.append(Bar(x, y_after + 3, room, 6, LINE))
        if share > 0:
            pieces.append(Bar(x, y_after + 3, room * share, 6, colours[k]))
    return y_after + 26


def _sides(panel: Panel) -> Iterator[tuple[str, Image.Image, list[tuple[int, int, int, int]]]]:
    """The column at the left: name, picture and lines of each."""
    regions = [] if panel.regions is None else [outline_lines(one) for one in panel.regions]
    yield "photograph", coloured(panel.image), [line for lines in regions for line in lines]
    if panel.competes:
        drawn = winners(panel.shares(), panel.flat(BASE), panel.scale)
        yield "who wins", _laid(panel, drawn), []
    if panel.shared is not None:
        yield "what they share", _laid(panel, overlay(panel.shared, panel.scale)), []


def _rows(panel: Panel) -> Iterator[_Row]:
    """Base, refined, and how strongly each class wins where."""
    columns = range(len(panel.class_names))
    for variant in panel.maps:
        drawn = [_laid(panel, overlay(values, panel.scale)) for values in panel.drawn(variant)]
        remarks = [_remarks(panel, variant, column) for column in columns]
        yield _Row(variant, panel.meaning(variant), drawn, remarks)
    if panel.competes:
        colours = class_colours(len(panel.class_names))
        shares = [
            _laid(panel, painted(strength, colour))
            for strength, colour in zip(panel.won(), colours, strict=True)
        ]
        meaning = "where each class wins, and how clearly"
        yield _Row("shares", meaning, shares, [[] for _ in columns])


def _remarks(panel: Panel, variant: str, column: int) -> list[str]:
    scores = panel.scores.get(variant, ())
    score = scores[column] if column < len(scores) else float("nan")
    told = [f"{score:.2f} {panel.metric}".rstrip()] if isfinite(score) else []
    remark = panel.remark(variant, column)
    return [*told, remark] if remark else told


def _laid(panel: Panel, drawn: Image.Image) -> Image.Image:
    """A transparent picture on the greyed photograph."""
    grey = greyed(panel.image).convert("RGBA")
    return Image.alpha_composite(grey, drawn.convert("RGBA")).convert("RGB")


def _legend(pieces: list[Piece], panel: Panel, y: float, room: float) -> float:
    """The colours of the maps, and what the pictures mean; returns the lower end."""
    pieces.append(Bar(_MARGIN, y, room, 1, LINE))
    y += 18
    x = float(_MARGIN)
    for part in (
        f"against the class  \N{MINUS SIGN}{panel.scale:.2g}",
        "",
        f"+{panel.scale:.2g}  for the class",
    ):
        if part:
            pieces.append(Words(part, x, y + 13, _SMALL, SOFT))
            x += width_of(part, _SMALL) + 12
        else:
            pieces.append(Picture(_bar(), x, y, _SCALE_BAR, 15))
            x += _SCALE_BAR + 12
    return _write(pieces, " ".join(_told(panel)), _MARGIN, y + 28, room, _SMALL, SOFT, lines=9)


def _told(panel: Panel) -> Iterator[str]:
    yield (
        "All maps of this picture have one scale, in the method's own units (no probabilities): "
        f"full colour at {panel.scale:.2g}, the 98 % quantile of the non-zero base values."
    )
    remarks = " ".join(
        panel.remark(variant, k) for variant in panel.maps for k in range(len(panel.class_names))
    )
    if "empty map" in remarks:
        yield "Empty map: the class keeps nothing, as its share is nowhere large enough."
    if "loses least" in remarks:
        yield (
            "Loses least: where every class has evidence against it, the one with the least wins; "
            "that is no evidence for it, and not drawn."
        )
    if panel.competes:
        yield (
            "Shares and who wins: in the colour of the class, the stronger the more evidence it "
            f"has and the further its share lies above 1/{len(panel.class_names)}."
        )
    if panel.shared is not None:
        yield "What they share: what speaks for all of them and is won by none, in red."
    if panel.regions is not None:
        yield "A line outlines the true region of the class."


def _bar() -> Image.Image:
    """The colours of a map from its lowest to its highest value, on light grey."""
    colours = np.array(scale_colours(_SCALE_BAR))
    rgb, opacity = colours[:, :3], colours[:, 3:]
    mixed = opacity * rgb + (1 - opacity) * np.array(rgb_of("#d4d4d4"))
    return Image.fromarray(np.rint(mixed).astype(np.uint8)[None])


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
