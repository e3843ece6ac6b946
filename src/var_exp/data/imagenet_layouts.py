"""Where each layout of ImageNet keeps its pictures, labels, boxes and masks."""

import csv
import io
import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import IO, Any

import numpy as np

from var_exp.data.boxes import Boxes, box, read_boxes
from var_exp.data.imagenet_classes import wordnet_numbers
from var_exp.data.pictures import SUFFIXES, read_labels
from var_exp.data.walk import regular_files
from var_exp.text import first_line, printable
from var_exp.types import BadData, ConfigError

_KAGGLE_PICTURES = "ILSVRC/Data/CLS-LOC/val"
_KAGGLE_XML = "ILSVRC/Annotations/CLS-LOC/val"
_KAGGLE_CSV = "LOC_val_solution.csv"
_IGNORED = 1000  # what ImageNet-S leaves out of its masks
_SETS_OF_S = (50, 300, 919)
_CHECKED = 20  # masks that must hold their class before the numbering is believed


@dataclass(frozen=True)
class Parquet:
    """One row of a file of Hugging Face: its group of rows and its place in that."""

    file: Path
    group: int
    row: int


@dataclass(frozen=True)
class Entry:
    """One picture.

    Attributes:
        id: WordNet id and file name.
        source: Where the picture is.
        label: Class number.
    """

    id: str
    source: Path | Parquet
    label: int

    @property
    def stem(self) -> str:
        """File name without its ending, such as "ILSVRC2012_val_00000001"."""
        return Path(self.id).stem

    def open(self) -> Path | IO[bytes]:
        """What the picture can be read from."""
        if isinstance(self.source, Path):
            return self.source
        return io.BytesIO(_pictures(self.source.file, self.source.group)[self.source.row])


def entries_of(root: Path) -> list[Entry]:
    """All pictures, from whichever layout is there.

    Raises:
        BadData: none is, or its labels are wrong.
    """
    if (root / _KAGGLE_PICTURES).is_dir():
        return list(_kaggle(root))
    for folder in (root, root / "data"):
        if files := sorted(folder.glob("validation*.parquet")) or sorted(
            folder.glob("val*.parquet")
        ):
            return list(_parquet(files))
    for folder in (root / "validation", root / "val", root):
        if folder.is_dir():
            entries = list(_class_folders(folder))
            if entries:
                return entries
    raise BadData(
        f"data.root '{root}' holds no ImageNet; expected folders named by WordNet id "
        f"(n01440764 …), Kaggle's {_KAGGLE_PICTURES} beside {_KAGGLE_CSV}, or validation-*.parquet."
    )


def _class_folders(root: Path) -> Iterator[Entry]:
    numbers = wordnet_numbers()
    for folder in sorted(root.iterdir()):
        if not folder.is_dir() or folder.name.startswith("."):
            continue
        files = [file for file in regular_files(folder) if file.suffix.lower() in SUFFIXES]
        if files and folder.name not in numbers:
            raise BadData(
                f"the folder '{folder}' is not named by an ImageNet-1k WordNet id such as "
                "n01440764; use data=folder for other classes."
            )
        for file in files:
            yield Entry(printable(file.relative_to(root).as_posix()), file, numbers[folder.name])


def _kaggle(root: Path) -> Iterator[Entry]:
    solution = root / _KAGGLE_CSV
    if not solution.is_file():
        raise BadData(f"the labels '{solution}' are missing; Kaggle has them beside ILSVRC.")
    pictures = {file.stem: file for file in (root / _KAGGLE_PICTURES).iterdir()}
    missing = []
    for name, wordnet_id, _ in _solutions(solution):
        if name in pictures:
            file = pictures[name]
            yield Entry(f"{wordnet_id}/{file.name}", file, wordnet_numbers()[wordnet_id])
        else:
            missing.append(name)
    if missing:
        raise BadData(
            f"{len(missing)} pictures of '{solution}' are missing, such as {missing[0]}; unpack "
            "the whole archive, or take their lines out."
        )


def _solutions(file: Path) -> Iterator[tuple[str, str, list[list[float]]]]:
    """Picture, WordNet id and boxes of each line: "name,id x y x y id x y x y "."""
    try:
        with file.open(newline="", encoding="utf-8-sig") as opened:
            for row in csv.DictReader(opened):
                words = row["PredictionString"].split()
                boxes = [
                    [float(word) for word in words[i + 1 : i + 5]] for i in range(0, len(words), 5)
                ]
                if not words or words[0] not in wordnet_numbers() or len(words) % 5:
                    raise ValueError(f"{row['ImageId']} has '{row['PredictionString']}'")
                yield row["ImageId"], words[0], boxes
    except (OSError, KeyError, AttributeError, ValueError, csv.Error) as error:
        raise BadData(
            f"cannot read '{file}' ({error}); it must be Kaggle's, with ImageId and "
            "PredictionString."
        ) from error


def _parquet(files: Sequence[Path]) -> Iterator[Entry]:
    wordnet_ids = list(wordnet_numbers())
    for file in files:
        opened = _open_parquet(file)
        if not {"image", "label"} <= set(opened.schema_arrow.names):
            raise BadData(f"'{file}' lacks the columns image and label; take ImageNet-1k's files.")
        for group in range(opened.num_row_groups):
            for row, values in enumerate(_rows(file, group, ["image.path", "label"])):
                label, path = values.get("label"), _of_image(values, "path")
                if not isinstance(label, int) or not 0 <= label < len(wordnet_ids):
                    raise BadData(
                        f"'{file}' has the label {label} in row {row} of group {group}; ImageNet's "
                        "validation labels are 0 … 999."
                    )
                # Hugging Face appends the WordNet id to the name of the file
                name = re.sub(r"_n\d{8}(?=\.)", "", Path(path or f"{file.stem}_{group}_{row}").name)
                yield Entry(
                    f"{wordnet_ids[label]}/{printable(name)}", Parquet(file, group, row), label
                )


