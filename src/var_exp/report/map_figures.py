"""Printed sheets of maps: pictures at the left, a column per method or class, a row per variant."""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from math import isfinite
from pathlib import Path
from textwrap import fill, wrap

import matplotlib.pyplot as plt
import numpy as np
from jaxtyping import Bool, UInt8
from matplotlib.axes import Axes
from matplotlib.collections import LineCollection
from matplotlib.figure import Figure
from PIL import Image
from torch import Tensor

from var_exp.report.figure_style import INK, SOFT, printed, save
from var_exp.report.overlays import greyed, outline_lines, overlay, scale_colours
from var_exp.report.panels import Panel
from var_exp.text import readable

_WIDTH = 6.9  # inches: the text of a two-column page
_NARROWEST = 3.6  # inches: so that the legend has room
_LEGEND = (
    "One scale for all maps of a picture and method, base and refined: full colour at the 98 % "
    "quantile of the non-zero |base map|. Empty map: the class keeps nothing, its share is nowhere "
    "large enough."
)
_LARGEST, _GAP, _LINE, _GUTTER = 1.15, 0.05, 0.16, 0.2  # inches: a cell, between cells, text


@dataclass(frozen=True)
class Tile:
    """One cell of a sheet.

    Attributes:
        pixels: [H, W, 3].
        region: Outlined when given.
        caption: Stands under it.
    """

    pixels: UInt8[np.ndarray, "H W 3"]
    region: Bool[Tensor, "H W"] | None = None
    caption: str = ""


@dataclass(frozen=True)
class Block:
    """One picture with its rows of maps.

    Attributes:
        picture: The picture itself.
        heads: Over the columns.
        rows: By variant, one tile per column.
    """

    picture: Tile
    heads: Sequence[str]
    rows: Mapping[str, Sequence[Tile]]


def grid_blocks(
    panels: Mapping[tuple[str, str], Sequence[Panel]], variants: Sequence[str], classes: int = 1
) -> list[Block]:
    """Methods as columns, base and refined as rows; a block for each class, sample and network.

    Args:
        panels: By what stands beside the picture (such as the network) and over the column (such
            as the method), the same samples in the same order.
        variants: The rows.
        classes: How many of the classes asked about are shown of each sample.
    """
    groups: dict[str, dict[str, Sequence[Panel]]] = {}
    for (group, head), shown in panels.items():
        groups.setdefault(group, {})[head] = shown
    first, *_ = panels.values()
    told = dict(zip(groups, distinct(list(groups), _LARGEST), strict=True))
    return [
        Block(
            _picture(sample, column, told[group]),
            list(shown),
            {
                variant: [_tile(each[place], variant, column) for each in shown.values()]
                for variant in variants
            },
        )
        for place, sample in enumerate(first)
        for column in range(min(classes, sample.asked))
        for group, shown in groups.items()
    ]


def class_blocks(panels: Mapping[str, Panel], variants: Sequence[str], classes: int) -> list[Block]:
    """Several classes of one picture as columns, base and refined as rows; a block for each run.

    Args:
        panels: By run, such as a CNN and a transformer.
        variants: The rows.
        classes: At most so many columns.
    """
    told = distinct(list(panels), _LARGEST)
    return [
        Block(
            _picture(panel, None, name),
            list(panel.class_names[:classes]),
            {
                variant: [
                    _tile(panel, variant, column)
                    for column in range(min(classes, len(panel.class_names)))
                ]
                for variant in variants
            },
        )
        for name, panel in zip(told, panels.values(), strict=True)
    ]


def legend_of(panels: Iterable[Panel], variants: Sequence[str]) -> str:
    """What the colours of maps mean, for those that are shown."""
    shown = list(panels)
    by_size = [v for v in variants if any(panel.keeps_against(v) for panel in shown)]
    signed = [v for v in variants if any(panel.loses_least(v) for panel in shown)]
    measures = {readable(panel.metric) for panel in shown if panel.metric}
    told = [_LEGEND, *(f"Below a map its {name}." for name in sorted(measures))]
    if by_size:
        told.append(
            f"Blue in {' and '.join(by_size)}: sizes |a| compete there, so strong evidence against "
            "the class wins as well, and stays."
        )
    if signed:
        told.append(
            f"In {' and '.join(signed)}, where every class has evidence against it, the one that "
            "loses least keeps a negative value, which is not drawn."
        )
    return " ".join(told)


def sheet(stem: Path, blocks: Sequence[Block], legend: str = _LEGEND) -> list[Path]:
    """Draw the blocks one under the other, what the colours mean below; returns the files."""
    columns = 1 + max(len(block.heads) for block in blocks)
    cell = min(_LARGEST, (_WIDTH - _GUTTER) / columns - _GAP)
    heights = [_height(blocks, i, cell) for i in range(len(blocks))]
    width = max(_GUTTER + columns * (cell + _GAP), _NARROWEST)
    told = fill(legend, int(width / 0.062))
    below = 0.3 + (told.count("\n") + 1) * _LINE
    with printed():
        figure = plt.figure(figsize=(width, sum(heights) + below))
        top = 0.0
        for i, block in enumerate(blocks):
            _draw(figure, block, top, cell, heads=_has_heads(blocks, i))
            top += heights[i]
        _explain(figure, told, below)
        return save(figure, stem)


