"""Printed curves, and class probabilities before and after maps are cut out of a picture."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from textwrap import fill

import matplotlib.pyplot as plt
import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.patches import Patch

from var_exp.report.figure_style import HUES, INK, LINE, SOFT, mark_of, printed, save
from var_exp.report.map_figures import Tile, show, wrapped
from var_exp.report.tables import Cell, Table
from var_exp.results.curves import Curves
from var_exp.results.verdicts import number
from var_exp.text import readable
from var_exp.variants import BASE

_WIDTH = 6.9  # inches: the text of a two-column page


def curve_figure(
    stem: Path, runs: Mapping[str, Sequence[Curves]], variants: Sequence[str]
) -> list[Path]:
    """Write the figure of `draw_curves`; returns the files."""
    with printed():
        return save(draw_curves(runs, variants), stem)


def draw_curves(runs: Mapping[str, Sequence[Curves]], variants: Sequence[str]) -> Figure:
    """Mean curves, a row for each measure and a column for each run; base dashed, refined solid.

    Args:
        runs: Curves by run.
        variants: The lines, the base among them.
    """
    titles = list(dict.fromkeys(curve.title for curves in runs.values() for curve in curves))
    refiners = [name for name in variants if name != BASE]
    wide = min(2.6, _WIDTH / len(runs))
    figure, axes = plt.subplots(
        *(len(titles), len(runs)),
        figsize=(max(3.2, wide * len(runs)), 0.4 + 1.7 * len(titles)),
        squeeze=False,
        sharey="row",
        layout="constrained",
    )
    for row, title in zip(axes, titles, strict=True):
        for axis, (run, curves) in zip(row, runs.items(), strict=True):
            axis.set_title(run if title == titles[0] else "")
            for curve in curves:
                if curve.title == title:
                    _lines(axis, curve, variants, refiners)
        row[0].set_ylabel(f"{readable(title)}\n{fill(row[0].get_ylabel(), 28)}")
        for axis in row[1:]:
            axis.set_ylabel("")
    handles = [_line(BASE, refiners)] if BASE in variants else []
    handles += [_line(name, refiners) for name in refiners]
    figure.legend(handles=handles, loc="outside lower center", ncols=len(handles))
    return figure


def _lines(axis: Axes, curve: Curves, variants: Sequence[str], refiners: Sequence[str]) -> None:
    for name in variants:
        if name in curve.lines:
            drawn = _line(name, refiners)
            axis.plot(
                curve.x,
                curve.lines[name],
                color=drawn.get_color(),
                ls=drawn.get_linestyle(),
                marker=drawn.get_marker(),
                markevery=max(1, len(curve.x) // 6),
                ms=3,
                lw=1.3,
            )
    axis.set(xlabel=curve.x_label, ylabel=curve.y_label, xlim=(curve.x[0], curve.x[-1]))
    axis.grid(color=LINE, lw=0.6)


def _line(name: str, refiners: Sequence[str]) -> Line2D:
    """How a variant is drawn."""
    if name == BASE:
        return Line2D([], [], color=INK, ls="--", marker="", label=name)
    colour, shape = mark_of(refiners, name)
    return Line2D([], [], color=colour, ls="-", marker=shape, ms=3, label=name)


@dataclass(frozen=True)
class Cutout:
    """What the model says of one picture before and after the pixels of each class's map are gone.

    Attributes:
        run: Name of the run.
        sample_id: The picture.
        class_names: The K classes.
        share: Of the pixels that are taken out at most.
        picture: The picture itself.
        before: K probabilities.
        masked: By variant, what is left of the picture for each class's map.
        after: By variant and class whose map decides, K probabilities.
    """

    run: str
    sample_id: str
    class_names: Sequence[str]
    share: float
    picture: Tile
    before: Sequence[float]
    masked: Mapping[str, Sequence[Tile]]
    after: Mapping[str, Sequence[Sequence[float]]]


def cutout_figure(stem: Path, found: Cutout) -> list[Path]:
    """A column for each class whose map is cut out; pictures and bars for each variant.

    Outlined bars are the probabilities before; the class of the column has its own colour, and
    should lose the most.
    """
    count, variants = len(found.class_names), list(found.masked)
    wide = min(1.5, _WIDTH / (count + 1))
    with printed():
        figure, axes = plt.subplots(
            *(2 * len(variants), count + 1),
            figsize=(wide * (count + 1), (wide + 0.75) * len(variants) + 0.3),
            height_ratios=[wide, 0.75] * len(variants),
            squeeze=False,
            layout="constrained",
        )
        most = max(*found.before, *(p for a in found.after.values() for line in a for p in line))
        for row, variant in enumerate(variants):
            pictures, bars = axes[2 * row], axes[2 * row + 1]
            for axis in (pictures[0], bars[0]):
                axis.set_axis_off()
            _names(bars[0], found.class_names)
            if row == 0:
                show(pictures[0], found.picture)
                pictures[0].set_axis_on()
            for column in range(count):
                show(pictures[column + 1], found.masked[variant][column])
                _bars(bars[column + 1], found, variant, column, 1.05 * most)
                if row == 0:
                    pictures[column + 1].set_title(wrapped(found.class_names[column], wide))
            pictures[1].set_ylabel(variant, fontweight="bold" if variant != BASE else "normal")
        own = Patch(fc=HUES[0], label="after, class of the map")
        other = Patch(fc=SOFT, label="after, other classes")
        before = Patch(fc="none", ec=INK, label="probability before")
        figure.legend(handles=[before, own, other], loc="outside lower center", ncols=3)
        return save(figure, stem)


def _names(axis: Axes, names: Sequence[str]) -> None:
    """Names of the bars in the axis left of them."""
    axis.set(xlim=(0, 1), ylim=(len(names) - 0.5, -0.5))
    for place, name in enumerate(names):
        axis.text(1.08, place, name, ha="right", va="center", fontsize=6.5)


def _bars(axis: Axes, found: Cutout, variant: str, column: int, most: float) -> None:
    places = np.arange(len(found.class_names))
    colours = [HUES[0] if place == column else SOFT for place in places]
    axis.barh(places, found.after[variant][column], 0.62, color=colours)
    axis.barh(places, found.before, 0.8, fc="none", ec=INK, lw=0.7)
    axis.set(xlim=(0, most), ylim=(len(places) - 0.5, -0.5), yticks=[])
    axis.tick_params(length=2, pad=1.5)


def cutout_table(found: Cutout) -> Table:
    """The same as numbers: a row for each variant and class whose map decides."""
    names = [Cell(name) for name in found.class_names]
    before = [Cell("-"), Cell("before"), *(Cell(number(p)) for p in found.before)]
    rows = [
        [Cell(variant, code=True), Cell(name), *(Cell(number(p)) for p in after[column])]
        for variant, after in found.after.items()
        for column, name in enumerate(found.class_names)
    ]
    return Table(
        f"Class probabilities of {found.sample_id} ({found.run}), "
        f"up to {100 * found.share:g} % of the pixels taken out",
        [Cell("variant"), Cell("by the map of"), *names],
        [before, *rows],
        names=2,
    )
