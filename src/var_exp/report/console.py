"""The summary as a table for the console."""

from collections.abc import Mapping, Sequence

from rich.box import SIMPLE_HEAD
from rich.table import Table
from rich.text import Text

from var_exp.results.rows import FLAGS
from var_exp.results.summary import SummaryRow
from var_exp.results.verdicts import by_metric, interval, mean
from var_exp.variants import Role

_STYLES: dict[Role, str] = {
    "base": "",
    "refined": "bold",
    "difference": "cyan",
    "control": "dim",
}

_LONG = 24  # characters of a name that leave room for the figures in 80 columns


def summary_table(summary: Sequence[SummaryRow], higher_is_better: Mapping[str, bool]) -> Table:
    """The figures, metric by metric: value, interval, n and the non-zero ledger counts.

    Fits 80 columns; says the same without colour, since every role is also a position: base,
    refiners, differences with a sign, then the controls under a line that names them.

    Raises:
        ValueError: a metric of the summary without a direction.
    """
    table = Table(box=SIMPLE_HEAD, pad_edge=False, show_edge=False)
    longest = max((n for row in summary if (n := len(row.variant.name)) <= _LONG), default=0)
    table.add_column("metric / variant", overflow="fold", min_width=2 + longest)
    table.add_column("value", justify="right", no_wrap=True)
    table.add_column("95 % interval", justify="right", no_wrap=True)
    table.add_column("n", justify="right", no_wrap=True)
    table.add_column("ledger", overflow="fold", min_width=18)
    for metric, rows in by_metric(summary, higher_is_better).items():
        direction = "higher" if higher_is_better[metric] else "lower"
        table.add_section()
        table.add_row(Text(metric, style="bold"), "", Text(f"{direction} is better", style="dim"))
        previous = "base"
        for row in rows:
            role = row.variant.role
            if role == "control" and previous != "control":
                table.add_row(Text("  controls", style="dim italic"))
            previous = role
            table.add_row(*_cells(row), style=_STYLES[role])
    return table


def _cells(row: SummaryRow) -> list[Text]:
    """One line of the table; `Text`, so that brackets are not read as markup."""
    signed = row.variant.role == "difference"
    counts = [f"{flag}={getattr(row, flag)}" for flag in FLAGS if getattr(row, flag)]
    name = row.variant.name
    if len(name) > _LONG:  # the difference of two long names, on two lines
        name = name.replace("-", "-\n  ")
    return [
        Text(f"  {name}"),
        Text(mean(row, signed=signed)),
        Text(interval(row, signed=signed)),
        Text(f"{row.n:,}"),
        Text("" if signed else ", ".join(counts)),  # a difference repeats those of its sides
    ]
