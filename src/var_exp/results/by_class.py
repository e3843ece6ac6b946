"""Scores class by class: which classes gain from competition, and which lose?"""

from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

from var_exp.metrics.base import Bounds
from var_exp.results.rows import Row
from var_exp.results.summary import SummaryRow, summarise
from var_exp.variants import BASE


@dataclass(frozen=True)
class ClassFigures:
    """Figures of one metric on one class.

    Attributes:
        name: Of the class.
        base: Its base maps.
        refined: Per refiner its refined maps and their paired difference to the base.
    """

    name: str
    base: SummaryRow
    refined: Mapping[str, tuple[SummaryRow, SummaryRow]]


def by_class(
    rows: Iterable[Row], class_names: Sequence[str], bounds: Mapping[str, Bounds] | None = None
) -> dict[str, list[ClassFigures]]:
    """Per metric the figures of every class that was asked about, by the name of the class.

    Args:
        rows: Scores of a run; controls are left out.
        class_names: Name of every class, by class number.
        bounds: Lowest and highest score by metric.

    Returns:
        Nothing for a metric on fewer than two classes, which has no breakdown.
    """
    groups: dict[tuple[str, int], list[Row]] = defaultdict(list)
    for row in rows:
        if row.variant.role in ("base", "refined"):
            groups[row.metric, row.class_index].append(row)
    tables: dict[str, list[ClassFigures]] = defaultdict(list)
    for (metric, label), group in groups.items():
        found = {row.variant.name: row for row in summarise(group, bounds=bounds)}
        refined = {
            row.variant.of: (found[row.variant.of], row)
            for row in found.values()
            if row.variant.subtracted == BASE
        }
        tables[metric].append(ClassFigures(class_names[label], found[BASE], refined))
    return {
        metric: sorted(table, key=lambda figures: figures.name)
        for metric, table in tables.items()
        if len(table) > 1
    }
