"""Paired tests and rankings over several runs, made once; in Markdown and CSV."""

import csv
import itertools
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, fields, replace
from pathlib import Path

from var_exp.report.comparison import Run, refiners_of, table_line
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
                f"{run.name} {variant}": run.scores[metric, variant] for variant in (name, BASE)
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


def significance_markdown(comparison: Comparison) -> str:
    """Refiners tested against their base, ranks of the runs, and how far the ranks agree."""
    parts = []
    for metric in comparison.higher_is_better:
        tests = comparison.against_base[metric]
        header = ["refined", "difference", "p", "p (Holm)", "effect", "n", "n for 80 % power"]
        lines = [table_line(header), table_line(["---"] * len(header)), *map(_test_line, tests)]
        parts.append(f"### {metric}: refined against base\n\n" + "\n".join(lines) + "\n")
        found = {v: ranks for (m, v), ranks in comparison.rankings.items() if m == metric}
        if found:
            parts.append(f"### {metric}: ranks of the runs\n\n{_ranks(comparison.runs, found)}\n")
    names, tau = agreement(comparison)
    if len(names) > 1:
        lines = [table_line(["Kendall's tau", *names]), table_line(["---"] * (len(names) + 1))]
        lines += [
            table_line([name, *(number(value, digits=2) for value in row)])
            for name, row in zip(names, tau, strict=True)
        ]
        parts.append("### Do the rankings agree?\n\n" + "\n".join(lines) + "\n")
    return "\n".join(parts)


def agreement(comparison: Comparison) -> tuple[list[str], list[list[float]]]:
    """Kendall's tau between the rankings: their names, and a row for each."""
    named = {f"{metric} / {v}": ranks for (metric, v), ranks in comparison.rankings.items()}
    return (list(named), rank_agreement(named).tolist()) if named else ([], [])


def _test_line(test: PairedTest) -> str:
    ends = f"[{test.ci_low:+.3f}, {test.ci_high:+.3f}]"
    return table_line(
        [
            f"`{test.left}`",
            f"{test.difference:+.3f} {ends}",
            f"{test.p_value:.2g}",
            f"{test.p_holm:.2g}",
            f"{test.effect:+.2f}",
            f"{test.n:,}",
            f"{test.needed:,}" if test.needed else "-",
        ]
    )


def _ranks(runs: Sequence[Run], found: Mapping[str, Sequence[Rank]]) -> str:
    """One row per run: its rank and the rank's interval under each variant."""
    places = {variant: {rank.name: rank for rank in ranks} for variant, ranks in found.items()}
    lines = [table_line(["run", *places]), table_line(["---"] * (len(places) + 1))]
    for run in runs:
        ranks = [ranks.get(run.name) for ranks in places.values()]
        cells = [f"{r.rank:g} [{r.low:g}, {r.high:g}]" if r else "-" for r in ranks]
        lines.append(table_line([f"`{run.name}`", *cells]))
    return "\n".join(lines)
