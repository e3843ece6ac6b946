"""Boxes of objects as Pascal VOC's XML files have them, and ImageNet's localisation after them."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from math import isfinite
from pathlib import Path
from xml.etree import ElementTree

import torch
from jaxtyping import Bool
from torch import Tensor

from var_exp.data.geometry import Box, Geometry
from var_exp.types import BadData


@dataclass(frozen=True)
class Boxes:
    """The objects of one picture.

    Attributes:
        owners: Class of each object.
        boxes: As `Geometry.boxes` takes them.
        difficult: Whether an object is marked so.
    """

    owners: tuple[int, ...]
    boxes: tuple[Box, ...]
    difficult: tuple[bool, ...]

    def regions(
        self, classes: Sequence[int], geometry: Geometry, of: tuple[int, int]
    ) -> Bool[Tensor, "A h w"]:
        """Union of the boxes of each class, as the geometry puts a picture of that size."""
        drawn = geometry.boxes(self.boxes, of)
        owners = torch.tensor(self.owners)
        return torch.stack([drawn[owners == number].any(0) for number in classes])


_SIDES = ("xmin", "ymin", "xmax", "ymax")


def read_boxes(file: Path, numbers: Mapping[str, int], first: int) -> tuple[tuple[int, int], Boxes]:
    """Read the picture's width and height and its objects from an XML file.

    Args:
        file: `<annotation>` with a `<size>` and an `<object>` for each object.
        numbers: Class name -> number.
        first: As for `box`.

    Raises:
        BadData: the file is missing or broken, a class unknown, or a box nowhere in the picture.
    """
    try:
        root = ElementTree.parse(file).getroot()
        size = int(root.findtext("size/width", "")), int(root.findtext("size/height", ""))
        objects = root.findall("object")  # not those inside of objects: the parts of a person
        names = [found.findtext("name", "") for found in objects]
        difficult = tuple(found.findtext("difficult", "0") == "1" for found in objects)
        corners = [
            [float(found.findtext(f"bndbox/{side}", "")) for side in _SIDES] for found in objects
        ]
        if min(size) < 1 or not all(isfinite(side) for sides in corners for side in sides):
            raise ValueError("a width, height or corner that cannot be")
    # an unknown encoding is a LookupError
    except (OSError, ElementTree.ParseError, ValueError, LookupError, RecursionError) as error:
        raise BadData(
            f"cannot read annotation '{file}' ({error}); repair or replace it."
        ) from error
    boxes = tuple(box(sides, first, size, f"'{file}'") for sides in corners)
    for name in names:
        if name not in numbers:
            raise BadData(f"'{file}' names the class '{name}', which these data do not have.")
    return size, Boxes(tuple(numbers[name] for name in names), boxes, difficult)


def box(
    corners: Sequence[float], first: int, size: tuple[int, int] | None, where: str
) -> tuple[float, float, float, float]:
    """A box from its first and last columns and rows, cut where it leaves the picture.

    Args:
        corners: xmin, ymin, xmax, ymax; the last ones belong to the box.
        first: What the file calls the first row and column: 1 in Pascal VOC, 0 in ImageNet.
        size: Width and height of the picture, when known.
        where: The file, in words for the error.

    Raises:
        BadData: no pixel of the box lies in the picture.
    """
    left, top, right, bottom = corners
    width, height = size or (float("inf"), float("inf"))
    inside = (
        max(left - first, 0.0),
        max(top - first, 0.0),
        min(right - first + 1, width),
        min(bottom - first + 1, height),
    )
    if inside[0] >= inside[2] or inside[1] >= inside[3]:
        raise BadData(
            f"{where} has the box {list(corners)}, which holds no pixel of a picture of {size}; "
            "correct it or remove the object."
        )
    return inside
