"""From score rows to figures: means, intervals, paired differences, the ledger.

The classes asked about one picture share that picture, so their scores are not independent: a
picture counts once in an interval, with all its classes. The figure itself is the plain mean over
defined rows.
"""

import csv
from collections import defaultdict
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from math import nan
from pathlib import Path

import numpy as np
from jaxtyping import Bool, Float, Int

from var_exp.files import whole_file
from var_exp.metrics.base import Bounds
from var_exp.results.intervals import estimate, of_differences
from var_exp.results.rows import FLAGS, Row
from var_exp.text import TableWriter
from var_exp.types import BadData
from var_exp.variants import (
    BASE,
    RANDOM_CLASSES,
    SAME_SPARSITY,
    Role,
    Variant,
    difference,
    read_variant,
    variants_of,
)

_ORDER: tuple[Role, ...] = ("base", "refined", "difference", "control")
RECORD = "record"
"""Last column of `summary.csv`: the id of what the figures depend on, see `run.json`."""


@dataclass(frozen=True)
class SummaryRow:
    """One figure of a run: a metric on a variant, or the paired difference of two variants.

    Attributes:
        metric: Name of the measure.
        variant: Which maps, or which difference: of each refiner to the base, to the control of
            the same sparsity, and to that of random competitors.
        value: Mean over the defined rows (NaN when there is none).
        ci_low: Lower end of the 95 % interval (NaN with fewer than two sample ids).
        ci_high: Upper end.
        n: Defined rows; of a difference, pairs with both sides defined.
        empty_map: Rows whose map is all zero; of a difference, pairs where either map is. So on.
        empty_region: Rows without a true region.
        non_finite: Rows with NaN or infinity in the map or the score.
        tied: Rows decided among equal values.
        nothing_positive: Rows whose map speaks only against the class, where the measure clamps.
        rows: Scored rows, defined or not; of a difference, pairs.
        pictures: Sample ids with a defined row; of a difference, with a defined pair.
        p_value: Of the hypothesis that the true mean difference is 0, two-sided; below 0.05 exactly
            where the interval excludes 0. NaN without an interval, and for all but differences.
    """

    metric: str
    variant: Variant
    value: float
    ci_low: float
    ci_high: float
    n: int
    empty_map: int = 0
    empty_region: int = 0
    non_finite: int = 0
    tied: int = 0
    nothing_positive: int = 0
    rows: int = 0
    pictures: int = 0
    p_value: float = nan

    @property
    def all_empty(self) -> bool:
        """Whether there are rows, and every one of them is of an empty map."""
        return 0 < self.rows == self.empty_map + self.nothing_positive

    @property
    def cells(self) -> tuple[object, ...]:
        """As `SUMMARY_COLUMNS` name them."""
        flags = (getattr(self, flag) for flag in FLAGS)
        figures = (self.value, self.ci_low, self.ci_high, self.n)
        variant, counted = self.variant, (self.rows, self.pictures, self.p_value)
        return self.metric, variant.name, *figures, *flags, variant.role, variant.of, *counted


def summarise(
    rows: Iterable[Row],
    *,
    class_means: Collection[str] = (),
    bounds: Mapping[str, Bounds] | None = None,
) -> list[SummaryRow]:
    """Figures of every metric: the base, the refiners, their paired differences, the controls.

    An undefined score (NaN) is left out of the mean and counted by its flags; infinity, and NaN
    without a flag, count as `non_finite`. A row that occurs twice (a distributed sampler pads with
    repeats) counts once. The figures do not depend on the order of the rows; variants come in the
    order of their roles, refiners in that in which the rows first name them, controls in theirs.

    Args:
        rows: At most one score per sample, class, metric and variant, apart from repeats.
        class_means: Metrics whose figure is the mean over the classes' means, of the classes that
            have a defined score, in place of the mean over all rows.
        bounds: Lowest and highest score by metric, where intervals end; others have none.

    Raises:
        ValueError: an unknown flag, or two different scores for the same sample, class, metric and
            variant.
    """
    by_metric: dict[str, list[Row]] = defaultdict(list)
    for row in rows:
        by_metric[row.metric].append(row)
    return [
        figure
        for metric in sorted(by_metric)
        for figure in _figures(
            metric,
            by_metric[metric],
            metric in class_means,
            (bounds or {}).get(metric, (None, None)),
        )
    ]


