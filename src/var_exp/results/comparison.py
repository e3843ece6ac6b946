"""Several runs side by side: what each found, paired tests and rankings, made once."""

import itertools
import string
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, fields, replace
from functools import partial
from pathlib import Path

from var_exp.files import whole_file
from var_exp.metrics.base import Traits
from var_exp.results.significance import (
    ClassScores,
    PairedTest,
    Rank,
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
        scores: Its scores by sample and class, by (metric, variant).
        folder: Where its files lie, seen from the folder of the comparison; "" when unknown.
    """

    labels: Mapping[str, str]
    summary: Sequence[SummaryRow]
    scores: Mapping[tuple[str, str], ClassScores] = field(default_factory=dict)
    folder: str = ""

    @property
    def name(self) -> str:
        """The labels in one string."""
        return " ".join(self.labels.values())

    def figures(self, metric: str) -> dict[str, SummaryRow]:
        """Its figures of one metric, by variant."""
        return {row.variant.name: row for row in self.summary if row.metric == metric}

    def verdicts(self, metric: str, traits: Traits) -> dict[str, Verdict]:
        """Each refiner against the base, by refiner."""
        figures = list(self.figures(metric).values())
        return {v.refined.variant.name: v for v in judge(figures, {metric: traits})}


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
        traits: What each metric is, in the order of the tables.
        against_base: By metric, every refiner against the base of its own run.
        between_runs: By metric, every run against every other on the same variant.
        rankings: Ranks of the runs, by (metric, variant).
    """

    runs: Sequence[Run]
    traits: Mapping[str, Traits]
    against_base: Mapping[str, Sequence[PairedTest]]
    between_runs: Mapping[str, Sequence[PairedTest]]
    rankings: Mapping[tuple[str, str], Sequence[Rank]]


def compare(runs: Sequence[Run], traits: Mapping[str, Traits]) -> Comparison:
    """Test and rank the runs on every metric."""
    rankings = {
        (metric, variant): ranking(
            columns, its.higher_is_better, class_means=its.average == "classes"
        )
        for metric, its in traits.items()
        for variant, columns in _variants(runs, metric).items()
    }
    return Comparison(
        runs,
        traits,
        {metric: refiner_tests(runs, metric, its) for metric, its in traits.items()},
        {metric: run_tests(runs, metric, its) for metric, its in traits.items()},
        {key: ranks for key, ranks in rankings.items() if ranks},
    )


def refiner_tests(runs: Sequence[Run], metric: str, traits: Traits) -> list[PairedTest]:
    """Every refiner against the base of its own run, corrected as one family."""
    columns: dict[str, ClassScores] = {}
    pairs = []
    for run in runs:
        for name in refiners_of([run], metric):
            pair = (f"{run.name} {name}", f"{run.name} {BASE}")
            for label, variant in zip(pair, (name, BASE), strict=True):
                columns[label] = run.scores.get((metric, variant), {})  # none defined
            pairs.append(pair)
    return _family(pairs, columns, traits)


def run_tests(runs: Sequence[Run], metric: str, traits: Traits) -> list[PairedTest]:
    """Every run against every other on the same variant, a family for each variant."""
    tests = []
    for variant, columns in _variants(runs, metric).items():
        named = {f"{name} {variant}": scores for name, scores in columns.items()}
        tests += _family(list(itertools.combinations(named, 2)), named, traits)
    return tests


def _family(
    pairs: Sequence[tuple[str, str]], columns: Mapping[str, ClassScores], traits: Traits
) -> list[PairedTest]:
    """The tests that can be made, corrected together."""
    test = partial(
        paired_test,
        columns=columns,
        class_means=traits.average == "classes",
        tests=len(pairs),
        bounds=traits.bounds,
    )
    made = [found for pair in pairs if (found := test(*pair)) is not None]
    corrected = holm([test.p_value for test in made])
    return [replace(test, p_holm=p) for test, p in zip(made, corrected, strict=True)]


def _variants(runs: Sequence[Run], metric: str) -> dict[str, dict[str, ClassScores]]:
    """Scores by base or refiner, then by run; only where there are two runs to compare."""
    by_variant = {
        variant: {
            run.name: run.scores[metric, variant] for run in runs if (metric, variant) in run.scores
        }
        for variant in (BASE, *refiners_of(runs, metric))
    }
    return {variant: columns for variant, columns in by_variant.items() if len(columns) > 1}


def letter_display(comparison: Comparison, metric: str, variant: str) -> dict[str, str]:
    """Letters of the runs by name: two share one exactly when they are not shown to differ.

    A compact letter display (Piepho, J. Comput. Graph. Stat. 2004, insert and absorb). The bars of
    a critical-difference diagram (Demšar, JMLR 2006) are the same where only neighbours in the
    ranking are alike; paired tests may also tell A from B but not from C that ranks below B.
    """
    names = [rank.name for rank in comparison.rankings.get((metric, variant), ())]
    place = {f"{name} {variant}": i for i, name in enumerate(names)}
    groups = {frozenset(range(len(names)))}
    for test in comparison.between_runs[metric]:
        if test.decides and {test.left, test.right} <= place.keys():
            pair = place[test.left], place[test.right]
            split = {
                group - {one} if group.issuperset(pair) else group
                for group in groups
                for one in pair
            }
            groups = {one for one in split if not any(one < other for other in split)}
    alike = sorted(groups, key=sorted)
    return {
        name: "".join(_letter(number) for number, group in enumerate(alike) if i in group)
        for i, name in enumerate(names)
    }


def _letter(number: int) -> str:
    """A to z, then aa and so on."""
    prefix = _letter(number // 26 - 1) if number >= 26 else ""
    return prefix + string.ascii_lowercase[number % 26]


def write_tests(path: Path, comparison: Comparison) -> None:
    """Write every paired test as CSV, by metric."""
    with whole_file(path) as file:
        columns = [field.name for field in fields(PairedTest)]
        lines = TableWriter(file)
        lines.writerow(["metric", *columns])
        for metric in comparison.traits:
            tests = (*comparison.against_base[metric], *comparison.between_runs[metric])
            lines.writerows([metric, *(getattr(test, name) for name in columns)] for test in tests)


def agreement(comparison: Comparison) -> tuple[list[str], list[list[float]]]:
    """Kendall's tau between the rankings: their names, and a row for each."""
    named = {f"{metric} / {v}": ranks for (metric, v), ranks in comparison.rankings.items()}
    return (list(named), rank_agreement(named).tolist()) if named else ([], [])
