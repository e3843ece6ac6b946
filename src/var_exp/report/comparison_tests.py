"""Paired tests and rankings over several runs, in Markdown and CSV."""

import csv
import itertools
from collections.abc import Mapping, Sequence
from dataclasses import asdict, fields, replace
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


def write_tests(path: Path, tests: Mapping[str, Sequence[PairedTest]]) -> None:
    """Write paired tests by metric as CSV."""
    with path.open("w", newline="", encoding="utf-8") as file:
        lines = csv.DictWriter(file, ["metric", *(field.name for field in fields(PairedTest))])
        lines.writeheader()
        lines.writerows(
            {"metric": metric, **asdict(test)} for metric in tests for test in tests[metric]
        )


def significance_markdown(runs: Sequence[Run], higher_is_better: Mapping[str, bool]) -> str:
    """Refiners tested against their base, ranks of the runs, and how far the ranks agree."""
    parts = []
    rankings: dict[str, list[Rank]] = {}
    for metric, higher in higher_is_better.items():
        tests = refiner_tests(runs, metric)
        header = ["refined", "difference", "p", "p (Holm)", "effect", "n", "n for 80 % power"]
        lines = [table_line(header), table_line(["---"] * len(header)), *map(_test_line, tests)]
        parts.append(f"### {metric}: refined against base\n\n" + "\n".join(lines) + "\n")
        found = {
            variant: ranking(columns, higher)
            for variant, columns in _variants(runs, metric).items()
        }
        rankings |= {f"{metric} / {name}": ranks for name, ranks in found.items() if ranks}
        if any(found.values()):
            parts.append(f"### {metric}: ranks of the runs\n\n{_ranks(runs, found)}\n")
    if len(rankings) > 1:
        tau = rank_agreement(rankings)
        lines = [
            table_line(["Kendall's tau", *rankings]),
            table_line(["---"] * (len(rankings) + 1)),
        ]
        lines += [
            table_line([name, *(number(value, digits=2) for value in row)])
            for name, row in zip(rankings, tau.tolist(), strict=True)
        ]
        parts.append("### Do the rankings agree?\n\n" + "\n".join(lines) + "\n")
    return "\n".join(parts)


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
