"""Where on the image the values of an activation lie, and how they are brought back to its pixels.

Read off the calls of a forward pass, without names of classes:

    grid      two axes in a row as large as a grid that was seen: the output of a convolution or of
              pooling [B, D, h, w], or of a layer over the last axis of [B, h, w, D]
    tokens    an axis with one entry for each position of a grid, also behind or before others that
              were concatenated to it (class token, registers)

Whatever else there is, such as pooled features, prefix tokens, windows, or tokens in an unknown
order (`models.targets.token_places`), belongs to the image as a whole, whose pixels share it
evenly.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from functools import lru_cache

import torch
from jaxtyping import Float
from torch import Tensor
from torch.nn.functional import interpolate

from var_exp.engine.calls import CONCATENATION_CALLS, Call
from var_exp.models.grids import Grid, Grids
from var_exp.models.spatial import Frame, Target

_CHANNELS_FIRST = frozenset(
    {
        *("conv2d", "conv_transpose2d", "batch_norm", "group_norm", "interpolate", "pixel_shuffle"),
        *("max_pool2d", "avg_pool2d", "adaptive_max_pool2d", "adaptive_avg_pool2d"),
    }
)
_CHANNELS_LAST = frozenset({"linear", "layer_norm", "rms_norm"})


@dataclass(frozen=True)
class Place:
    """Where the values of one activation lie.

    Attributes:
        images: Axis of the images.
        axes: Axes of the positions once the images' axis is in front; empty for the whole image.
        grid: (h, w) of the positions.
        first: Entry of the first position, on a token axis.
    """

    images: int
    axes: tuple[int, ...] = ()
    grid: Grid = (1, 1)
    first: int = 0

    def sums(self, values: Tensor, n_images: int) -> list[Float[Tensor, "B h w"]]:
        """Sum values at each position, and those without one, for the whole image, to [B, 1, 1]."""
        values = values.to(torch.promote_types(values.dtype, torch.float32))
        values = values.movedim(self.images, 0)
        if not self.axes:
            return [values.reshape(n_images, -1).sum(1).view(-1, 1, 1)]
        others = [axis for axis in range(1, values.ndim) if axis not in self.axes]
        values = values.sum(others) if others else values
        if len(self.axes) == 2:
            return [values]
        end = self.first + self.grid[0] * self.grid[1]
        rest = values[:, : self.first].sum(1) + values[:, end:].sum(1)
        return [rest.view(-1, 1, 1), values[:, self.first : end].unflatten(1, self.grid)]


class Positions:
    """What one forward pass has shown of the network's grids and tokens.

    Args:
        size: (H, W) of the image.
        tokens: By their number the tokens of which it is known where they lie, or (None) that
            nothing is known; what is not in here is followed from the grids.
    """

    def __init__(self, size: Grid, tokens: Mapping[int, Target | None] | None = None) -> None:
        self._known = tokens or {}
        self._grids = Grids(size)
        self._grids.add(size)
        self._tokens: dict[int, tuple[int, Grid]] = {}  # count: entry of the first, grid

    def place(self, call: Call, shape: torch.Size, images: int) -> Place:
        """Place the output of a call, of this shape; the images lie along the given axis."""
        rest = [size for axis, size in enumerate(shape) if axis != images]
        self._learn(call, shape, rest)
        last = len(rest) - 2
        pairs = {axis: tuple(rest[axis : axis + 2]) for axis in (last, *range(last)) if axis >= 0}
        for grid in reversed(self._grids.seen):
            for axis, pair in pairs.items():
                if pair == grid:
                    return Place(images, (axis + 1, axis + 2), grid)
            # a vector, such as pooled features or logits, has no tokens, though its length may fit
            for axis, count in enumerate(rest) if sum(n > 1 for n in rest) > 1 else ():
                first, of = self._tokens.get(count, (0, None))
                if of == grid and self._known.get(count, of) is not None:
                    return Place(images, (axis + 1,), grid, first)
        # merged tokens, whose grid no call shows
        known = self._known.get(rest[0]) if len(rest) == 2 and rest[0] not in self._tokens else None
        return Place(images, (1,), known.grid, known.prefix) if known else Place(images)

    def _learn(self, call: Call, shape: torch.Size, rest: list[int]) -> None:
        if call.name in _CHANNELS_FIRST and len(rest) == 3:
            self._add((rest[1], rest[2]))
        elif call.name in _CHANNELS_LAST and len(rest) == 3 and self._grids.fits(rest[0], rest[1]):
            self._add((rest[0], rest[1]))
        elif call.name in CONCATENATION_CALLS:
            dim = call.kwargs.get("dim", call.args[1] if len(call.args) > 1 else 0)
            start = 0
            for part in call.tensors:
                if part.shape[dim] in self._tokens:
                    first, grid = self._tokens[part.shape[dim]]
                    self._tokens.setdefault(shape[dim], (start + first, grid))
                start += part.shape[dim]

    def _add(self, grid: Grid) -> None:
        self._grids.add(grid)
        if grid[0] * grid[1] > 1:
            self._tokens[grid[0] * grid[1]] = (0, grid)


def spread(
    sums: Float[Tensor, "B h w"], size: Grid, frame: Frame | None = None
) -> Float[Tensor, "B H W"]:
    """Share the value of each position among the pixels that it lies over; sums are kept.

    The shares are the weights of a bilinear resize from the image to the grid with antialiasing, so
    they fall off linearly with the distance, and those of one position sum to 1.

    Args:
        sums: Of any grid.
        size: (H, W) of the image.
        frame: What the grid covers where the model pads the image, as of `models.targets.Target`.
            The pixels of the image take what a position gives to the border.
    """
    grid = (sums.shape[1], sums.shape[2])
    top, left, *covered = frame if frame and grid not in (size, (1, 1)) else (0, 0, *size)
    down, across = (
        _shares(*lengths).to(sums)
        for lengths in zip(covered, grid, size, (-top, -left), strict=True)
    )
    return down @ sums @ across.T


@lru_cache(maxsize=256)
def _shares(covered: int, cells: int, pixels: int, start: int) -> Float[Tensor, "pixels cells"]:
    """Shares of the image's pixels, `start` behind the covered ones' first, in each cell of a side."""
    if cells == 1:
        return torch.full((pixels, 1), 1 / pixels, dtype=torch.float64)
    shares = torch.eye(covered, dtype=torch.float64)
    if cells != covered:
        size = (covered, cells)
        shares = interpolate(shares[None, None], size, mode="bilinear", antialias=True)[0, 0]
    if covered == pixels:
        return shares
    shares = shares[max(start, 0) : start + pixels]
    total = shares.sum(0)
    return torch.where(total > 0, shares / total, 1 / len(shares))
