"""The score rows of a run: one per sample id, class, metric and variant, kept in `scores.csv`."""

import csv
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

from var_exp.files import whole_file
from var_exp.text import TableWriter, plain_cell
from var_exp.types import BadData
from var_exp.variants import Variant, read_variant

FLAGS = ("empty_map", "empty_region", "non_finite", "tied", "nothing_positive")
"""What a row may confess about its score; the ledger counts each of them."""

ROW_COLUMNS = ["sample_id", "class", "metric", "variant", "score", "flags", "role", "of"]


@dataclass(frozen=True, slots=True)
class Row:
    """One score.

    Attributes:
        sample_id: Stable name of the picture.
        class_index: The class whose map was scored.
        metric: Name of the measure.
        variant: Which maps: the base, those of a refiner, or a control.
        score: NaN when the measure is undefined here.
        flags: Names from `FLAGS`, joined by "|"; "" when there is nothing to confess.
    """

    sample_id: str
    class_index: int
    metric: str
    variant: Variant
    score: float
    flags: str = ""

    @property
    def cells(self) -> tuple[object, ...]:
        """As `ROW_COLUMNS` name them."""
        of, variant = (self.sample_id, self.class_index, self.metric), self.variant
        return *of, variant.name, self.score, self.flags, variant.role, variant.of


def write_rows(path: Path, rows: Iterable[Row]) -> None:
    """Write a `scores.csv`, with as many digits as reading the scores back exactly takes."""
    with whole_file(path) as file:
        lines = TableWriter(file)
        lines.writerow(ROW_COLUMNS)
        lines.writerows(row.cells for row in rows)


def read_rows(path: Path) -> list[Row]:
    """Rows of a `scores.csv`, exactly as they were written.

    Raises:
        BadData: the columns are not those of a scores file, or a line does not fit them.
    """
    with path.open(newline="", encoding="utf-8", errors="backslashreplace") as file:
        lines = csv.reader(file)
        header = next(lines, [])
        if header != ROW_COLUMNS:
            raise BadData(
                f"{path} must have the columns {', '.join(ROW_COLUMNS)}, got "
                f"{', '.join(header) or 'none'}; give a scores.csv that a run wrote."
            )
        try:
            return [
                Row(
                    plain_cell(id),
                    int(index),
                    metric,
                    read_variant(name, role, of),
                    float(score),
                    flags,
                )
                for id, index, metric, name, score, flags, role, of in lines
            ]
        except (ValueError, csv.Error) as error:
            raise BadData(
                f"line {lines.line_num} of {path} is not a score row ({error}); "
                "remove it or score again."
            ) from error
