"""The matrix as a page: one table to read, two with the facts behind it; and as CSV by the cell."""

import csv
from collections.abc import Iterable, Sequence
from dataclasses import asdict, fields, replace
from math import nan
from pathlib import Path
from typing import Any

from var_exp.matrix.architectures import ARCHITECTURES
from var_exp.matrix.cells import Cell
from var_exp.matrix.checks import CHECKS

_HEAD = """# What works on what

Written by `python -m var_exp.matrix --folder docs` (`--full` for the published sizes), which runs
every method on every architecture; do not edit. All facts by the cell: [support.csv](support.csv).

✓ ran, and its maps passed the checks below. ✗ is refused, for the reason under the number. Where
the builds of a family differ, the number of those that work is given.

"""

_CHECKED = """
## How each cell was verified

One image, 4 classes, float64, networks with random weights (critters: the shipped ones), either of
the published size or a small relative with fewer and narrower blocks, as the last table says. Every
cell: maps are finite and not all zero; the map of a class is the same alone as beside other classes
and images; parameters, buffers, flags, gradients and hooks of the model are as before. And every
method in its own way, as this table says: the error is the largest over the networks, as a share of
the largest value expected. Where a method would run for hours ("small relatives"), it was not run
on published sizes.

Passes are counted at the logits, per image and for 4 classes: images that went forward, and images
whose gradient came back, through however few layers. A search for the layer is counted, though it
is made once per batch.

| method | options | forward | backward | recomputed by | error |
|---|---|---|---|---|---|
"""

_BUILDS = """
## The networks

| family | build | size | activations that `gbp` guides |
|---|---|---|---|
"""


def table(cells: Sequence[Cell]) -> str:
    """Methods by families of networks in Markdown, and the reasons of what is refused."""
    run = {cell.architecture for cell in cells}
    family_of = {each.name: each.family for each in ARCHITECTURES if each.name in run}
    families = list(dict.fromkeys(family_of.values()))
    notes = _Notes()
    text = _line("method", *families) + _line("---", *[":-:"] * len(families))
    for name in _methods(cells):
        row = [cell for cell in cells if cell.method == name]
        marks = [
            notes.mark([cell for cell in row if family_of[cell.architecture] == family])
            for family in families
        ]
        text += _line(f"`{name}`", *marks)
    return text + "\n" + "".join(f"{number}. {note}.\n" for number, note in notes.listed())


def page(cells: Sequence[Cell]) -> str:
    """The page of the docs in Markdown."""
    text = _HEAD + table(cells) + _CHECKED
    for name in _methods(cells):
        ran = [cell for cell in cells if cell.method == name and cell.status != "refused"]
        options = [f"{key}={value}" for key, value in CHECKS[name].options.items()]
        if CHECKS[name].small:
            options.append("small relatives")
        text += _line(
            f"`{name}`",
            ", ".join(options),
            _range(cell.forward for cell in ran),
            _range(cell.backward for cell in ran),
            (CHECKS[name].error.__doc__ or "").rstrip("."),
            f"{max((cell.error for cell in ran), default=nan):.0e}",
        )
    gbp = {cell.architecture: cell for cell in cells if cell.method == "gbp"}
    text += _BUILDS
    for each in ARCHITECTURES:
        if each.name in gbp:
            cell = gbp[each.name]
            size = "small relative" if cell.size == "small" else f"published, {each.pixels} px"
            text += _line(each.family, each.name, size, cell.guided)
    return text


def _methods(cells: Sequence[Cell]) -> list[str]:
    return sorted({cell.method for cell in cells})


class _Notes:
    """Numbered reasons, each once."""

    def __init__(self) -> None:
        self._numbers: dict[str, int] = {}

    def mark(self, cells: Sequence[Cell]) -> str:
        """What stands in the table for the cells of one method and family."""
        if not cells:
            return ""
        reasons = dict.fromkeys(cell.reason for cell in cells if cell.reason)
        numbers = [self._numbers.setdefault(each, len(self._numbers) + 1) for each in reasons]
        supported = sum(cell.status == "supported" for cell in cells)
        if supported == len(cells):
            return "✓"
        sign = f"{supported} of {len(cells)}" if supported else "✗"
        if any(cell.status == "failed" for cell in cells):
            sign = f"**failed** {sign}"
        return f"{sign} <sup>{', '.join(map(str, numbers))}</sup>"

    def listed(self) -> Iterable[tuple[int, str]]:
        """Number and text of each reason."""
        return ((number, reason) for reason, number in self._numbers.items())


def _line(*columns: str) -> str:
    """One row of a Markdown table."""
    return f"| {' | '.join(columns)} |\n"


def _range(counts: Iterable[int]) -> str:
    """Smallest and largest count, once when they are equal."""
    ordered = sorted(set(counts))
    return " to ".join(str(count) for count in dict.fromkeys(ordered[:1] + ordered[-1:]))


def write(cells: Iterable[Cell], file: Path) -> None:
    """Write the cells as CSV, the error to one digit."""
    with file.open("w", newline="") as stream:
        writer = csv.DictWriter(stream, [each.name for each in fields(Cell)], lineterminator="\n")
        writer.writeheader()
        for cell in cells:
            writer.writerow({**asdict(cell), "error": f"{cell.error:.0e}"})


def read(file: Path) -> list[Cell]:
    """Cells of a CSV that `write` has written; none when there is no such file."""
    if not file.is_file():
        return []
    with file.open(newline="") as stream:
        rows: list[dict[str, Any]] = list(csv.DictReader(stream))
    return [
        replace(
            Cell(**row),
            forward=int(row["forward"]),
            backward=int(row["backward"]),
            error=float(row["error"]),
        )
        for row in rows
    ]
