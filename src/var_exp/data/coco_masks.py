"""The outlines of COCO as masks: polygons and run lengths, checked before C code sees them.

pycocotools draws what it is given: junk in place of run lengths became a region out of nothing,
wild polygons ended the program. What is no outline of the picture is refused here.
"""

from collections.abc import Mapping, Sequence
from math import isfinite
from typing import Any

import numpy as np
import torch
from jaxtyping import Bool
from torch import Tensor

from var_exp.types import BadData, ConfigError


def pycocotools_mask() -> Any:
    """The module that draws polygons.

    Raises:
        ConfigError: it is not installed.
    """
    try:
        from pycocotools import mask
    except ImportError as error:
        raise ConfigError(
            "data=coco needs pycocotools; install it with: pip install 'var_exp[coco]'."
        ) from error
    return mask


def is_drawn(segmentation: object) -> bool:
    """Whether an annotation has an outline at all; some have a box alone."""
    if isinstance(segmentation, Mapping):
        return bool(segmentation.get("counts"))
    if not isinstance(segmentation, Sequence) or isinstance(segmentation, str):
        return False
    # what pycocotools takes for a box is a polygon of two points, which has no inside
    return any(not isinstance(p, Sequence) or len(p) >= 6 for p in segmentation)


def union(segmentations: Sequence[Any], height: int, width: int, where: str) -> Bool[Tensor, "H W"]:
    """Union of polygons and run lengths, as COCO draws them.

    Args:
        segmentations: Of one class's objects.
        height: Of the picture.
        width: Likewise.
        where: The file and the picture, in words for the error.

    Raises:
        BadData: one is no outline of a picture of that size.
    """
    drawn = np.zeros((height, width), np.bool_)
    for segmentation in segmentations:
        try:
            if isinstance(segmentation, Mapping):
                drawn |= _from_lengths(segmentation, height, width)
            else:
                drawn |= _from_polygons(segmentation, height, width)
        except (ValueError, TypeError, KeyError, OverflowError) as error:
            reason = f"{error} is missing" if isinstance(error, KeyError) else error
            raise BadData(
                f"{where} has an outline that is none ({reason}); correct or remove it."
            ) from error
    return torch.from_numpy(drawn)


def _from_lengths(encoded: Mapping[str, Any], height: int, width: int) -> Any:
    """Mask from run lengths down the columns, the first run outside."""
    size, counts = list(encoded["size"]), encoded["counts"]
    if size != [height, width]:
        raise ValueError(f"run lengths of size {size[:3]} in a picture of {[height, width]}")
    lengths = _decoded(counts) if isinstance(counts, str | bytes) else counts
    if not all(isinstance(n, int) and n >= 0 for n in lengths) or sum(lengths) != height * width:
        raise ValueError(f"run lengths that do not add up to {height} x {width}")
    inside = np.arange(len(lengths)) % 2 == 1
    return np.repeat(inside, lengths).reshape(width, height).T


def _decoded(text: str | bytes) -> list[int]:
    """Run lengths from COCO's text: 5 bits a sign, differences to the length before the last."""
    signs = text.encode("ascii") if isinstance(text, str) else text
    lengths: list[int] = []
    value = shift = 0
    for sign in signs:
        bits = sign - 48
        if not 0 <= bits < 64 or shift > 60:
            raise ValueError("signs that are no run lengths")
        value |= (bits & 31) << shift
        shift += 5
        if not bits & 32:
            if bits & 16:
                value -= 1 << shift
            lengths.append(value + (lengths[-2] if len(lengths) > 2 else 0))
            value = shift = 0
    if shift:
        raise ValueError("run lengths that are cut off")
    return lengths


def _from_polygons(polygons: Sequence[Any], height: int, width: int) -> Any:
    masks = pycocotools_mask()
    closed = [polygon for polygon in polygons if len(polygon) >= 6]
    for polygon in closed:
        if len(polygon) % 2:
            raise ValueError("a polygon of an odd number of coordinates")
        for place, value in enumerate(polygon):
            side = height if place % 2 else width
            if not isinstance(value, int | float) or not isfinite(value):
                raise ValueError(f"{str(value)[:20]!r} in a polygon")
            if not -side <= value <= 2 * side:
                raise ValueError(f"a polygon at {value:.4g} in a picture of {width} x {height}")
    if not closed:
        return np.zeros((height, width), np.bool_)
    encoded = masks.frPyObjects(closed, height, width)
    return masks.decode(masks.merge(encoded)).astype(np.bool_)