def _explain(figure: Figure, told: str, tall: float) -> None:
    """The colours of the maps and what they mean, in the lowest inches of a figure."""
    width, height = figure.get_size_inches()
    bar = (1.15 / width, (tall - 0.17) / height, 1.1 / width, 0.08 / height)
    axis = figure.add_axes(bar)
    axis.imshow(np.array(scale_colours(256))[None] / (255, 255, 255, 1), aspect="auto")
    axis.set_facecolor("#d4d4d4")
    axis.set(xticks=[], yticks=[])
    axis.spines[:].set_visible(False)
    middle = bar[1] + bar[3] / 2
    for x, side, text in (
        (bar[0] - 0.06 / width, "right", "against the class"),
        (bar[0] + bar[2] + 0.06 / width, "left", "for the class"),
    ):
        figure.text(x, middle, text, ha=side, va="center", color=SOFT)
    figure.text(0, (tall - 0.27) / height, told, ha="left", va="top", color=SOFT, linespacing=1.3)


def _has_heads(blocks: Sequence[Block], place: int) -> bool:
    """Whether a block names its columns: it does unless they are those of the block above."""
    return place == 0 or blocks[place].heads != blocks[place - 1].heads


def _height(blocks: Sequence[Block], place: int, cell: float) -> float:
    block = blocks[place]
    head = _head(blocks[place], cell) if _has_heads(blocks, place) else 0.0
    return head + max(_rows(block, cell), _picture_height(block, cell)) + _LINE


def _rows(block: Block, cell: float) -> float:
    """Inches that the rows of maps take."""
    rows = [cell * _aspect(block) + _below(tiles) for tiles in block.rows.values()]
    return sum(rows) + (len(rows) - 1) * _GAP


def _picture_height(block: Block, cell: float) -> float:
    """Inches that the picture beside the rows takes, with what stands below it."""
    return cell * _aspect(block) + (block.picture.caption.count("\n") + 1) * _LINE


def _head(block: Block, cell: float) -> float:
    """Inches that the names of the columns take."""
    lines = max(head.count("\n") + 1 for head in distinct(block.heads, cell))
    return (0.4 + lines * 0.85) * _LINE


def _below(tiles: Sequence[Tile]) -> float:
    return _LINE if any(tile.caption for tile in tiles) else 0.0


def _aspect(block: Block) -> float:
    height, width = block.picture.pixels.shape[:2]
    return float(height / width)


def _draw(figure: Figure, block: Block, top: float, cell: float, *, heads: bool) -> None:
    """One block, `top` inches below the upper edge."""
    tall = cell * _aspect(block)

    def place(tile: Tile, column: int, y: float) -> Axes:
        width, height = figure.get_size_inches()
        left = column * (cell + _GAP) + (_GUTTER if column else 0)
        axis = figure.add_axes((left / width, 1 - (y + tall) / height, cell / width, tall / height))
        show(axis, tile)
        return axis

    y = top + (_head(block, cell) if heads else 0.0)
    place(block.picture, 0, y + max(0.0, _rows(block, cell) - _picture_height(block, cell)) / 2)
    for row, (variant, tiles) in enumerate(block.rows.items()):
        for column, tile in enumerate(tiles):
            axis = place(tile, column + 1, y)
            if row == 0 and heads:
                axis.set_title(distinct(block.heads, cell)[column], pad=3)
            if column == 0:
                axis.set_ylabel(variant, labelpad=2, fontweight="bold" if row else "normal")
        y += tall + _below(tiles) + _GAP


def show(axis: Axes, tile: Tile) -> None:
    """Draw one cell into an axis of its own."""
    height, width = tile.pixels.shape[:2]
    axis.imshow(tile.pixels, interpolation="nearest", extent=(0, width, height, 0))
    axis.set(xticks=[], yticks=[], xlim=(0, width), ylim=(height, 0))
    axis.spines[:].set_visible(False)
    if tile.region is not None:
        lines = [((a, b), (c, d)) for a, b, c, d in outline_lines(tile.region)]
        for colour, thick in (("white", 1.8), (INK, 0.9)):  # to be seen on light and dark
            drawn = LineCollection(
                lines, colors=colour, linewidths=thick, capstyle="projecting", clip_on=False
            )
            axis.add_collection(drawn, autolim=False)
    if tile.caption:
        axis.set_xlabel(tile.caption, labelpad=2, color=SOFT)


def _picture(panel: Panel, column: int | None, group: str = "") -> Tile:
    """The picture itself over the class in question, whose region is outlined, and its network.

    `group` comes broken into lines.
    """
    pixels = panel.image.permute(1, 2, 0).cpu().numpy()
    region = None if column is None else panel.region(column)
    told = [group] if column is None else [wrapped(panel.class_names[column], _LARGEST), group]
    return Tile(pixels, region, "\n".join(text for text in told if text))


def _tile(panel: Panel, variant: str, column: int) -> Tile:
    """One map over the greyed picture, its score below."""
    shown = overlay(panel.drawn(variant)[column], panel.scale).convert("RGBA")
    drawn = Image.alpha_composite(greyed(panel.image).convert("RGBA"), shown)
    scores = panel.scores.get(variant, [])
    score = scores[column] if column < len(scores) else float("nan")
    remark = panel.remark(variant, column).partition(";")[0]
    if remark.startswith(("loses least", "keeps")):  # some evidence is there, and drawn
        remark = ""
    caption = remark or (f"{score:.2f}" if isfinite(score) else "")
    return Tile(np.asarray(drawn.convert("RGB")), panel.region(column), caption)


def wrapped(text: str, inches: float, lines: int = 2) -> str:
    """Broken into a few lines at most of about the width of a cell."""
    return "\n".join(wrap(text, max(6, int(inches / 0.065)), max_lines=lines, placeholder=" …"))


def distinct(heads: Sequence[str], inches: float) -> list[str]:
    """Heads broken to the width of a cell, in as many lines as it takes to tell them apart."""
    for lines in range(2, 12):
        broken = [wrapped(head, inches, lines) for head in heads]
        if len(set(broken)) == len(set(heads)):
            break
    return broken
