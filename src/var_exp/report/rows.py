"""The score rows of a run: one per sample id, class, metric and variant, kept in `scores.csv`."""

import csv
from collections.abc import Iterable
from dataclasses import dataclass, fields
from operator import attrgetter
from pathlib import Path

from var_exp.report.files import whole_file
from var_exp.types import BadData

FLAGS = ("empty_map", "empty_region", "non_finite", "tied")
"""What a row may confess about its score; the ledger counts each of them."""

_COLUMNS = ["sample_id", "class", "metric", "variant", "score", "flags"]


@dataclass(frozen=True, slots=True)
class Row:
    """One score.

    Attributes:
        sample_id: Stable name of the picture.
        class_index: The class whose map was scored.
        metric: Name of the measure.
        variant: "base", the alias of a refiner, or the name of a control.
        score: NaN when the measure is undefined here.
        flags: Names from `FLAGS`, joined by "|"; "" when there is nothing to confess.
    """

    sample_id: str
    class_index: int
    metric: str
    variant: str
    score: float
    flags: str = ""


def write_rows(path: Path, rows: Iterable[Row]) -> None:
    """Write a `scores.csv`, with as many digits as reading the scores back exactly takes."""
    with whole_file(path) as file:
        lines = csv.writer(file)
        lines.writerow(_COLUMNS)
        lines.writerows(map(attrgetter(*(field.name for field in fields(Row))), rows))


def read_rows(path: Path) -> list[Row]:
    """Rows of a `scores.csv`, exactly as they were written.

    Raises:
        BadData: the columns are not those of a scores file, or a line does not fit them.
    """
    with path.open(newline="", encoding="utf-8") as file:
        lines = csv.reader(file)
        header = next(lines, [])
        if header != _COLUMNS:
            raise BadData(
                f"{path} must have the columns {', '.join(_COLUMNS)}, got "
                f"{', '.join(header) or 'none'}; give a scores.csv that a run wrote."
            )
        try:
            return [
                Row(sample_id, int(class_index), metric, variant, float(score), flags)
                for sample_id, class_index, metric, variant, score, flags in lines
            ]
        except ValueError as error:
            raise BadData(
                f"line {lines.line_num} of {path} is not a score row ({error}); "
                "remove it or score again."
            ) from error
