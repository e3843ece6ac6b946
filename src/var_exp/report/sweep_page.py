"""The page of a sweep: which configuration wins, by how much, and is that more than chance?"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import quote

from var_exp.report.axes import Axis, axis_of
from var_exp.report.templates import inline_script, templates
from var_exp.results.comparison import Comparison, Run, agreement, letter_display
from var_exp.results.headlines import Entry, Headline, entries, headlines
from var_exp.results.significance import FEWEST, Rank
from var_exp.results.summary import SummaryRow


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
    ranked: Sequence[Run]
    ranks: Mapping[str, Mapping[str, Rank]]
    letters: Mapping[str, Mapping[str, str]]
    rank_axis: Axis


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
            sections=[_section(comparison, metric) for metric in comparison.traits],
            agreement=list(zip(names, tau, strict=True)),
            failed=failed,
            shared=shared,
            fewest=FEWEST,
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
    runs = comparison.runs
    found = entries(comparison, metric)
    of_refiners = headlines(comparison, metric)
    controls = {
        run.name: {
            name: row for name, row in run.figures(metric).items() if row.variant.role == "control"
        }
        for run in runs
    }
    ranks = {
        variant: {rank.name: rank for rank in ranked}
        for (of, variant), ranked in comparison.rankings.items()
        if of == metric
    }
    return Section(
        metric,
        comparison.traits[metric].higher_is_better,
        of_refiners,
        [m for one in of_refiners if (m := _matrix(one.refiner, one.entries)) is not None],
        found,
        axis_of([entry.verdict.difference for entry in found], 0.0),
        controls,
        list(dict.fromkeys(name for found in controls.values() for name in found)),
        _best_first(runs, ranks),
        ranks,
        {variant: letter_display(comparison, metric, variant) for variant in ranks},
        Axis((1.0, float(max(2, len(runs))))),
    )


def _best_first(runs: Sequence[Run], ranks: Mapping[str, Mapping[str, Rank]]) -> list[Run]:
    """The runs in the order of the first refiner, or of the base where nothing is refined."""
    first = list(ranks.values())[:2][-1] if ranks else {}
    return sorted(runs, key=lambda run: first[run.name].rank if run.name in first else len(runs))


def _matrix(refiner: str, entries: Sequence[Entry]) -> RefinerMatrix | None:
    """The differences as a matrix when exactly two labels tell the runs apart."""
    keys = list(entries[0].run.labels) if entries else []
    if len(keys) != 2:
        return None
    values = {key: list(dict.fromkeys(e.run.labels[key] for e in entries)) for key in keys}
    row, column = sorted(keys, key=lambda key: -len(values[key]))
    cells = {(e.run.labels[row], e.run.labels[column]): e for e in entries}
    return RefinerMatrix(refiner, row, column, values[row], values[column], cells)
