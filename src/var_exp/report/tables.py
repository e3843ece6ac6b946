"""One table, written twice: Markdown for people at a screen, LaTeX (booktabs) for a paper.

Both print the same cells, so their numbers cannot differ.
"""

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal

from var_exp.results.summary import SummaryRow
from var_exp.results.verdicts import by_metric, interval, mean

_SPECIAL = {
    "\\": r"\textbackslash{}",
    "~": r"\textasciitilde{}",
    "^": r"\textasciicircum{}",
    "\u2192": r"$\rightarrow$",
    "\u00d7": r"$\times$",
    "\u2205": r"$\varnothing$",
    "\u2212": r"$-$",
    **{letter: f"\\{letter}" for letter in "&%$#_{}"},
}


@dataclass(frozen=True)
class Cell:
    """One cell.

    Attributes:
        text: What stands there, such as "0.938"; its minus sign is a hyphen.
        outcome: "better" is set bold, "worse" struck out (LaTeX: italic).
        more: What follows in lighter type, such as "+0.619 [+0.611, +0.626]".
        code: Whether the text is a name of ours, such as an alias, and no number.
    """

    text: str
    outcome: Literal["better", "worse", "open"] = "open"
    more: str = ""
    code: bool = False


@dataclass(frozen=True)
class Table:
    """Cells under heads.

    Attributes:
        title: Names the table.
        columns: One head per column, left to right.
        rows: As many cells in each row as there are columns.
        note: Explains the marks; may be empty.
        names: How many of the first columns hold names; the others hold numbers.
    """

    title: str
    columns: Sequence[Cell]
    rows: Sequence[Sequence[Cell]]
    note: str = ""
    names: int = field(default=1)


def markdown(table: Table) -> str:
    """The table as Markdown, without title and note."""
    lines = [table.columns, [Cell("---")] * len(table.columns), *table.rows]
    return "\n".join(f"| {' | '.join(map(_markdown_cell, line))} |" for line in lines)


def latex(table: Table, label: str) -> str:
    """The table as a LaTeX float that needs the packages booktabs and amssymb.

    Args:
        table: What to write.
        label: For references, such as "tab:grid".
    """
    numbers = len(table.columns) - table.names
    title = table.title[:1].upper() + table.title[1:]
    lines = [
        r"\begin{table}",
        r"  \centering",
        rf"  \caption{{{escaped(title)}.{' ' + escaped(table.note) if table.note else ''}}}",
        rf"  \label{{{label}}}",
        rf"  \begin{{tabular}}{{{'l' * table.names}{'r' * numbers}}}",
        r"    \toprule",
        _latex_line(table.columns),
        r"    \midrule",
        *map(_latex_line, table.rows),
        r"    \bottomrule",
        r"  \end{tabular}",
        r"\end{table}",
    ]
    return "\n".join(lines) + "\n"


def summary_tables(
    summary: Sequence[SummaryRow], higher_is_better: Mapping[str, bool]
) -> list[Table]:
    """The figures of one run, a table for each metric."""
    columns = [Cell("variant"), Cell("value"), Cell("95 % interval"), Cell("n")]
    tables = []
    for metric, rows in by_metric(summary, higher_is_better).items():
        cells = [
            [
                Cell(row.variant.name, code=True),
                Cell(mean(row, signed=row.variant.role == "difference")),
                Cell(interval(row, signed=row.variant.role == "difference")),
                Cell(f"{row.n:,}"),
            ]
            for row in rows
        ]
        arrow = "higher" if higher_is_better[metric] else "lower"
        tables.append(Table(f"{metric} ({arrow} is better)", columns, cells))
    return tables


def write_tables(stem: Path, tables: Sequence[Table]) -> list[Path]:
    """Write `<stem>.md` and `<stem>.tex`; returns both paths."""
    pages = [
        f"## {table.title}\n\n{markdown(table)}\n" + (f"\n{table.note}\n" if table.note else "")
        for table in tables
    ]
    floats = [latex(table, f"tab:{stem.name}-{i + 1}") for i, table in enumerate(tables)]
    files = {".md": "\n".join(pages), ".tex": _HEAD + "\n".join(floats)}
    for ending, text in files.items():
        stem.with_name(stem.name + ending).write_text(text, encoding="utf-8")
    return [stem.with_name(stem.name + ending) for ending in files]


_HEAD = "% \\usepackage{booktabs,amssymb}\n"


def escaped(text: str) -> str:
    r"""Text that LaTeX prints as it is.

    Examples:
        >>> escaped("critters_cnn & 50 %")
        'critters\\_cnn \\& 50 \\%'
    """
    return "".join(_SPECIAL.get(letter, letter) for letter in text)


def _markdown_cell(cell: Cell) -> str:
    mark = {"better": "**", "worse": "~~", "open": ""}[cell.outcome]
    plain = cell.text.replace("|", "\\|")
    text = f"`{plain}`" if cell.code else f"{mark}{plain}{mark}"
    return f"{text} {cell.more}" if cell.more else text


def _latex_line(cells: Sequence[Cell]) -> str:
    return f"    {' & '.join(map(_latex_cell, cells))} \\\\"


def _latex_cell(cell: Cell) -> str:
    text = escaped(cell.text)
    if cell.code:
        text = rf"\texttt{{{text}}}"
    elif text.startswith(("-", "+")) and len(text) > 1:
        text = f"${text}$"
    text = {"better": rf"\textbf{{{text}}}", "worse": rf"\textit{{{text}}}", "open": text}[
        cell.outcome
    ]
    # Figures of a gain in math mode, so that their minus signs are no hyphens.
    return rf"{text} {{\scriptsize ${_math(cell.more)}$}}" if cell.more else text


def _math(text: str) -> str:
    plain = re.sub(r"(?<=\d),(?=\d)", "{,}", escaped(text).replace("$", ""))
    return plain.replace(", ", r",\,").replace(" ", r"\;")
