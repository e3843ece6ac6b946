"""Numbers behind the page's small plots: where a value sits on an axis, and mean curves."""

import csv
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from math import isfinite
from pathlib import Path

import numpy as np
from matplotlib.ticker import MaxNLocator

from var_exp.report.statistics import SummaryRow
from var_exp.types import BadData

_MARGIN = 3.0  # per cent of the width kept free at both ends, for the dots


@dataclass(frozen=True)
class Axis:
    """A horizontal axis whose places are per cent of the width.

    Attributes:
        ticks: Ascending, at least two; the first and the last are the ends.
    """

    ticks: tuple[float, ...]

    def at(self, value: float) -> float:
        """Place of a value in per cent of the width."""
        share = (value - self.ticks[0]) / (self.ticks[-1] - self.ticks[0])
        return round(_MARGIN + (100 - 2 * _MARGIN) * share, 2)


def axis_over(values: Iterable[float]) -> Axis:
    """Axis with few, round ticks that covers all finite values.

    Examples:
        >>> axis_over([0.31, 0.91]).ticks
        (0.2, 0.4, 0.6, 0.8, 1.0)
    """
    finite = [value for value in values if isfinite(value)] or [0.0, 1.0]
    low, high = min(finite), max(finite)
    if high - low < 1e-6:
        low, high = low - 0.01, high + 0.01
    ticks = MaxNLocator(nbins=4, steps=[1, 2, 5, 10]).tick_values(low, high)
    return Axis(tuple(round(float(tick), 6) for tick in ticks))


def axis_of(rows: Sequence[SummaryRow], *marks: float) -> Axis:
    """Axis that covers the intervals of some figures and the marks (chance, zero)."""
    ends = [end for row in rows for end in (row.value, row.ci_low, row.ci_high)]
    return axis_over([*ends, *marks])


@dataclass(frozen=True)
class Curves:
    """Mean curves over the samples, one per variant, such as the probability during insertion.

    Attributes:
        title: Name of the measure.
        x_label: What runs along x.
        y_label: What runs along y.
        x: P ascending places, such as the share of pixels inserted.
        lines: Per variant P values.

    Raises:
        ValueError: fewer than two places, or a line of another length.
    """

    title: str
    x_label: str
    y_label: str
    x: Sequence[float]
    lines: Mapping[str, Sequence[float]]

    def __post_init__(self) -> None:
        if len(self.x) < 2:
            raise ValueError(
                f"curves '{self.title}' must have two places or more, got {len(self.x)}."
            )
        for name, line in self.lines.items():
            if len(line) != len(self.x):
                raise ValueError(
                    f"line '{name}' of curves '{self.title}' must have {len(self.x)} values, "
                    f"got {len(line)}; give one per place."
                )

    @property
    def y_axis(self) -> Axis:
        """Axis that covers every line and zero."""
        return axis_over([0.0, *(value for line in self.lines.values() for value in line)])

    def points(self, name: str) -> str:
        """One line as SVG points in a box of 100 x 100, y downwards; gaps where undefined."""
        low, high = self.y_axis.ticks[0], self.y_axis.ticks[-1]
        x = 100 * (np.asarray(self.x) - self.x[0]) / (self.x[-1] - self.x[0])
        y = 100 * (high - np.asarray(self.lines[name])) / (high - low)
        return " ".join(f"{a:.2f},{b:.2f}" for a, b in zip(x, y, strict=True) if isfinite(b))


@dataclass(frozen=True)
class Matrix:
    """Mean square matrices over the samples, one per variant, such as who is confused with whom.

    Attributes:
        title: Name of the measure.
        row_label: What the rows are.
        column_label: What the columns are.
        values: Per variant the rows of the matrix, NaN where undefined.
    """

    title: str
    row_label: str
    column_label: str
    values: Mapping[str, Sequence[Sequence[float]]]

    def depth(self, value: float) -> int:
        """How deep to colour a value, 0 to 100 per cent of the largest |value|; 0 for NaN."""
        sizes = [
            abs(v) for rows in self.values.values() for row in rows for v in row if isfinite(v)
        ]
        largest = max(sizes, default=0.0)
        return round(100 * abs(value) / largest) if largest and isfinite(value) else 0


_COLUMNS = ["metric", "variant", "x", "y", "x_label", "y_label"]


def write_curves(path: Path, curves: Sequence[Curves]) -> None:
    """Write mean curves as CSV, one line per point; no file when there are none."""
    if not curves:
        return
    with path.open("w", newline="", encoding="utf-8") as file:
        lines = csv.writer(file)
        lines.writerow(_COLUMNS)
        lines.writerows(
            (curve.title, variant, x, y, curve.x_label, curve.y_label)
            for curve in curves
            for variant, line in curve.lines.items()
            for x, y in zip(curve.x, line, strict=True)
        )


def read_curves(path: Path) -> list[Curves]:
    """Curves of a `curves.csv`, exactly as they were written; none when there is no such file.

    Raises:
        BadData: the columns are not those of a curves file.
    """
    if not path.exists():
        return []
    with path.open(newline="", encoding="utf-8") as file:
        lines = csv.DictReader(file)
        if list(lines.fieldnames or []) != _COLUMNS:
            raise BadData(
                f"{path} must have the columns {', '.join(_COLUMNS)}, got "
                f"{', '.join(lines.fieldnames or ['none'])}; give a curves.csv that a run wrote."
            )
        points: dict[tuple[str, str, str], dict[str, list[tuple[float, float]]]] = {}
        for line in lines:
            of = points.setdefault((line["metric"], line["x_label"], line["y_label"]), {})
            of.setdefault(line["variant"], []).append((float(line["x"]), float(line["y"])))
    return [
        Curves(
            *labels,
            x=[x for x, _ in next(iter(found.values()))],
            lines={variant: [y for _, y in line] for variant, line in found.items()},
        )
        for labels, found in points.items()
    ]
