"""Several runs in one printed picture: a row for each, with intervals and controls."""

from collections.abc import Collection, Mapping, Sequence
from pathlib import Path

import matplotlib.pyplot as plt
import numpy as np
from matplotlib.axes import Axes
from matplotlib.lines import Line2D

from var_exp.report.figure_style import INK, LINE, SOFT, mark_of, printed, save
from var_exp.results.comparison import Run, refiners_of
from var_exp.results.summary import SummaryRow
from var_exp.text import readable
from var_exp.variants import BASE, CONTROLS, Control


def comparison_picture(
    stem: Path, runs: Sequence[Run], higher_is_better: Mapping[str, bool]
) -> list[Path]:
    """Draw each run as a row: base map (ring), refined maps and their 95 % intervals.

    Controls have no interval: beside each refiner the base map at its sparsity (tick) and random
    competitors (cross), beside the base, in grey, what never saw the model.

    Returns:
        The files, `<stem>.pdf`, `.svg` and `.png`.
    """
    metrics = list(higher_is_better)
    names = list(dict.fromkeys(name for m in metrics for name in refiners_of(runs, m)))
    with printed():
        figure, axes = plt.subplots(
            *(1, len(metrics)),
            figsize=(1.8 + 2.6 * len(metrics), 1.6 + (0.12 + 0.07 * len(names)) * len(runs)),
            sharey=True,
            squeeze=False,
            layout="constrained",
        )
        for axis, metric in zip(axes[0], metrics, strict=True):
            for place, run in enumerate(runs):
                _row(axis, run.figures(metric), names, place)
            arrow = "higher" if higher_is_better[metric] else "lower"
            axis.set_title(f"{readable(metric)} ({arrow} is better)")
            axis.grid(axis="x", color=LINE, lw=0.6)
            axis.set_axisbelow(True)
            axis.spines["left"].set_visible(False)
            axis.tick_params(axis="y", length=0)
        axes[0][0].set_yticks(range(len(runs)), ["  ".join(run.labels.values()) for run in runs])
        axes[0][0].set_ylim(len(runs) - 0.5, -0.5)
        shown = {name for m in metrics for run in runs for name in run.figures(m)}
        marks = _legend(names, shown)
        columns = min(len(marks), 2 + len(metrics))
        figure.legend(handles=marks, loc="outside lower center", ncols=columns)
        return save(figure, stem)


def _row(axis: Axes, figures: Mapping[str, SummaryRow], names: Sequence[str], row: int) -> None:
    """The figures of one run on one metric, the variants a little apart."""
    places = np.linspace(-0.28, 0.28, 1 + len(names)) + row
    if BASE in figures:
        _dot(axis, figures[BASE], places[0], INK, "o", filled=False)
    for control in CONTROLS:
        if (plain := control.variant().name) in figures and not control.of_refiner:
            axis.plot(figures[plain].value, places[0], control.mark, color=SOFT, ms=3.5, zorder=1)
    for name, y in zip(names, places[1:], strict=True):
        colour, shape = mark_of(names, name)
        if name in figures:
            _dot(axis, figures[name], y, colour, shape, filled=True)
        for control in CONTROLS:
            if control.of_refiner and (beside := control.variant(name).name) in figures:
                value = figures[beside].value
                axis.plot(value, y, control.mark, color=colour, ms=_size(control))


def _legend(names: Sequence[str], shown: Collection[str]) -> list[Line2D]:
    """One mark per variant, and one for each kind of control."""
    marks = [Line2D([], [], marker="o", color=INK, mfc="white", ls="", ms=4, label=BASE)]
    for name in names:
        colour, shape = mark_of(names, name)
        marks.append(Line2D([], [], marker=shape, color=colour, ls="", ms=4, label=name))
    for control in CONTROLS:
        owners = names if control.of_refiner else [""]
        if any(control.variant(name).name in shown for name in owners):
            colour, size = INK if control.of_refiner else SOFT, _size(control)
            marks.append(
                Line2D(
                    [], [], marker=control.mark, color=colour, ls="", ms=size, label=control.label
                )
            )
    return marks


def _size(control: Control) -> float:
    """Points of a control's mark; a tick beside a refiner is to be seen beside its dot."""
    return 6 if control.of_refiner and control.mark == "|" else 3.5


def _dot(axis: Axes, row: SummaryRow, y: float, colour: str, shape: str, *, filled: bool) -> None:
    if not np.isnan(row.ci_low):
        axis.plot([row.ci_low, row.ci_high], [y, y], color=colour, lw=1.1, solid_capstyle="butt")
    axis.plot(row.value, y, shape, color=colour, mfc=colour if filled else "white", ms=4)