def _open_parquet(file: Path) -> Any:
    try:
        from pyarrow.parquet import ParquetFile
    except ImportError as error:
        raise ConfigError(
            "parquet files need pyarrow; install it with: pip install 'var_exp[parquet]'."
        ) from error
    try:
        return ParquetFile(file)
    except Exception as error:  # damage brings any
        raise _damaged(file, error) from error


@lru_cache(maxsize=2)
def _pictures(file: Path, group: int) -> list[bytes]:
    """The picture files of one group of rows (100 as Hugging Face writes them)."""
    return [_of_image(row, "bytes") or b"" for row in _rows(file, group, ["image.bytes"])]


def _rows(file: Path, group: int, columns: Sequence[str]) -> list[dict[str, Any]]:
    """Some columns of one group of rows.

    Raises:
        BadData: the file is damaged.
    """
    opened = _open_parquet(file)
    try:
        rows: list[dict[str, Any]] = opened.read_row_group(group, columns=columns).to_pylist()
    except Exception as error:  # damage brings any
        raise _damaged(file, error) from error
    return rows


def _of_image(row: Mapping[str, Any], key: str) -> Any:
    """What a row says of its picture, where that is a record as Hugging Face writes it."""
    image = row.get("image")
    return image.get(key) if isinstance(image, Mapping) else None


def _damaged(file: Path, error: Exception) -> BadData:
    return BadData(f"cannot read '{file}' ({first_line(error)}); download it again.")


def boxes_of(
    entries: Sequence[Entry], root: Path, given: Path | None
) -> tuple[dict[str, tuple[tuple[int, int] | None, Boxes]], list[Path]]:
    """Width and height of the picture, where that is said, and its boxes, by id; and their files.

    Raises:
        BadData: they are missing, or none is of the picture's class.
    """
    places = [given] if given is not None else [root / _KAGGLE_CSV, root / _KAGGLE_XML]
    place = next((place for place in places if place.exists()), None)
    if place is None:
        raise BadData(
            f"there are no boxes in '{places[0]}'; give the folder of their XML files with "
            "data.annotations=FOLDER."
        )
    numbers = wordnet_numbers()
    if place.is_file():
        drawn = {
            name: Boxes(
                (numbers[wordnet_id],) * len(boxes),
                tuple(box(corners, 0, None, f"'{place}', {name},") for corners in boxes),
                (False,) * len(boxes),
            )
            for name, wordnet_id, boxes in _solutions(place)
        }
        missing = [entry.stem for entry in entries if entry.stem not in drawn]
    else:
        drawn = {}
        missing = [entry.stem for entry in entries if not (place / f"{entry.stem}.xml").is_file()]
    if missing:
        raise BadData(
            f"'{place}' has no boxes of {len(missing)} of {len(entries)} pictures, such as "
            f"{missing[0]}; get the boxes of the validation pictures."
        )
    found: dict[str, tuple[tuple[int, int] | None, Boxes]] = {}
    for entry in entries:
        size: tuple[int, int] | None = None
        if entry.stem in drawn:
            boxes = drawn[entry.stem]
        else:
            size, boxes = read_boxes(place / f"{entry.stem}.xml", numbers, first=0)
        if entry.label not in boxes.owners:
            raise BadData(f"'{place}' has no box of the class of {entry.id}; correct its label.")
        found[entry.id] = size, boxes
    if place.is_file():
        return found, [place]
    return found, [place / f"{entry.stem}.xml" for entry in entries]


def masks_of(entries: Sequence[Entry], root: Path) -> dict[str, tuple[Path, int]]:
    """File of the mask and number of the class in it, by id.

    ImageNet-S numbers its 50, 300 or 919 classes from 1 by sorted WordNet id. Since its tools do
    not agree on that for 919, the first masks must hold the class of their picture.

    Raises:
        BadData: they are missing, or numbered otherwise.
    """
    folder = root / "validation-segmentation"
    wordnet_ids = sorted(found.name for found in folder.iterdir()) if folder.is_dir() else []
    if len(wordnet_ids) not in _SETS_OF_S:
        raise BadData(
            f"'{folder}' must hold the folders of ImageNet-S's 50, 300 or 919 classes, got "
            f"{len(wordnet_ids)}; data.root is the folder ImageNetS50, ImageNetS300 or …S919."
        )
    found: dict[str, tuple[Path, int]] = {}
    for entry in entries:
        wordnet_id = entry.id.partition("/")[0]
        file = folder / wordnet_id / f"{entry.stem}.png"
        if not file.is_file():
            raise BadData(f"the mask '{file}' is missing; download the annotations again.")
        found[entry.id] = file, wordnet_ids.index(wordnet_id) + 1
    for file, number in list(found.values())[:_CHECKED]:
        if number not in (held := set(np.unique(read_labels(file)).tolist()) - {0, _IGNORED}):
            raise BadData(
                f"the mask '{file}' holds the classes {sorted(held)}, and its picture is of class "
                f"{number} in sorted order; these masks are numbered otherwise."
            )
    return found
