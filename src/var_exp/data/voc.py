"""Pascal VOC in its own layout: `VOCdevkit/VOC2007/{JPEGImages,Annotations,ImageSets}`.

Everingham et al., "The Pascal Visual Object Classes Challenge", IJCV 2010.
"""

from collections import Counter
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Literal

import numpy as np
import torch
from jaxtyping import Bool
from torch import Tensor

from var_exp.data.boxes import Boxes, read_boxes
from var_exp.data.geometry import Geometry
from var_exp.data.photographs import Photograph, Photographs
from var_exp.data.pictures import read_labels
from var_exp.data.unreadable import OnError
from var_exp.text import printable
from var_exp.types import BadData, ConfigError, InputSpec

NAMES = (
    "aeroplane", "bicycle", "bird", "boat", "bottle", "bus", "car", "cat", "chair", "cow",
    "diningtable", "dog", "horse", "motorbike", "person", "pottedplant", "sheep", "sofa", "train",
    "tvmonitor",
)  # fmt: skip
"""The 20 classes in the order of the challenge."""

_VOID = 255  # border between objects, and what was too hard to label


class VOC(Photographs):
    """Pascal VOC: each picture with all its classes, and where they are.

    With boxes, a class of which every object is marked "difficult" is left out, as in the pointing
    game; the others keep all their boxes. With masks, a class is where the segmentation has it; the
    void border belongs to none.

    Args:
        root: The folder VOC2007 (or VOC2012), the VOCdevkit around it, or the folder around that.
        spec: What the model expects to see.
        year: 2007 or 2012.
        split: List of pictures: a file of `ImageSets/Main`, or `ImageSets/Segmentation` for masks.
        regions: "boxes" of the annotation, or "masks" of the segmentation.
        num_classes: As for `Photographs`, likewise the rest.

    Raises:
        BadData: files are missing, or say what cannot be.
    """

    def __init__(
        self,
        root: str | None,
        spec: InputSpec,
        num_classes: int | None = None,
        year: int = 2007,
        split: str = "test",
        regions: Literal["boxes", "masks"] = "boxes",
        view: Literal["crop", "whole"] = "crop",
        subset: str | None = None,
        min_area: float = 0.0,
        min_classes: int = 1,
        count: int | None = None,
        on_error: OnError = "fail",
    ) -> None:
        if regions not in ("boxes", "masks"):
            raise ConfigError(f"data.regions must be boxes or masks, got '{regions}'.")
        self._home = _home(root, year)
        left_out: Counter[str] = Counter()
        found = []
        for name in _listed(self._home, "Main" if regions == "boxes" else "Segmentation", split):
            classes, known = (
                self._boxed(name, left_out) if regions == "boxes" else self._masked(name)
            )
            file = self._home / "JPEGImages" / f"{name}.jpg"
            found.append(Photograph(f"voc{year}/{name}", file, tuple(sorted(classes)), known))
        super().__init__(
            found,
            NAMES,
            spec,
            num_classes,
            group="voc",
            view=view,
            subset=subset,
            min_area=min_area,
            min_classes=min_classes,
            count=count,
            on_error=on_error,
            left_out=left_out,
        )

    def annotations(self) -> Iterator[Path]:
        """The XML file of each picture, or its masks."""
        for photograph in self.photographs:
            if isinstance(photograph.annotation, Path):
                yield photograph.annotation
            else:
                yield self._home / "Annotations" / f"{photograph.file.stem}.xml"

    def regions(
        self, photograph: Photograph, classes: Sequence[int], size: tuple[int, int] | None
    ) -> Bool[Tensor, "A h w"]:
        """Where each class is; see `Photographs`."""
        if isinstance(photograph.annotation, Path):
            labels = torch.from_numpy(read_labels(photograph.annotation))
            self.as_annotated(photograph, (labels.shape[1], labels.shape[0]), size)
            masks = torch.stack([labels == number + 1 for number in classes])
            return self.geometry.masks(masks) if size else masks
        stated, boxes = photograph.annotation
        self.as_annotated(photograph, stated, size)
        geometry = self.geometry if size else Geometry(min(stated), mode="whole")
        regions: Tensor = boxes.regions(classes, geometry, stated)
        return regions

    def _boxed(
        self, name: str, left_out: Counter[str]
    ) -> tuple[set[int], tuple[tuple[int, int], Boxes]]:
        """Classes to ask about; the picture's size and boxes."""
        numbers = {known: number for number, known in enumerate(NAMES)}
        size, boxes = read_boxes(self._home / "Annotations" / f"{name}.xml", numbers, first=1)
        hard = zip(boxes.owners, boxes.difficult, strict=True)
        easy = {owner for owner, difficult in hard if not difficult}
        left_out["with difficult objects only"] += len(set(boxes.owners) - easy)
        return easy, (size, boxes)

    def _masked(self, name: str) -> tuple[set[int], Path]:
        """Classes to ask about and the file of their masks."""
        file = self._home / "SegmentationClass" / f"{name}.png"
        numbers = set(np.unique(read_labels(file)).tolist()) - {0, _VOID}
        if numbers and max(numbers) > len(NAMES):
            raise BadData(f"'{file}' has class {max(numbers)}, and VOC only {len(NAMES)}.")
        return {number - 1 for number in numbers}, file


def _home(root: str | None, year: int) -> Path:
    """The folder VOC<year>, from it or from what is around it."""
    name = f"VOC{year}"
    if root is None:
        raise BadData(f"Pascal VOC is missing; give the folder that holds {name} with data.root=…")
    given = Path(root).expanduser()
    for home in (given, given / name, given / "VOCdevkit" / name):
        if (home / "JPEGImages").is_dir() and (home.name == name or home != given):
            return home
    raise BadData(
        f"data.root '{root}' holds no {name} with a folder JPEGImages; unpack the archives of "
        f"VOC {year} there (VOCdevkit/{name})."
    )


def _listed(home: Path, kind: str, split: str) -> list[str]:
    """Names of the pictures of a split."""
    folder = home / "ImageSets" / kind
    file = folder / f"{split}.txt"
    if not file.is_file():
        known = sorted(found.stem for found in folder.glob("*.txt") if "_" not in found.stem)
        raise BadData(
            f"there is no '{file}'; "
            + (f"data.split can be {', '.join(known)}." if known else "unpack the archives there.")
        )
    try:
        names = file.read_text(encoding="utf-8-sig").split()
    except (OSError, UnicodeDecodeError) as error:
        raise BadData(f"cannot read '{file}' ({error}); it must be names in UTF-8.") from error
    for name in names:
        if Path(name).name != name or printable(name) != name:
            raise BadData(f"'{file}' lists {printable(name)!r}, which is no name of a picture.")
    return names
