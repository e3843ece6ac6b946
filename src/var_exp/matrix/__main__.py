"""Run the matrix.

    python -m var_exp.matrix            small relatives of the networks, printed
    python -m var_exp.matrix --folder docs           the same, written to docs/support.{md,csv}
    python -m var_exp.matrix --folder docs --full    published sizes, which takes hours

With --methods or --architectures only those cells are run; they replace the ones that were written
before. Ends with an error when a cell failed.
"""

import argparse
import sys
from dataclasses import replace
from pathlib import Path

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn

from var_exp.matrix.architectures import ARCHITECTURES
from var_exp.matrix.cells import Cell, run_cell, subject
from var_exp.matrix.checks import CHECKS
from var_exp.matrix.page import page, read, table, write

_ROWS, _COLUMNS = sorted(CHECKS), [each.name for each in ARCHITECTURES]


def main() -> int:
    """Run the cells that the command line asks for; 1 when one of them failed."""
    parser = argparse.ArgumentParser(
        prog="python -m var_exp.matrix",
        description="Every attribution method on every architecture, run and verified.",
    )
    parser.add_argument("--full", action="store_true", help="published sizes of the networks")
    parser.add_argument("--folder", type=Path, help="where support.md and support.csv are written")
    parser.add_argument("--methods", nargs="+", choices=_ROWS, default=_ROWS, metavar="ALIAS")
    parser.add_argument(
        "--architectures", nargs="+", choices=_COLUMNS, default=_COLUMNS, metavar="NAME"
    )
    options = parser.parse_args()

    file = options.folder / "support.csv" if options.folder else None
    cells = {(c.method, c.architecture): c for c in (read(file) if file else [])}
    failed: list[Cell] = []
    columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn())
    with Progress(*columns, TimeElapsedColumn(), console=Console(stderr=True)) as progress:
        chosen = [each for each in ARCHITECTURES if each.name in options.architectures]
        task = progress.add_task("", total=len(chosen) * len(options.methods))
        for architecture in chosen:
            progress.update(task, description=architecture.name)
            real = subject(architecture, small=not options.full)
            small = subject(architecture, small=True)
            for alias in options.methods:
                progress.update(task, description=f"{architecture.name} {alias}")
                is_small = CHECKS[alias].small or not options.full
                cell = run_cell(alias, small if is_small else real)
                cell = replace(cell, size="small" if is_small else "published")
                cells[alias, architecture.name] = cell
                failed += [cell] if cell.status == "failed" else []
                progress.advance(task)
            if file:  # after each network, so that a broken run can be taken up
                write(_ordered(cells), file)
    if file:
        file.with_suffix(".md").write_text(page(_ordered(cells)))
    else:
        print(table(_ordered(cells)))
    for cell in failed:
        print(f"{cell.method} on {cell.architecture} failed: {cell.reason}", file=sys.stderr)
    return bool(failed)


def _ordered(cells: dict[tuple[str, str], Cell]) -> list[Cell]:
    """Cells in the order of the tables; those of methods and networks that are gone are left."""
    return [cells[alias, name] for name in _COLUMNS for alias in _ROWS if (alias, name) in cells]


if __name__ == "__main__":
    sys.exit(main())
