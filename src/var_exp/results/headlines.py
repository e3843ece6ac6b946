"""What several runs say together: where a refiner helps, by tests corrected over all of them."""

from collections.abc import Sequence
from dataclasses import dataclass
from math import isnan
from statistics import median
from typing import Literal

from var_exp.results.comparison import Comparison, Run, refiners_of
from var_exp.results.significance import FEWEST, PairedTest
from var_exp.results.verdicts import Verdict

_SHADES = 6  # of a matrix; more cannot be told apart

State = Literal["better", "worse", "open"]


@dataclass(frozen=True)
class Entry:
    """One refiner of one run on one metric.

    Attributes:
        run: The run.
        verdict: The refiner against the base.
        test: The paired test of that, corrected over all runs; None with too few samples.
        shade: Size of the difference beside the largest of its table, 0 to 6.
    """

    run: Run
    verdict: Verdict
    test: PairedTest | None
    shade: int

    @property
    def state(self) -> State:
        """Open unless the difference stays significant after the correction."""
        if self.verdict.withheld or self.test is None or not self.test.decides:
            return "open"
        return self.verdict.outcome


@dataclass(frozen=True)
class Headline:
    """How one refiner did over all runs on one metric.

    Attributes:
        refiner: Its name.
        entries: One per run, at least one.
    """

    refiner: str
    entries: Sequence[Entry]

    def count(self, state: State) -> int:
        """Runs in which the refiner is better, worse or open."""
        return sum(entry.state == state for entry in self.entries)

    @property
    def beyond(self) -> int:
        """Runs in which it is better, and shown to beat its same-sparsity control too."""
        return sum(e.state == "better" and not e.verdict.sparsity_suffices for e in self.entries)

    @property
    def decided(self) -> int:
        """Runs in which it is better or worse."""
        return self.count("better") + self.count("worse")

    @property
    def undecided(self) -> str:
        """Why runs are open, and what would decide them; "" when none is."""
        traits = self.entries[0].verdict.traits
        if traits.rewards_sparsity:
            return "no verdict, the measure rewards sparsity by definition"
        empty = sum(entry.verdict.refined.all_empty for entry in self.entries)
        said = [f"in {empty} every refined map is empty"] if empty else []
        tests = [
            entry.test
            for entry in self.entries
            if entry.test is not None
            and entry.state == "open"
            and not entry.verdict.refined.all_empty
        ]
        if tests:
            counts = sorted({test.pictures for test in tests})
            pictures = f"{counts[0]:,}" if len(counts) == 1 else f"{counts[0]:,} to {counts[-1]:,}"
            needed = sorted({test.needed for test in tests if test.needed is not None})
            span = " to ".join(f"{count:,}" for count in dict.fromkeys([*needed[:1], *needed[-1:]]))
            few, everywhere = counts[-1] < FEWEST, len(tests) == len(self.entries)
            said.append(
                f"{'' if everywhere else f'in {len(tests)}, '}{pictures} pictures cannot decide"
                f"{'' if few else ' after correction'}"
                f"{f'; needed: {span}' if needed else ''}"
            )
        return ", ".join(said)

    def __str__(self) -> str:
        """One line for the console."""
        name = f"{self.entries[0].verdict.base.metric}: {self.refiner}"
        runs = f"{len(self.entries)} run{'s' if len(self.entries) > 1 else ''}"
        if not self.decided:
            return f"{name} in {runs}: {self.undecided or 'nothing to test'}"
        text = (
            f"{name} helps in {self.count('better')} of {runs}, in {self.beyond} beyond "
            f"sparsity; hurts in {self.count('worse')}"
        )
        return f"{text}; {self.undecided}" if self.undecided else text

    @property
    def typical(self) -> float:
        """Median difference over the runs."""
        found = [e.verdict.difference.value for e in self.entries]
        defined = [value for value in found if not isnan(value)]
        return median(defined) if defined else float("nan")

    @property
    def best(self) -> Entry:
        """The run whose refined map scores best."""
        sign = 1 if self.entries[0].verdict.higher_is_better else -1
        scored = [e for e in self.entries if not isnan(e.verdict.refined.value)] or self.entries
        return max(scored, key=lambda entry: sign * entry.verdict.refined.value)


def headlines(comparison: Comparison, metric: str) -> list[Headline]:
    """How every refiner did on a metric."""
    found = entries(comparison, metric)
    by_refiner = {
        name: [entry for entry in found if entry.verdict.refined.variant.name == name]
        for name in refiners_of(comparison.runs, metric)
    }
    return [Headline(name, of) for name, of in by_refiner.items() if of]


def entries(comparison: Comparison, metric: str) -> list[Entry]:
    """Every refiner of every run on a metric, in the order of the runs."""
    traits = comparison.traits[metric]
    tests = {test.left: test for test in comparison.against_base[metric]}
    verdicts = [(run, v) for run in comparison.runs for v in run.verdicts(metric, traits).values()]
    sizes = [abs(v.difference.value) for _, v in verdicts if not isnan(v.difference.value)]
    largest = max(sizes, default=0.0) or 1.0
    return [
        Entry(
            run,
            verdict,
            tests.get(f"{run.name} {verdict.refined.variant.name}"),
            0 if isnan(gain := verdict.difference.value) else round(_SHADES * abs(gain) / largest),
        )
        for run, verdict in verdicts
    ]
