"""Several runs side by side: tables for people, files for programs, one picture."""

import csv
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field, fields
from pathlib import Path

import matplotlib.pyplot as plt
import numpy as np
from matplotlib.axes import Axes
from matplotlib.lines import Line2D

from var_exp.report.significance import SampleScores
from var_exp.report.statistics import BASE, SAME_SPARSITY, SummaryRow
from var_exp.report.verdicts import Role, Verdict, interval, judge, mean, roles

_COLOURS = ("#c1272d", "#0b6fa4", "#2e8540", "#8a4fa3", "#b8860b", "#555555")


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
    "Value, difference to the base map and its 95 % interval. **Bold**: better than the base, "
    "~~struck~~: worse. =: not shown to beat the base map at the same sparsity. ∅: empty maps."
)


def markdown(runs: Sequence[Run], higher_is_better: Mapping[str, bool]) -> str:
    """Tables in Markdown, one for each metric: a row for each run, a column for each refiner."""
    tables = [
        f"## {metric} ({'higher' if higher else 'lower'} is better)\n\n"
        + "\n".join(_lines(runs, metric, higher))
        + "\n"
        for metric, higher in higher_is_better.items()
    ]
    return "\n".join([*tables, f"{_LEGEND}\n"])


def _lines(runs: Sequence[Run], metric: str, higher: bool) -> list[str]:
    names = refiners_of(runs, metric)
    header = [*runs[0].labels, BASE, *(f"`{name}`" for name in names)]
    lines = [table_line(header), table_line(["---"] * len(header))]
    for run in runs:
        figures, verdicts = run.figures(metric), run.verdicts(metric, higher)
        cells = [f"`{label}`" for label in run.labels.values()]
        cells.append(mean(figures[BASE]) if BASE in figures else "-")
        cells += [_verdict(verdicts[name]) if name in verdicts else "-" for name in names]
        lines.append(table_line(cells))
    return lines


def _verdict(verdict: Verdict) -> str:
    """One cell: the refined map's value, what it gains, and what a reader must know of it."""
    mark = {"better": "**", "worse": "~~", "open": ""}[verdict.outcome]
    gain = f"{mean(verdict.difference, signed=True)} {interval(verdict.difference, signed=True)}"
    text = f"{mark}{mean(verdict.refined)}{mark} {gain}"
    if verdict.sparsity_suffices:
        text += " ="
    return text + (f" ∅{verdict.refined.empty_map:,}" if verdict.refined.empty_map else "")


def comparison_picture(
    path: Path, runs: Sequence[Run], higher_is_better: Mapping[str, bool]
) -> None:
    """Draw each run as a row: base map (ring), refined maps (dots) and their 95 % intervals.

    A tick marks the control at the refined map's sparsity. The suffix of the path says which kind
    of file: .png, .pdf or .svg.
    """
    metrics = list(higher_is_better)
    height = 1.2 + 0.34 * len(runs)
    figure, axes = plt.subplots(
        *(1, len(metrics)),
        figsize=(3.2 + 4.2 * len(metrics), height),
        sharey=True,
        squeeze=False,
        layout="constrained",
    )
    for axis, metric in zip(axes[0], metrics, strict=True):
        names = refiners_of(runs, metric)
        for y, run in enumerate(runs):
            figures = run.figures(metric)
            if BASE in figures:
                _dot(axis, figures[BASE], y, "black", filled=False)
            for i, name in enumerate(names):
                colour = _COLOURS[i % len(_COLOURS)]
                if name in figures:
                    _dot(axis, figures[name], y, colour, filled=True)
                if name + SAME_SPARSITY in figures:
                    axis.plot(figures[name + SAME_SPARSITY].value, y, "|", color=colour, ms=11)
        arrow = "higher" if higher_is_better[metric] else "lower"
        axis.set_title(f"{metric} ({arrow} is better)", fontsize=10)
        axis.grid(axis="x", color="#e5e5e5")
        axis.set_axisbelow(True)
        axis.spines[["top", "right", "left"]].set_visible(False)
        axis.tick_params(axis="y", length=0)
    axes[0][0].set_yticks(
        range(len(runs)), ["  ".join(run.labels.values()) for run in runs], fontsize=9
    )
    axes[0][0].set_ylim(len(runs) - 0.5, -0.5)
    marks = [Line2D([], [], marker="o", color="black", mfc="white", ls="", label=BASE)]
    for i, name in enumerate(dict.fromkeys(n for m in metrics for n in refiners_of(runs, m))):
        colour = _COLOURS[i % len(_COLOURS)]
        marks.append(Line2D([], [], marker="o", color=colour, ls="", label=name))
        marks.append(
            Line2D([], [], marker="|", color=colour, ls="", label=f"same sparsity as {name}")
        )
    figure.legend(handles=marks, loc="outside lower center", ncols=3, fontsize=8, frameon=False)
    figure.savefig(path, dpi=150)
    plt.close(figure)


def _dot(axis: Axes, row: SummaryRow, y: int, colour: str, *, filled: bool) -> None:
    if not np.isnan(row.ci_low):
        axis.plot([row.ci_low, row.ci_high], [y, y], color=colour, lw=1.6, solid_capstyle="butt")
    axis.plot(row.value, y, "o", color=colour, mfc=colour if filled else "white", ms=6)


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


def table_line(cells: Sequence[str]) -> str:
    """One row of a Markdown table."""
    return f"| {' | '.join(cells)} |"
