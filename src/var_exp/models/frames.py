"""Where the image lies in what the first layer of a network reads: padded, cropped, or resized."""

from collections.abc import Sequence

import torch
from jaxtyping import Bool, Float
from torch import Tensor

from var_exp.models.grids import Grid
from var_exp.models.locality import Patch
from var_exp.models.spatial import Frame

_FAINT = 0.02  # share of the largest change, such as by a mean of all pixels
_ABOUT = 0.06  # share of a side by which resizing may move an edge


def find_frame(
    changes: Float[Tensor, "n h w"], patches: Sequence[Sequence[Patch]], size: Grid
) -> tuple[Frame | None, bool]:
    """The part of the image that a layer's input covers, and whether that is known.

    Args:
        changes: How much each place of the input changes, squared, for each of n changed pictures.
        patches: Where these were changed.
        size: (H, W) of the image.

    Returns:
        The frame, as of `Target`, None where the input covers the image; and False where the image
        is neither padded, whatever with, nor cropped, nor resized.
    """
    here, changes = (changes.shape[1], changes.shape[2]), changes.cpu()
    seen, shown = changes > _FAINT * changes.amax((1, 2), keepdim=True), _drawn(patches, size)
    top, left = (_shift(seen.any(axis), shown.any(axis)) for axis in (2, 1))
    if here != size and top is not None and left is not None:
        return (top, left, *here), True
    return None, all(_is_scaled(seen.any(axis), shown.any(axis)) for axis in (2, 1))


def _drawn(patches: Sequence[Sequence[Patch]], size: Grid) -> Tensor:
    """Where the pictures are changed, [n, H, W]."""
    drawn = torch.zeros(len(patches), *size, dtype=torch.bool)
    for each, places in zip(drawn, patches, strict=True):
        for top, bottom, left, right in places:
            each[top:bottom, left:right] = True
    return drawn


def _shift(seen: Bool[Tensor, "n h"], shown: Bool[Tensor, "n H"]) -> int | None:
    """Pixel of the image that the first pixel of a side shows, where all others follow it.

    Args:
        seen: [n, h], what changes along the side.
        shown: [n, H], what was changed in the image.
    """
    found = []
    for start in range(-seen.shape[1] // 2, shown.shape[1] // 2):
        first, end = max(start, 0), min(start + seen.shape[1], shown.shape[1])
        if seen[:, first - start : end - start].equal(shown[:, first:end]):
            found.append(start)
    return found[0] if len(found) == 1 else None


def _is_scaled(seen: Bool[Tensor, "n h"], shown: Bool[Tensor, "n H"]) -> bool:
    """Whether what changes along a side lies where it was changed in the image, in proportion."""
    for here, there in zip(seen, shown, strict=True):
        if not here.any():
            return False
        ends, expected = (
            (each.nonzero().flatten()[[0, -1]].double() + torch.tensor([0.0, 1.0])) / len(each)
            for each in (here, there)
        )
        if (ends - expected).abs().max() > _ABOUT:
            return False
    return True
