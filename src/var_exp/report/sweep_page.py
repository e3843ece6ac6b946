"""The page of a sweep: which configuration wins, by how much, and is that more than chance?"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from math import isnan
from pathlib import Path
from statistics import median
from urllib.parse import quote

from var_exp.report.axes import Axis, axis_of
from var_exp.report.templates import inline_script, templates
from var_exp.results.comparison import Comparison, Run, agreement, refiners_of
from var_exp.results.significance import PairedTest, Rank
from var_exp.results.summary import SummaryRow
from var_exp.results.verdicts import Verdict

LEVEL = 0.05
"""A difference counts as shown when its corrected p-value is below this."""

_SHADES = 6  # of a matrix; more cannot be told apart


@dataclass(frozen=True)
class Entry:
    """One refiner of one run on one metric.

    Attributes:
        run: The run.
        verdict: The refiner against the base.
        test: The paired test of that, corrected over all runs; None with too few samples.
        shade: Size of the difference beside the largest of its table, 0 to `_SHADES`.
    """

    run: Run
    verdict: Verdict
    test: PairedTest | None
    shade: int

    @property
    def shown(self) -> bool:
        """Whether the difference stays significant after the correction."""
        return self.test is not None and self.test.p_holm < LEVEL

    @property
    def state(self) -> str:
        """better, worse or open, by the corrected test."""
        gain = self.verdict.difference.value
        if not self.shown or isnan(gain) or gain == 0:
            return "open"
        return "better" if (gain > 0) is self.verdict.higher_is_better else "worse"


@dataclass(frozen=True)
class Headline:
    """How one refiner did over all runs on one metric."""

    refiner: str
    entries: Sequence[Entry]

    def count(self, state: str) -> int:
        """Runs in which the refiner is better, worse or open."""
        return sum(entry.state == state for entry in self.entries)

    @property
    def beyond(self) -> int:
        """Runs in which it is better, and shown to beat its same-sparsity control too."""
        return sum(e.state == "better" and not e.verdict.sparsity_suffices for e in self.entries)

    def __str__(self) -> str:
        """One line for the console."""
        return (
            f"{self.entries[0].verdict.base.metric}: {self.refiner} helps in "
            f"{self.count('better')} of {len(self.entries)} runs, in {self.beyond} beyond sparsity;"
            f" hurts in {self.count('worse')}"
        )

    @property
    def typical(self) -> float:
        """Median difference over the runs."""
        found = [e.verdict.difference.value for e in self.entries]
        return median(value for value in found if not isnan(value)) if found else float("nan")

    @property
    def best(self) -> Entry:
        """The run whose refined map scores best."""
        sign = 1 if self.entries[0].verdict.higher_is_better else -1
        scored = [e for e in self.entries if not isnan(e.verdict.refined.value)] or self.entries
        return max(scored, key=lambda entry: sign * entry.verdict.refined.value)


@dataclass(frozen=True)
class RefinerMatrix:
    """One refiner's differences, a row and a column for each value of the two labels that vary."""

    refiner: str
    row_key: str
    column_key: str
    rows: Sequence[str]
    columns: Sequence[str]
    cells: Mapping[tuple[str, str], Entry]


@dataclass(frozen=True)
class Section:
    """Everything that the page shows of one metric."""

    metric: str
    higher_is_better: bool
    headlines: Sequence[Headline]
    matrices: Sequence[RefinerMatrix]
    entries: Sequence[Entry]
    axis: Axis
    controls: Mapping[str, Mapping[str, SummaryRow]]
    control_names: Sequence[str]
    ranks: Mapping[str, Mapping[str, Rank]]
    rank_axis: Axis


def headlines(comparison: Comparison) -> list[Headline]:
    """How every refiner did on every metric."""
    return [
        headline
        for metric in comparison.higher_is_better
        for headline in _headlines(comparison, metric, _entries(comparison, metric))
    ]


def write_sweep_report(
    path: Path,
    comparison: Comparison,
    *,
    title: str,
    failed: Mapping[str, str],
    shared: Mapping[str, str],
) -> None:
    """Write the page; everything given is escaped.

    Args:
        path: The HTML file; one that exists is replaced. Links lead from its folder into the runs'.
        comparison: The finished runs, tested and ranked.
        title: Headline.
        failed: Runs that did not finish, name to reason.
        shared: Options that all runs have in common and that were chosen by hand.
    """
    script, policy = inline_script("sort.js")
    names, tau = agreement(comparison)
    page = (
        templates()
        .get_template("sweep.html.jinja")
        .render(
            title=title,
            runs=comparison.runs,
            keys=list(comparison.runs[0].labels),
            reports={run.name: _reports(path.parent, run) for run in comparison.runs},
            sections=[_section(comparison, metric) for metric in comparison.higher_is_better],
            agreement=list(zip(names, tau, strict=True)),
            failed=failed,
            shared=shared,
            level=LEVEL,
            script=script,
            policy=policy,
        )
    )
    path.write_text(page, encoding="utf-8")


def _reports(folder: Path, run: Run) -> dict[str, str]:
    """Relative addresses of what a run wrote for people, where it is there."""
    file = folder / run.folder / "report.html"
    if not run.folder or not file.is_file():
        return {}
    address = quote(f"{run.folder}/report.html")
    has_gallery = 'id="gallery"' in file.read_text(encoding="utf-8", errors="ignore")
    return {"report": address} | ({"pictures": f"{address}#gallery"} if has_gallery else {})


def _section(comparison: Comparison, metric: str) -> Section:
    runs, higher = comparison.runs, comparison.higher_is_better[metric]
    entries = _entries(comparison, metric)
    of_refiners = _headlines(comparison, metric, entries)
    controls = {
        run.name: {
            name: row for name, row in run.figures(metric).items() if row.variant.role == "control"
        }
        for run in runs
    }
    ranks = {
        variant: {rank.name: rank for rank in found}
        for (of, variant), found in comparison.rankings.items()
        if of == metric
    }
    return Section(
        metric,
        higher,
        of_refiners,
        [m for one in of_refiners if (m := _matrix(one.refiner, one.entries)) is not None],
        entries,
        axis_of([entry.verdict.difference for entry in entries], 0.0),
        controls,
        list(dict.fromkeys(name for found in controls.values() for name in found)),
        ranks,
        Axis((1.0, float(max(2, len(runs))))),
    )


def _headlines(comparison: Comparison, metric: str, entries: Sequence[Entry]) -> list[Headline]:
    """The entries of each refiner that has any."""
    by_refiner = {
        name: [entry for entry in entries if entry.verdict.refined.variant.name == name]
        for name in refiners_of(comparison.runs, metric)
    }
    return [Headline(name, found) for name, found in by_refiner.items() if found]


def _entries(comparison: Comparison, metric: str) -> list[Entry]:
    """Every refiner of every run, in the order of the runs."""
    higher = comparison.higher_is_better[metric]
    tests = {test.left: test for test in comparison.against_base[metric]}
    verdicts = [(run, v) for run in comparison.runs for v in run.verdicts(metric, higher).values()]
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


def _matrix(refiner: str, entries: Sequence[Entry]) -> RefinerMatrix | None:
    """The differences as a matrix when exactly two labels tell the runs apart."""
    keys = list(entries[0].run.labels) if entries else []
    if len(keys) != 2:
        return None
    values = {key: list(dict.fromkeys(e.run.labels[key] for e in entries)) for key in keys}
    row, column = sorted(keys, key=lambda key: -len(values[key]))
    cells = {(e.run.labels[row], e.run.labels[column]): e for e in entries}
    return RefinerMatrix(refiner, row, column, values[row], values[column], cells)
