"""Where values sit on the small plots of a page: axes in per cent of the width, SVG points."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from math import isfinite

import numpy as np
from matplotlib.ticker import MaxNLocator

from var_exp.results.curves import Curves, MeanMatrix
from var_exp.results.summary import SummaryRow

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


def curve_axis(curves: Curves) -> Axis:
    """Vertical axis that covers every line and zero."""
    return axis_over([0.0, *(value for line in curves.lines.values() for value in line)])


def curve_points(curves: Curves, name: str) -> str:
    """One line as SVG points in a box of 100 x 100, y downwards; gaps where undefined."""
    axis = curve_axis(curves)
    low, high = axis.ticks[0], axis.ticks[-1]
    x = 100 * (np.asarray(curves.x) - curves.x[0]) / (curves.x[-1] - curves.x[0])
    y = 100 * (high - np.asarray(curves.lines[name])) / (high - low)
    return " ".join(f"{a:.2f},{b:.2f}" for a, b in zip(x, y, strict=True) if isfinite(b))


def matrix_depth(matrix: MeanMatrix, value: float) -> int:
    """How deep to colour a value, 0 to 100 per cent of the largest |value|; 0 for NaN."""
    sizes = [abs(v) for rows in matrix.values.values() for row in rows for v in row if isfinite(v)]
    largest = max(sizes, default=0.0)
    return round(100 * abs(value) / largest) if largest and isfinite(value) else 0