SUMMARY_COLUMNS = [
    *("metric", "variant", "value", "ci_low", "ci_high", "n", *FLAGS, "role", "of"),
    *("rows", "pictures", "p_value"),
]
"""Columns of a figure in a file."""


def write_summary(path: Path, summary: Iterable[SummaryRow], record: str) -> None:
    """Write `summary.csv`: one line per figure, then the ledger counts, then the run's record."""
    with whole_file(path) as file:
        lines = TableWriter(file)
        lines.writerow([*SUMMARY_COLUMNS, RECORD])
        lines.writerows([*row.cells, record] for row in summary)


def read_summary(path: Path) -> list[SummaryRow]:
    """Figures of a `summary.csv`, exactly as they were written.

    Raises:
        BadData: the columns are not those of a summary.
    """
    columns = [*SUMMARY_COLUMNS, RECORD]
    with path.open(newline="", encoding="utf-8", errors="backslashreplace") as file:
        lines = csv.DictReader(file)
        if list(lines.fieldnames or []) != columns:
            raise BadData(
                f"{path} must have the columns {', '.join(columns)}, got "
                f"{', '.join(lines.fieldnames or ['none'])}; give a summary.csv that a run wrote."
            )
        try:
            return [
                SummaryRow(
                    line["metric"],
                    read_variant(line["variant"], line["role"], line["of"]),
                    float(line["value"]),
                    float(line["ci_low"]),
                    float(line["ci_high"]),
                    int(line["n"]),
                    **{flag: int(line[flag]) for flag in FLAGS},
                    rows=int(line["rows"]),
                    pictures=int(line["pictures"]),
                    p_value=float(line["p_value"]),
                )
                for line in lines
            ]
        except (ValueError, TypeError, csv.Error) as error:
            raise BadData(
                f"line {lines.line_num} of {path} is no figure of a run ({error}); remove the "
                "folder and run it again."
            ) from error


@dataclass(frozen=True)
class _Scores:
    """One metric as arrays; a unit is one class of one sample, sorted by id and class."""

    pictures: Int[np.ndarray, " U"]
    classes: Int[np.ndarray, " U"]
    scores: Float[np.ndarray, "U V"]
    flags: Bool[np.ndarray, "U V F"]
    scored: Bool[np.ndarray, "U V"]


def _figures(
    metric: str,
    rows: Sequence[Row],
    class_mean: bool,
    bounds: Bounds,
) -> Iterator[SummaryRow]:
    """The summary rows of one metric."""
    variants = _in_order({row.variant: None for row in rows})
    places = {variant.name: place for place, variant in enumerate(variants)}
    table = _tabulate(rows, variants)
    columns = {
        variant: (table.scores[:, v], table.flags[:, v], table.scored[:, v])
        for v, variant in enumerate(variants)
    }
    for v, variant in enumerate(variants):
        for other in _compared_with(variant):
            if other in places:
                w = places[other]
                paired = table.scored[:, v] & table.scored[:, w]
                columns[difference(variant, variants[w])] = (
                    table.scores[:, v] - table.scores[:, w],
                    (table.flags[:, v] | table.flags[:, w]) & paired[:, None],
                    paired,
                )
    groups = table.classes if class_mean else None
    for variant in sorted(columns, key=lambda variant: _ORDER.index(variant.role)):
        scores, flags, scored = columns[variant]
        reach = of_differences(bounds) if variant.role == "difference" else bounds
        found = estimate(scores, table.pictures, groups).within(reach)
        yield SummaryRow(
            metric,
            variant,
            found.value,
            found.low,
            found.high,
            int(np.isfinite(scores).sum()),
            **dict(zip(FLAGS, flags.sum(axis=0).tolist(), strict=True)),
            rows=int(scored.sum()),
            pictures=found.pictures,
            p_value=found.p_value if variant.role == "difference" else nan,
        )


