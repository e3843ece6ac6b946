"""Mean curves and mean matrices of a run: what a measure says beyond one number."""

import csv
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from var_exp.files import whole_file
from var_exp.text import TableWriter
from var_exp.types import BadData


@dataclass(frozen=True)
class Curves:
    """Mean curves over the samples, one per variant, such as the probability during insertion.

    Attributes:
        title: Name of the measure.
        x_label: What runs along x.
        y_label: What runs along y.
        x: P ascending places, such as the share of pixels inserted.
        lines: Per variant P values.

    Raises:
        ValueError: fewer than two places, or a line of another length.
    """

    title: str
    x_label: str
    y_label: str
    x: Sequence[float]
    lines: Mapping[str, Sequence[float]]

    def __post_init__(self) -> None:
        if len(self.x) < 2:
            raise ValueError(
                f"curves '{self.title}' must have two places or more, got {len(self.x)}."
            )
        for name, line in self.lines.items():
            if len(line) != len(self.x):
                raise ValueError(
                    f"line '{name}' of curves '{self.title}' must have {len(self.x)} values, "
                    f"got {len(line)}; give one per place."
                )


@dataclass(frozen=True)
class MeanMatrix:
    """Mean square matrices over the samples, one per variant, such as who is confused with whom.

    Attributes:
        title: Name of the measure.
        row_label: What the rows are.
        column_label: What the columns are.
        values: Per variant the rows of the matrix, NaN where undefined.
    """

    title: str
    row_label: str
    column_label: str
    values: Mapping[str, Sequence[Sequence[float]]]


_COLUMNS = ["metric", "variant", "x", "y", "x_label", "y_label"]


def write_curves(path: Path, curves: Sequence[Curves]) -> None:
    """Write mean curves as CSV, one line per point; no file when there are none."""
    if not curves:
        return
    with whole_file(path) as file:
        lines = TableWriter(file)
        lines.writerow(_COLUMNS)
        lines.writerows(
            (curve.title, variant, x, y, curve.x_label, curve.y_label)
            for curve in curves
            for variant, line in curve.lines.items()
            for x, y in zip(curve.x, line, strict=True)
        )


def read_curves(path: Path) -> list[Curves]:
    """Curves of a `curves.csv`, exactly as they were written; none when there is no such file.

    Raises:
        BadData: it is no curves file, or was damaged.
    """
    if not path.exists():
        return []
    try:
        return _read(path)
    except (OSError, ValueError, TypeError, csv.Error) as error:
        raise BadData(
            f"cannot read {path} ({error}); give a curves.csv that a run wrote."
        ) from error


def _read(path: Path) -> list[Curves]:
    with path.open(newline="", encoding="utf-8") as file:
        lines = csv.DictReader(file)
        if list(lines.fieldnames or []) != _COLUMNS:
            raise BadData(
                f"{path} must have the columns {', '.join(_COLUMNS)}, got "
                f"{', '.join(lines.fieldnames or ['none'])}; give a curves.csv that a run wrote."
            )
        points: dict[tuple[str, str, str], dict[str, list[tuple[float, float]]]] = {}
        for line in lines:
            of = points.setdefault((line["metric"], line["x_label"], line["y_label"]), {})
            of.setdefault(line["variant"], []).append((float(line["x"]), float(line["y"])))
    return [
        Curves(
            *labels,
            x=[x for x, _ in next(iter(found.values()))],
            lines={variant: [y for _, y in line] for variant, line in found.items()},
        )
        for labels, found in points.items()
    ]
