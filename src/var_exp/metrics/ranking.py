"""The order of the pixels in a map, or of square patches of them.

Largest value first: channels summed, signed; of a patch the sum. Equal cells, the normal case for
sparse maps, are ranked by the next map when there is one, then in a given random order.
"""

from collections.abc import Hashable, Sequence
from dataclasses import dataclass, field

import torch
from jaxtyping import Bool, Float, Int, Shaped
from torch import Tensor
from torch.nn import functional as F  # noqa: N812 (the name everybody knows)

from var_exp.metrics.base import Flag
from var_exp.metrics.share import pixel_values


@dataclass
class Ranking:
    """The order of the pixels, or of square patches of them, in N maps.

    Attributes:
        values: Per key of the order [N, cells] float64, the deciding one first.
        order: [N, cells], cells from the first to the last.
        places: [N, H, W] int32, the place in the order of each pixel's cell.
        patch: Side of a patch in pixels; 1 ranks pixels.
        known: What the model said of pictures perturbed in this order (see `Perturber`).
    """

    values: list[Float[Tensor, "N cells"]]
    order: Int[Tensor, "N cells"]
    places: Int[Tensor, "N H W"]
    patch: int
    known: dict[Hashable, Tensor] = field(default_factory=dict)

    @property
    def cells(self) -> int:
        """How many pixels or patches a picture has."""
        return self.order.shape[1]

    def finite(self) -> Bool[Tensor, " N"]:
        """Whether a map, and its base map where that ranks, has neither NaN nor infinity."""
        return torch.stack([v.isfinite().all(1) for v in self.values]).all(0)

    def flags(self, counts: Sequence[int]) -> Int[Tensor, " N"]:
        """What is odd about each map when its first `counts` cells are told from the others."""
        cuts = [count for count in counts if 0 < count < self.cells]
        inside, outside = self.order[:, [cut - 1 for cut in cuts]], self.order[:, cuts]
        tied = torch.stack([v.gather(1, inside) == v.gather(1, outside) for v in self.values])
        return (
            Flag.EMPTY_MAP * (self.values[0] == 0).all(1)
            + Flag.NON_FINITE * ~self.finite()
            + Flag.TIED * tied.all(0).any(1)
        )


def rank(
    maps: Sequence[Float[Tensor, "N _ _ _"]],
    chance: Int[Tensor, "N cells"],
    size: tuple[int, int],
    patch: int,
) -> Ranking:
    """Rank the cells of N maps.

    Args:
        maps: The maps [N, c, h, w] that decide, then those that decide among equals; channels are
            summed, then resized to `size`.
        chance: [N, cells], the order of what is equal in all of them.
        size: Height and width of the pictures.
        patch: Side of a patch in pixels; 1 ranks pixels.
    """
    values = [patch_sums(pixel_values(m, size), patch) for m in maps]
    down, across = values[0].shape[1:]
    flat = [v.flatten(1) for v in values]
    order = chance.to(flat[0].device)
    for keys in reversed(flat):  # stable sorts, the deciding key last
        ranking = keys.gather(1, order).argsort(dim=1, descending=True, stable=True)
        order = order.gather(1, ranking)
    numbers = torch.arange(down * across, dtype=torch.int32, device=order.device)
    numbers = numbers.expand_as(order)
    places = torch.empty_like(numbers).scatter_(1, order, numbers).view(-1, down, across)
    return Ranking(flat, order, spread(places, patch, size), patch)


def patch_sums(values: Float[Tensor, "N H W"], patch: int) -> Float[Tensor, "N h w"]:
    """Sums over square patches; those at the lower and right edge may be smaller."""
    if patch == 1:
        return values
    height, width = values.shape[1:]
    padded = F.pad(values, (0, -width % patch, 0, -height % patch))
    sums: Tensor = padded.unflatten(1, (-1, patch)).unflatten(3, (-1, patch)).sum((2, 4))
    return sums


def spread(
    cells: Shaped[Tensor, "N h w"], patch: int, size: tuple[int, int]
) -> Shaped[Tensor, "N H W"]:
    """What is known of patches, for each of their pixels."""
    if patch == 1:
        return cells
    pixels = cells.repeat_interleave(patch, 1).repeat_interleave(patch, 2)
    return pixels[:, : size[0], : size[1]]