def _in_order(named: Iterable[Variant]) -> list[Variant]:
    """Variants in the order of the tables, whichever a sample without random competitors names."""
    variants = list(named)
    refiners = [variant.name for variant in variants if variant.role == "refined"]
    known = [variant.name for variant in variants_of(refiners, controls=True)]
    places = {name: place for place, name in enumerate(known)}
    return sorted(variants, key=lambda variant: places.get(variant.name, len(known)))


def _compared_with(variant: Variant) -> tuple[str, ...]:
    """Names of the variants that a refined one is compared with, pair by pair."""
    if variant.role != "refined":
        return ()
    return BASE, *(f"{variant.name}_{control}" for control in (SAME_SPARSITY, RANDOM_CLASSES))


def _tabulate(rows: Sequence[Row], variants: Sequence[Variant]) -> _Scores:
    """Rows of one metric as arrays, repeats merged."""
    keys = sorted({(row.sample_id, row.class_index) for row in rows})
    unit = {key: u for u, key in enumerate(keys)}
    column = {variant: v for v, variant in enumerate(variants)}
    ids = {name: i for i, name in enumerate(sorted({name for name, _ in keys}))}
    shape = (len(keys), len(variants))
    cells = np.array(
        [unit[r.sample_id, r.class_index] * shape[1] + column[r.variant] for r in rows]
    )
    values = np.array([row.score for row in rows], dtype=float)
    order = np.lexsort((values, cells))  # by value too, so that which repeat stays is no accident
    cells, values = cells[order], values[order]
    repeats = np.flatnonzero(cells[1:] == cells[:-1])
    # Batches of another size move a score by rounding, and nothing more.
    differ = ~np.isclose(values[repeats], values[repeats + 1], atol=1e-4, equal_nan=True)
    if differ.any():
        first = repeats[differ][0]
        row = rows[order[first]]
        raise ValueError(
            f"sample '{row.sample_id}' has two scores of {row.metric} for class {row.class_index} "
            f"and variant '{row.variant.name}', {values[first]:g} and {values[first + 1]:g}; "
            "score each class of a sample once."
        )
    scores = np.full(shape, np.nan)
    flags = np.zeros((*shape, len(FLAGS)), dtype=bool)
    scored = np.zeros(shape, dtype=bool)
    scores.flat[cells[::-1]] = np.where(np.isfinite(values), values, np.nan)[::-1]
    np.logical_or.at(flags.reshape(-1, len(FLAGS)), cells, _parse_flags(rows)[order])
    scored.flat[cells] = True
    pictures, classes = np.array([(ids[name], index) for name, index in keys]).T
    return _Scores(pictures, classes, scores, flags, scored)


def _parse_flags(rows: Sequence[Row]) -> Bool[np.ndarray, "R F"]:
    """Flags of each row; an undefined score that does not say why is `non_finite`."""
    known: dict[str, list[bool]] = {}
    for text in {row.flags for row in rows}:
        names = set(text.split("|")) - {""}
        if unknown := sorted(names - set(FLAGS)):
            raise ValueError(f"flag '{unknown[0]}' is unknown; use {', '.join(FLAGS)}.")
        known[text] = [name in names for name in FLAGS]
    flags = np.array([known[row.flags] for row in rows])
    values = np.array([row.score for row in rows], dtype=float)
    flags[np.isinf(values) | (np.isnan(values) & ~flags.any(axis=1)), FLAGS.index("non_finite")] = (
        True
    )
    return flags
