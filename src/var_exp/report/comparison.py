"""Several runs side by side: tables for people, files for programs, one picture."""

import csv
from collections.abc import Collection, Mapping, Sequence
from dataclasses import asdict, dataclass, field, fields
from pathlib import Path

import matplotlib.pyplot as plt
import numpy as np
from matplotlib.axes import Axes
from matplotlib.lines import Line2D

from var_exp.report.figure_style import INK, LINE, SOFT, mark_of, printed, save
from var_exp.report.significance import SampleScores
from var_exp.report.statistics import BASE, RANDOM_CLASSES, SAME_SPARSITY, SummaryRow
from var_exp.report.tables import Cell, Table
from var_exp.report.verdicts import Role, Verdict, interval, judge, mean, roles

_CONTROLS = {
    "uniform_map": "|",
    "random_map": "x",
    "gaussian_map": "+",
    "edge_map": "2",
    "oracle_map": "*",
}
"""Marks of the controls that never saw the model."""


@dataclass(frozen=True)
class Run:
    """A finished run among others.

    Attributes:
        labels: What sets it apart, such as {"method": "gbp", "model": "critters_cnn"}; the same
            keys for every run of a comparison.
        summary: Its figures.
        scores: Its scores per sample, by (metric, variant).
        folder: Where its files lie, seen from the folder of the comparison; "" when unknown.
    """

    labels: Mapping[str, str]
    summary: Sequence[SummaryRow]
    scores: Mapping[tuple[str, str], SampleScores] = field(default_factory=dict)
    folder: str = ""

    @property
    def name(self) -> str:
        """The labels in one string."""
        return " ".join(self.labels.values())

    def figures(self, metric: str) -> dict[str, SummaryRow]:
        """Its figures of one metric, by variant."""
        return {row.variant: row for row in self.summary if row.metric == metric}

    def verdicts(self, metric: str, higher_is_better: bool) -> dict[str, Verdict]:
        """Each refiner against the base, by refiner."""
        figures = list(self.figures(metric).values())
        return {v.refined.variant: v for v in judge(figures, {metric: higher_is_better})}


def write_comparison(path: Path, runs: Sequence[Run]) -> None:
    """Write every figure of every run as CSV: the labels, then the columns of `summary.csv`."""
    with path.open("w", newline="", encoding="utf-8") as file:
        columns = [*runs[0].labels, *(field.name for field in fields(SummaryRow))]
        lines = csv.DictWriter(file, columns)
        lines.writeheader()
        lines.writerows({**run.labels, **asdict(row)} for run in runs for row in run.summary)


_LEGEND = (
    "Value, difference to the base map and its 95 % interval. Bold: better than the base, "
    "struck (in print italic): worse. =: not shown to beat the base map at the same sparsity. "
    "\u2205: empty maps."
)


def comparison_tables(runs: Sequence[Run], higher_is_better: Mapping[str, bool]) -> list[Table]:
    """A table for each metric: a row for each run, a column for each refiner."""
    tables = []
    for metric, higher in higher_is_better.items():
        names = refiners_of(runs, metric)
        columns = [*map(Cell, runs[0].labels), Cell(BASE), *(Cell(n, code=True) for n in names)]
        rows = []
        for run in runs:
            figures, verdicts = run.figures(metric), run.verdicts(metric, higher)
            cells = [Cell(label, code=True) for label in run.labels.values()]
            cells.append(Cell(mean(figures[BASE]) if BASE in figures else "-"))
            cells += [_verdict(verdicts[n]) if n in verdicts else Cell("-") for n in names]
            rows.append(cells)
        title = f"{metric} ({'higher' if higher else 'lower'} is better)"
        tables.append(Table(title, columns, rows, _LEGEND, names=len(runs[0].labels)))
    return tables


def _verdict(verdict: Verdict) -> Cell:
    """The refined map's value, what it gains, and what a reader must know of it."""
    more = f"{mean(verdict.difference, signed=True)} {interval(verdict.difference, signed=True)}"
    if verdict.sparsity_suffices:
        more += " ="
    if verdict.refined.empty_map:
        more += f" \u2205{verdict.refined.empty_map:,}"
    return Cell(mean(verdict.refined), verdict.outcome, more)


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
            axis.set_title(f"{metric} ({arrow} is better)")
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
    for name, shape in _CONTROLS.items():
        if name in figures:
            axis.plot(figures[name].value, places[0], shape, color=SOFT, ms=3.5, zorder=1)
    for name, y in zip(names, places[1:], strict=True):
        colour, shape = mark_of(names, name)
        if name in figures:
            _dot(axis, figures[name], y, colour, shape, filled=True)
        for kind, control in ((SAME_SPARSITY, "|"), (RANDOM_CLASSES, "x")):
            if name + kind in figures:
                size = 6 if kind == SAME_SPARSITY else 3.5
                axis.plot(figures[name + kind].value, y, control, color=colour, ms=size)


def _legend(names: Sequence[str], shown: Collection[str]) -> list[Line2D]:
    """One mark per variant, and one for each kind of control."""
    marks = [Line2D([], [], marker="o", color=INK, mfc="white", ls="", ms=4, label=BASE)]
    for name in names:
        colour, shape = mark_of(names, name)
        marks.append(Line2D([], [], marker=shape, color=colour, ls="", ms=4, label=name))
    if any(name.endswith(SAME_SPARSITY) for name in shown):
        marks.append(
            Line2D([], [], marker="|", color=INK, ls="", ms=6, label="base at its sparsity")
        )
    if any(name.endswith(RANDOM_CLASSES) for name in shown):
        marks.append(
            Line2D([], [], marker="x", color=INK, ls="", ms=3.5, label="random competitors")
        )
    return marks + [
        Line2D([], [], marker=shape, color=SOFT, ls="", ms=3.5, label=name.replace("_", " "))
        for name, shape in _CONTROLS.items()
        if name in shown
    ]


def _dot(axis: Axes, row: SummaryRow, y: float, colour: str, shape: str, *, filled: bool) -> None:
    if not np.isnan(row.ci_low):
        axis.plot([row.ci_low, row.ci_high], [y, y], color=colour, lw=1.1, solid_capstyle="butt")
    axis.plot(row.value, y, shape, color=colour, mfc=colour if filled else "white", ms=4)


def refiners_of(runs: Sequence[Run], metric: str) -> list[str]:
    """Refiners that any of the runs scored, in their order."""
    wanted: Role = "refined"
    return list(
        dict.fromkeys(
            name
            for run in runs
            for name, role in roles(list(run.figures(metric))).items()
            if role == wanted
        )
    )
