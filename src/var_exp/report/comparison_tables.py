"""Several runs in tables: their figures, the paired tests, their ranks."""

from collections.abc import Mapping, Sequence

from var_exp.report.tables import Cell, Table
from var_exp.results.comparison import Comparison, Run, agreement, refiners_of
from var_exp.results.headlines import Entry, entries
from var_exp.results.significance import PairedTest, Rank
from var_exp.results.verdicts import interval, mean, number
from var_exp.text import readable
from var_exp.variants import BASE

_LEGEND = (
    "Bold: better than the base, struck (in print italic): worse, by two-sided tests at the 5 % "
    "level (2 % below 50 pictures), with Holm's correction over all runs and refiners. =: not "
    "shown to beat the base map at the same sparsity. \u2205: empty maps, or without anything "
    "positive."
)
_TESTS = (
    "Mean difference with its 95 % interval over pictures; two-sided p of the mean, also with "
    "Holm's correction; effect: matched-pairs rank-biserial correlation; needed: pictures with "
    "which a difference of this size is found with 80 % power after the correction."
)
_RANKS = "Rank (1 is best) and its 95 % bootstrap interval over pictures."


def comparison_tables(comparison: Comparison) -> list[Table]:
    """A table for each metric: a row for each run, a column for each refiner."""
    tables, runs = [], comparison.runs
    for metric, its in comparison.traits.items():
        names = refiners_of(runs, metric)
        columns = [*map(Cell, runs[0].labels), Cell(BASE), *(Cell(n, code=True) for n in names)]
        found = {
            (e.run.name, e.verdict.refined.variant.name): e for e in entries(comparison, metric)
        }
        rows = []
        for run in runs:
            figures = run.figures(metric)
            cells = [Cell(label, code=True) for label in run.labels.values()]
            cells.append(Cell(mean(figures[BASE]) if BASE in figures else "-"))
            cells += [_entry(found.get((run.name, name))) for name in names]
            rows.append(cells)
        title = f"{readable(metric)} ({'higher' if its.higher_is_better else 'lower'} is better)"
        told = f"{_counted(runs, metric)} {_LEGEND}"
        tables.append(Table(title, columns, rows, told, names=len(runs[0].labels)))
    return tables


def _counted(runs: Sequence[Run], metric: str) -> str:
    """Of what the means are."""
    bases = [run.figures(metric)[BASE] for run in runs if BASE in run.figures(metric)]
    maps, pictures = (_span([getattr(b, of) for b in bases]) for of in ("n", "pictures"))
    return (
        f"Mean of n = {maps} maps of {pictures} pictures, difference to the base map and its 95 % "
        "interval over pictures."
    )


def _span(counts: Sequence[int]) -> str:
    ends = sorted({min(counts, default=0), max(counts, default=0)})
    return " to ".join(f"{count:,}" for count in ends)


def _entry(entry: Entry | None) -> Cell:
    """The refined map's value, what it gains, and what a reader must know of it."""
    if entry is None:
        return Cell("-")
    verdict = entry.verdict
    more = f"{mean(verdict.difference, signed=True)} {interval(verdict.difference, signed=True)}"
    if entry.state == "better" and verdict.sparsity_suffices:
        more += " ="
    if nothing := verdict.refined.empty_map + verdict.refined.nothing_positive:
        more += f" \u2205{nothing:,}"
    return Cell(mean(verdict.refined), entry.state, more)


def significance_tables(comparison: Comparison) -> list[Table]:
    """Refiners tested against their base, ranks of the runs, and how far the ranks agree."""
    tables = []
    for metric in comparison.traits:
        tests = comparison.against_base[metric]
        columns = ["refined", "difference", "p", "p (Holm)", "effect", "pictures", "needed"]
        rows = [_test_row(test) for test in tests]
        title = f"{readable(metric)}: refined against base"
        tables.append(Table(title, [*map(Cell, columns)], rows, _TESTS))
        found = {v: ranks for (m, v), ranks in comparison.rankings.items() if m == metric}
        if found:
            columns = ["run", *found]
            rows = _rank_rows(comparison.runs, found)
            title = f"{readable(metric)}: ranks of the runs"
            tables.append(Table(title, [*map(Cell, columns)], rows, _RANKS))
    names, tau = agreement(comparison)
    if len(names) > 1:
        rows = [
            [Cell(name), *(Cell(number(value, digits=2)) for value in row)]
            for name, row in zip(names, tau, strict=True)
        ]
        columns = ["Kendall's tau", *names]
        tables.append(Table("Do the rankings agree?", [*map(Cell, columns)], rows))
    return tables


def _test_row(test: PairedTest) -> list[Cell]:
    ends = f"[{test.ci_low:+.3f}, {test.ci_high:+.3f}]"
    return [
        Cell(test.left, code=True),
        Cell(f"{test.difference:+.3f}", more=ends),
        Cell(f"{test.p_value:.2g}"),
        Cell(f"{test.p_holm:.2g}"),
        Cell(f"{test.effect:+.2f}"),
        Cell(f"{test.pictures:,}"),
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
