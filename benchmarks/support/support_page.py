"""Write docs/support.{md,csv}: every method on every architecture, run and verified.

    python benchmarks/support/support_page.py              small relatives of the networks, printed
    python benchmarks/support/support_page.py --folder docs           the same, written there
    python benchmarks/support/support_page.py --folder docs --full    published sizes, takes hours

With --methods or --architectures only those are run; they replace what was written before. Ends
with an error when a method failed.
"""

import argparse
import csv
import sys
from collections.abc import Iterable, Sequence
from dataclasses import asdict, dataclass, fields
from math import nan
from pathlib import Path
from typing import Literal

from architectures import ARCHITECTURES, subject
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn

from var_exp.support.checks import CHECKS
from var_exp.support.findings import Finding, examine

_METHODS, _NETWORKS = sorted(CHECKS), [each.name for each in ARCHITECTURES]

_HEAD = """# What works on what

Which methods act on *your* network, and what checked them:

```bash
python -m var_exp.support model=resnet50 model.pretrained=false --methods gbp gradcam lrp attnlrp
```

`model=` takes an alias or any timm name, `model.checkpoint=FILE` its weights, and without
`--methods` all are tried, which takes minutes. It ends with an error when one failed; "acts,
unchecked" says that the second way to its maps has no rule for something the network calls.

From Python, `var_exp.support.support(model)` returns the same rows for any module. Each method runs
in float64 on a copy of the network, and its maps are made again in another way.

The table below is written by `python benchmarks/support/support_page.py --folder docs` (`--full`
for the published sizes), which does so for every method and every architecture; do not edit. All
facts: [support.csv](support.csv).

✓ ran, and its maps passed the checks below. ✗ is refused, for the reason under the number. Where
the builds of a family differ, the number of those that work is given.

"""

_CHECKED = """
## How each was verified

One image, 4 classes, float64, networks with random weights (critters: the shipped ones), either of
the published size or a small relative with fewer and narrower blocks, as the last table says. Every
one: maps are finite and not all zero; the map of a class is the same alone as beside other classes
and images; parameters, buffers, flags, gradients and hooks of the model are as before. And every
method in its own way, as this table says: the error is the largest over the networks, as a share of
the largest value expected. Where a method would run for hours ("small relatives"), it was not run
on published sizes.

Passes are counted at the logits, per image and for 4 classes: images that went forward, and images
whose gradient came back, through however few layers. A search for the layer is counted where it was
not known from the check before the work, which keeps it for each network.

| method | options | forward | backward | recomputed by | error |
|---|---|---|---|---|---|
"""

_BUILDS = """
## The networks

Where class activation maps are read, and how many cells away from a changed patch that layer
answers at the worst of some places (`models.locality`): 0 is the cell over the patch.

| family | build | size | activations that `gbp` guides | layer of `gradcam`, its grid | cells off |
|---|---|---|---|---|---|
"""


@dataclass(frozen=True)
class Row(Finding):
    """A finding on one of the networks.

    Attributes:
        size: Of the network: "published", or "small", a relative with fewer and narrower blocks.
    """

    size: Literal["published", "small"] = "published"


def table(rows: Sequence[Row]) -> str:
    """Methods by families of networks in Markdown, and the reasons of what is refused."""
    ran = {row.network for row in rows}
    family_of = {each.name: each.family for each in ARCHITECTURES if each.name in ran}
    families = list(dict.fromkeys(family_of.values()))
    notes = _Notes()
    text = _line("method", *families) + _line("---", *[":-:"] * len(families))
    for name in _methods(rows):
        of_method = [row for row in rows if row.method == name]
        marks = [
            notes.mark([row for row in of_method if family_of[row.network] == family])
            for family in families
        ]
        text += _line(f"`{name}`", *marks)
    return text + "\n" + "".join(f"{number}. {note}.\n" for number, note in notes.listed())


