"""The score rows of a run: one per sample id, class, metric and variant, kept in `scores.csv`."""

import csv
from collections.abc import Iterable
from dataclasses import astuple, dataclass
from pathlib import Path
from types import TracebackType
from typing import Self

from var_exp.types import BadData

FLAGS = ("empty_map", "empty_region", "non_finite", "tied")
"""What a row may confess about its score; the ledger counts each of them."""

_COLUMNS = ["sample_id", "class", "metric", "variant", "score", "flags"]


@dataclass(frozen=True)
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


class RowWriter:
    """Writes rows to a CSV file batch by batch, so that a run that dies keeps what it has.

    Scores are written with as many digits as reading them back exactly takes.

    Args:
        path: The file; one that exists is replaced.
    """

    def __init__(self, path: Path) -> None:
        self._file = path.open("w", newline="", encoding="utf-8")
        self._csv = csv.writer(self._file)
        self._csv.writerow(_COLUMNS)

    def write(self, rows: Iterable[Row]) -> None:
        """Append one batch of rows and hand them to the operating system."""
        self._csv.writerows(astuple(row) for row in rows)
        self._file.flush()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._file.close()


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
