"""Several runs side by side: what each found, paired tests and rankings, made once."""

import itertools
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, fields, replace
from pathlib import Path

from var_exp.files import whole_file
from var_exp.results.significance import (
    PairedTest,
    Rank,
    SampleScores,
    holm,
    paired_test,
    rank_agreement,
    ranking,
)
from var_exp.results.summary import SUMMARY_COLUMNS, SummaryRow
from var_exp.results.verdicts import Verdict, judge
from var_exp.text import TableWriter
from var_exp.variants import BASE


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
        return {row.variant.name: row for row in self.summary if row.metric == metric}

    def verdicts(self, metric: str, higher_is_better: bool) -> dict[str, Verdict]:
        """Each refiner against the base, by refiner."""
        figures = list(self.figures(metric).values())
        return {v.refined.variant.name: v for v in judge(figures, {metric: higher_is_better})}


def refiners_of(runs: Sequence[Run], metric: str) -> list[str]:
    """Refiners that any of the runs scored, in their order."""
    figures = (row for run in runs for row in run.figures(metric).values())
    return list(dict.fromkeys(r.variant.name for r in figures if r.variant.role == "refined"))


def write_comparison(path: Path, runs: Sequence[Run]) -> None:
    """Write every figure of every run as CSV: the labels, then the columns of `summary.csv`."""
    with whole_file(path) as file:
        lines = TableWriter(file)
        lines.writerow([*runs[0].labels, *SUMMARY_COLUMNS])
        lines.writerows([*run.labels.values(), *row.cells] for run in runs for row in run.summary)


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
    with whole_file(path) as file:
        columns = [field.name for field in fields(PairedTest)]
        lines = TableWriter(file)
        lines.writerow(["metric", *columns])
        for metric in comparison.higher_is_better:
            tests = (*comparison.against_base[metric], *comparison.between_runs[metric])
            lines.writerows([metric, *(getattr(test, name) for name in columns)] for test in tests)


def agreement(comparison: Comparison) -> tuple[list[str], list[list[float]]]:
    """Kendall's tau between the rankings: their names, and a row for each."""
    named = {f"{metric} / {v}": ranks for (metric, v), ranks in comparison.rankings.items()}
    return (list(named), rank_agreement(named).tolist()) if named else ([], [])
