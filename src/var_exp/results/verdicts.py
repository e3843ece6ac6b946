"""What the figures say, in plain words: does the refined map score better than the base map?"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from math import ceil, isnan, log10
from typing import Literal

from var_exp.results.summary import SummaryRow
from var_exp.variants import BASE, SAME_SPARSITY


@dataclass(frozen=True)
class Verdict:
    """One refiner against the base on one metric.

    Attributes:
        base: Figure of the base map.
        refined: Figure of the refined map.
        difference: Their paired difference.
        control: Figure of the base map at the refined map's sparsity, when it was scored.
        beyond: Paired difference of the refined map and that control.
        higher_is_better: Direction of the metric.
    """

    base: SummaryRow
    refined: SummaryRow
    difference: SummaryRow
    control: SummaryRow | None
    beyond: SummaryRow | None
    higher_is_better: bool

    @property
    def outcome(self) -> Literal["better", "worse", "open"]:
        """Open unless the interval of the difference lies on one side of zero."""
        return self._side(self.difference)

    def _side(self, difference: SummaryRow) -> Literal["better", "worse", "open"]:
        sign = 1 if self.higher_is_better else -1
        if min(sign * difference.ci_low, sign * difference.ci_high) > 0:
            return "better"
        if max(sign * difference.ci_low, sign * difference.ci_high) < 0:
            return "worse"
        return "open"

    @property
    def conclusion(self) -> str:
        """The outcome as a sentence without its full stop."""
        name = self.refined.variant.name
        if self.outcome != "open":
            return f"{name} {'helps' if self.outcome == 'better' else 'hurts'}"
        if not isnan(self.difference.ci_low):
            return "no difference shown, the interval includes 0"
        return "no interval, too few samples with both maps scored"

    @property
    def sparsity_suffices(self) -> bool:
        """True when the refined map is not shown to beat its control, which has no competition."""
        if self.beyond is None or self.outcome != "better":
            return False
        return self._side(self.beyond) != "better"

    def __str__(self) -> str:
        """One line for the console."""
        text = (
            f"{self.base.metric}{'' if self.higher_is_better else ' (lower is better)'}: "
            f"base {mean(self.base)} → {self.refined.variant.name} {mean(self.refined)}, "
            f"difference {mean(self.difference, signed=True)} "
            f"{interval(self.difference, signed=True)}: {self.conclusion}"
        )
        if self.control is None:
            return text
        suffix = " does as well, so sparsity alone explains it" if self.sparsity_suffices else ""
        return f"{text}; same-sparsity control {mean(self.control)}{suffix}"


def by_metric(
    summary: Sequence[SummaryRow], higher_is_better: Mapping[str, bool]
) -> dict[str, list[SummaryRow]]:
    """Figures grouped by metric, in the order in which the directions name the metrics.

    Raises:
        ValueError: a metric of the summary without a direction.
    """
    if unknown := sorted({row.metric for row in summary} - set(higher_is_better)):
        raise ValueError(
            f"metric '{unknown[0]}' must have a direction, got only those of "
            f"{', '.join(higher_is_better) or 'none'}; add it to higher_is_better."
        )
    groups = {
        metric: [row for row in summary if row.metric == metric] for metric in higher_is_better
    }
    return {metric: rows for metric, rows in groups.items() if rows}


def judge(summary: Sequence[SummaryRow], higher_is_better: Mapping[str, bool]) -> list[Verdict]:
    """One verdict for each metric and refiner; metrics in the order of the directions.

    Raises:
        ValueError: a metric of the summary without a direction.
    """
    verdicts = []
    for metric, rows in by_metric(summary, higher_is_better).items():
        figures = {row.variant.name: row for row in rows}
        differences = [row for row in rows if row.variant.role == "difference"]
        beyond = {row.variant.of: row for row in differences if row.variant.subtracted != BASE}
        for row in differences:
            if row.variant.subtracted == BASE:
                name = row.variant.of
                other = beyond.get(name)
                control = figures.get(f"{name}_{SAME_SPARSITY}")
                better = higher_is_better[metric]
                verdicts.append(Verdict(figures[BASE], figures[name], row, control, other, better))
    return verdicts


def number(value: float, *, digits: int = 3, signed: bool = False) -> str:
    """A fixed number of decimals, or "undefined" for NaN.

    Examples:
        >>> number(0.5), number(-1e-9, signed=True), number(float("nan"))
        ('0.500', '+0.000', 'undefined')
    """
    if isnan(value):
        return "undefined"
    return f"{value:+z.{digits}f}" if signed else f"{value:z.{digits}f}"


def mean(row: SummaryRow, *, signed: bool = False) -> str:
    """The value with as many decimals as its interval supports."""
    return number(row.value, digits=_digits(row), signed=signed)


def interval(row: SummaryRow, *, signed: bool = False) -> str:
    """Both ends in brackets; "[no interval]" for NaN."""
    if isnan(row.ci_low):
        return "[no interval]"
    ends = (number(end, digits=_digits(row), signed=signed) for end in (row.ci_low, row.ci_high))
    return f"[{', '.join(ends)}]"


def _digits(row: SummaryRow) -> int:
    """Decimals that show the first digit of the interval's width, three at least, six at most."""
    width = row.ci_high - row.ci_low
    return min(6, max(3, ceil(-log10(width)))) if width > 1e-14 else 3