def page(rows: Sequence[Row]) -> str:
    """The page of the docs in Markdown."""
    text = _HEAD + table(rows) + _CHECKED
    for name in _methods(rows):
        ran = [row for row in rows if row.method == name and row.status != "refused"]
        options = [f"{key}={value}" for key, value in CHECKS[name].options.items()]
        if CHECKS[name].small:
            options.append("small relatives")
        text += _line(
            f"`{name}`",
            ", ".join(options),
            _range(row.forward for row in ran),
            _range(row.backward for row in ran),
            CHECKS[name].phrase,
            f"{max((row.error for row in ran), default=nan):.0e}",
        )
    gbp, cam = (
        {row.network: row for row in rows if row.method == alias} for alias in ("gbp", "gradcam")
    )
    text += _BUILDS
    for each in ARCHITECTURES:
        if each.name in gbp:
            row = gbp[each.name]
            size = "small relative" if row.size == "small" else f"published, {each.pixels} px"
            where = cam.get(each.name)
            layer = "refused" if where is None or not where.layer else f"`{where.layer}`"
            cells = "" if where is None or where.locality is None else str(where.locality)
            text += _line(each.family, each.name, size, row.guided, layer, cells)
    return text


def _methods(rows: Sequence[Row]) -> list[str]:
    return sorted({row.method for row in rows})


class _Notes:
    """Numbered reasons, each once."""

    def __init__(self) -> None:
        self._numbers: dict[str, int] = {}

    def mark(self, rows: Sequence[Row]) -> str:
        """What stands in the table for the rows of one method and family."""
        if not rows:
            return ""
        reasons = dict.fromkeys(row.reason for row in rows if row.reason)
        numbers = [self._numbers.setdefault(each, len(self._numbers) + 1) for each in reasons]
        acting = sum(row.status == "acts" for row in rows)
        if acting == len(rows):
            return "✓"
        sign = f"{acting} of {len(rows)}" if acting else "✗"
        if any(row.status == "failed" for row in rows):
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


def write(rows: Iterable[Row], file: Path) -> None:
    """Write the rows as CSV, the error to one digit."""
    with file.open("w", newline="") as stream:
        columns = [each.name for each in fields(Row)]
        writer = csv.DictWriter(stream, columns, lineterminator="\n")
        writer.writeheader()
        for row in rows:
            writer.writerow({**asdict(row), "error": f"{row.error:.0e}"})


def read(file: Path) -> list[Row]:
    """Rows of a CSV that `write` has written; none when there is no such file."""
    if not file.is_file():
        return []
    with file.open(newline="") as stream:
        return [
            Row(
                **{  # type: ignore[arg-type]  # what the file says
                    **row,
                    "forward": int(row["forward"]),
                    "backward": int(row["backward"]),
                    "error": float(row["error"]),
                    "locality": int(row["locality"]) if row.get("locality") else None,
                }
            )
            for row in csv.DictReader(stream)
        ]


def main() -> int:
    """Run what the command line asks for; 1 when a method failed on a network."""
    parser = argparse.ArgumentParser(description="Every method on every architecture, verified.")
    parser.add_argument("--full", action="store_true", help="published sizes of the networks")
    parser.add_argument("--folder", type=Path, help="where support.md and support.csv are written")
    parser.add_argument("--methods", nargs="+", choices=_METHODS, default=_METHODS, metavar="ALIAS")
    parser.add_argument(
        "--architectures", nargs="+", choices=_NETWORKS, default=_NETWORKS, metavar="NAME"
    )
    options = parser.parse_args()

    file = options.folder / "support.csv" if options.folder else None
    rows = {(row.method, row.network): row for row in (read(file) if file else [])}
    failed: list[Row] = []
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
                found = examine(alias, small if is_small else real)
                row = Row(**asdict(found), size="small" if is_small else "published")
                rows[alias, architecture.name] = row
                failed += [row] if row.status in ("failed", "unchecked") else []
                progress.advance(task)
            if file:  # after each network, so that a broken run can be taken up
                write(_ordered(rows), file)
    if file:
        file.with_suffix(".md").write_text(page(_ordered(rows)))
    else:
        print(table(_ordered(rows)))
    for row in failed:
        print(f"{row.method} on {row.network} {row.status}: {row.reason}", file=sys.stderr)
    return bool(failed)


def _ordered(rows: dict[tuple[str, str], Row]) -> list[Row]:
    """Rows in the order of the tables; those of methods and networks that are gone are left."""
    return [rows[alias, name] for name in _NETWORKS for alias in _METHODS if (alias, name) in rows]


if __name__ == "__main__":
    sys.exit(main())
