"""Paired tests and rankings over several runs, made once; as tables and CSV."""

import csv
import itertools
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, fields, replace
from pathlib import Path

from var_exp.report.comparison import Run, refiners_of
from var_exp.report.significance import (
    PairedTest,
    Rank,
    SampleScores,
    holm,
    paired_test,
    rank_agreement,
    ranking,
)
from var_exp.report.statistics import BASE
from var_exp.report.tables import Cell, Table
from var_exp.report.verdicts import number


@dataclass(frozen=True)
class Comparison:
    """Several runs and all that is said of them: what every table, page and picture is made from.

    Attributes:
        runs: The finished runs.
        higher_is_better: Direction of each metric, in the order of the tables.
        against_base: By metric, every refiner against the base of its own run.
        between_runs: By metric, every run against every other on the same variant.
        rankings: Ranks of the runs, by (metric, variant).
    """

    runs: Sequence[Run]
    higher_is_better: Mapping[str, bool]
    against_base: Mapping[str, Sequence[PairedTest]]
    between_runs: Mapping[str, Sequence[PairedTest]]
    rankings: Mapping[tuple[str, str], Sequence[Rank]]


def compare(runs: Sequence[Run], higher_is_better: Mapping[str, bool]) -> Comparison:
    """Test and rank the runs on every metric."""
    rankings = {
        (metric, variant): ranking(columns, higher)
        for metric, higher in higher_is_better.items()
        for variant, columns in _variants(runs, metric).items()
    }
    return Comparison(
        runs,
        higher_is_better,
        {metric: refiner_tests(runs, metric) for metric in higher_is_better},
        {metric: run_tests(runs, metric) for metric in higher_is_better},
        {key: ranks for key, ranks in rankings.items() if ranks},
    )


def refiner_tests(runs: Sequence[Run], metric: str) -> list[PairedTest]:
    """Every refiner against the base of its own run, corrected as one family."""
    tests = []
    for run in runs:
        for name in refiners_of([run], metric):
            columns = {
                f"{run.name} {variant}": run.scores.get((metric, variant), {})  # none defined
                for variant in (name, BASE)
            }
            left, right = columns
            tests.append(paired_test(left, right, columns))
    return _corrected(tests)


def run_tests(runs: Sequence[Run], metric: str) -> list[PairedTest]:
    """Every run against every other on the same variant, a family for each variant."""
    tests = []
    for variant, columns in _variants(runs, metric).items():
        named = {f"{name} {variant}": scores for name, scores in columns.items()}
        pairs = itertools.combinations(named, 2)
        tests += _corrected([paired_test(left, right, named) for left, right in pairs])
    return tests


def _corrected(tests: Sequence[PairedTest | None]) -> list[PairedTest]:
    made = [test for test in tests if test is not None]
    corrected = holm([test.p_value for test in made])
    return [replace(test, p_holm=p) for test, p in zip(made, corrected, strict=True)]


def _variants(runs: Sequence[Run], metric: str) -> dict[str, dict[str, SampleScores]]:
    """Scores by base or refiner, then by run; only where there are two runs to compare."""
    by_variant = {
        variant: {
            run.name: run.scores[metric, variant] for run in runs if (metric, variant) in run.scores
        }
        for variant in (BASE, *refiners_of(runs, metric))
    }
    return {variant: columns for variant, columns in by_variant.items() if len(columns) > 1}


def write_tests(path: Path, comparison: Comparison) -> None:
    """Write every paired test as CSV, by metric."""
    with path.open("w", newline="", encoding="utf-8") as file:
        lines = csv.DictWriter(file, ["metric", *(field.name for field in fields(PairedTest))])
        lines.writeheader()
        for metric in comparison.higher_is_better:
            tests = (*comparison.against_base[metric], *comparison.between_runs[metric])
            lines.writerows({"metric": metric, **asdict(test)} for test in tests)


def significance_tables(comparison: Comparison) -> list[Table]:
    """Refiners tested against their base, ranks of the runs, and how far the ranks agree."""
    tables = []
    for metric in comparison.higher_is_better:
        tests = comparison.against_base[metric]
        columns = ["refined", "difference", "p", "p (Holm)", "effect", "n", "n for 80 % power"]
        rows = [_test_row(test) for test in tests]
        tables.append(Table(f"{metric}: refined against base", [*map(Cell, columns)], rows))
        found = {v: ranks for (m, v), ranks in comparison.rankings.items() if m == metric}
        if found:
            columns = ["run", *found]
            rows = _rank_rows(comparison.runs, found)
            tables.append(Table(f"{metric}: ranks of the runs", [*map(Cell, columns)], rows))
    names, tau = agreement(comparison)
    if len(names) > 1:
        rows = [
            [Cell(name), *(Cell(number(value, digits=2)) for value in row)]
            for name, row in zip(names, tau, strict=True)
        ]
        columns = ["Kendall's tau", *names]
        tables.append(Table("Do the rankings agree?", [*map(Cell, columns)], rows))
    return tables


def agreement(comparison: Comparison) -> tuple[list[str], list[list[float]]]:
    """Kendall's tau between the rankings: their names, and a row for each."""
    named = {f"{metric} / {v}": ranks for (metric, v), ranks in comparison.rankings.items()}
    return (list(named), rank_agreement(named).tolist()) if named else ([], [])


def _test_row(test: PairedTest) -> list[Cell]:
    ends = f"[{test.ci_low:+.3f}, {test.ci_high:+.3f}]"
    return [
        Cell(test.left, code=True),
        Cell(f"{test.difference:+.3f}", more=ends),
        Cell(f"{test.p_value:.2g}"),
        Cell(f"{test.p_holm:.2g}"),
        Cell(f"{test.effect:+.2f}"),
        Cell(f"{test.n:,}"),
        Cell(f"{test.needed:,}" if test.needed else "-"),
    ]


def _rank_rows(runs: Sequence[Run], found: Mapping[str, Sequence[Rank]]) -> list[list[Cell]]:
    """One row per run: its rank and the rank's interval under each variant."""
    places = {variant: {rank.name: rank for rank in ranks} for variant, ranks in found.items()}
    return [
        [Cell(run.name, code=True), *(_rank_cell(of.get(run.name)) for of in places.values())]
        for run in runs
    ]


def _rank_cell(rank: Rank | None) -> Cell:
    return Cell(f"{rank.rank:g}", more=f"[{rank.low:g}, {rank.high:g}]") if rank else Cell("-")
