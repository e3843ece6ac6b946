"""What the figures say, in plain words: does the refined map score better than the base map?"""

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from math import ceil, isnan, log10, sqrt
from typing import Literal

from scipy import stats

from var_exp.metrics.base import Traits
from var_exp.results.intervals import of_differences
from var_exp.results.significance import FEWEST, pictures_needed, verdict_level
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
        traits: What the metric is.
    """

    base: SummaryRow
    refined: SummaryRow
    difference: SummaryRow
    control: SummaryRow | None
    beyond: SummaryRow | None
    traits: Traits

    @property
    def higher_is_better(self) -> bool:
        """Direction of the metric."""
        return self.traits.higher_is_better

    @property
    def withheld(self) -> str:
        """Why no verdict may be given, whatever the figures; "" when one may."""
        if self.traits.rewards_sparsity:
            return "the measure rewards sparsity by definition"
        if self.refined.all_empty:
            return "every refined map is empty"
        if isnan(self.difference.ci_low):
            return "too few samples with both maps scored"
        if (count := self.difference.pictures) < FEWEST:
            return f"{count} pictures are too few{self._needed}"
        return ""

    @property
    def outcome(self) -> Literal["better", "worse", "open"]:
        """Open unless the mean difference is shown not to be zero."""
        return "open" if self.withheld else self._side(self.difference)

    def _side(self, difference: SummaryRow) -> Literal["better", "worse", "open"]:
        if not difference.p_value < verdict_level(difference.pictures):
            return "open"
        return "better" if (difference.value > 0) is self.higher_is_better else "worse"

    @property
    def conclusion(self) -> str:
        """The outcome as a sentence without its full stop."""
        if self.withheld:
            return f"no verdict, {self.withheld}"
        if self.outcome != "open":
            return f"{self.refined.variant.name} {'helps' if self.outcome == 'better' else 'hurts'}"
        if self.difference.ci_low <= 0 <= self.difference.ci_high:
            return "no difference shown, the interval includes 0"
        level = verdict_level(self.difference.pictures)
        p_value = f"p = {self.difference.p_value:.2g}"
        count = self.difference.pictures
        return (
            f"no difference shown, {p_value} is not below the {level:g} asked of {count} pictures"
            f"{self._needed}"
        )

    @property
    def _needed(self) -> str:
        """How many pictures a difference like this one takes, as the end of a sentence."""
        row, count = self.difference, self.difference.pictures
        lowest, highest = of_differences(self.traits.bounds)
        if row.ci_low == lowest and row.ci_high == highest:  # how far it varies is not seen
            return ""
        # the end that no bound has cut off; Hall's are not equally far from the mean
        whole = (row.ci_high - row.ci_low) / 2
        cut = row.ci_low == lowest or row.ci_high == highest
        half = max(row.ci_high - row.value, row.value - row.ci_low) if cut else whole
        error = half / float(stats.t.ppf(0.975, count - 1))
        needed = pictures_needed(row.value, error * sqrt(count))
        return f"; needed: {needed:,}" if needed is not None and needed > count else ""

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


def by_metric(summary: Sequence[SummaryRow], known: Collection[str]) -> dict[str, list[SummaryRow]]:
    """Figures grouped by metric, in the order of the known ones.

    Args:
        summary: Figures.
        known: Names of metrics, such as the keys of their directions.

    Raises:
        ValueError: a metric of the summary that is not known.
    """
    if unknown := sorted({row.metric for row in summary} - set(known)):
        raise ValueError(
            f"metric '{unknown[0]}' must have a direction, got only those of "
            f"{', '.join(known) or 'none'}; add it to them."
        )
    groups = {metric: [row for row in summary if row.metric == metric] for metric in known}
    return {metric: rows for metric, rows in groups.items() if rows}


def judge(summary: Sequence[SummaryRow], traits: Mapping[str, Traits]) -> list[Verdict]:
    """One verdict for each metric and refiner; metrics in their order.

    Raises:
        ValueError: a metric of the summary without traits.
    """
    verdicts = []
    for metric, rows in by_metric(summary, traits).items():
        figures = {row.variant.name: row for row in rows}
        differences = [row for row in rows if row.variant.role == "difference"]
        beyond = {
            row.variant.of: row
            for row in differences
            if row.variant.subtracted == f"{row.variant.of}_{SAME_SPARSITY}"
        }
        for row in differences:
            if row.variant.subtracted == BASE:
                name = row.variant.of
                other = beyond.get(name)
                control = figures.get(f"{name}_{SAME_SPARSITY}")
                pair = (figures[BASE], figures[name])
                verdicts.append(Verdict(*pair, row, control, other, traits[metric]))
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
