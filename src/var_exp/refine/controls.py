"""Controls: maps without class competition, or without a model, that run beside every comparison.

A gain of a refiner counts only beyond what its control reaches: the base map cut to the same
sparsity, chance, the centre of the picture, its edges.
"""

import math
from collections.abc import Sequence

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor
from torch.nn import functional as F  # noqa: N812 (the name everybody knows)

from var_exp.seeds import sample_generator
from var_exp.types import Classes, Images, Maps, Regions

_NUMPY = (torch.float32, torch.float64)  # on a CPU it counts and selects these faster


def same_sparsity(base: Maps, refined: Float[Tensor, "B K _ H W"]) -> Float[Tensor, "B K _ H W"]:
    """Cut the base maps to as many non-zero values as the refined maps have, without competition.

    For each image and class the values of largest magnitude stay; among equal magnitudes at the
    cut the first in (channel, row, column) order. A base map with fewer non-zero values than the
    refined one stays whole.

    Args:
        base: [B, K, c, H, W], raw and signed.
        refined: [B, K, c, H, W], or [B, K, 1, H, W] of a refiner that sums the channels; the base
            channels are then summed too.

    Returns:
        The shape of `refined`: base values and zeros.

    Raises:
        ValueError: shapes that do not belong together.
    """
    if refined.shape[2] == 1 and base.ndim == 5:
        base = base.sum(2, keepdim=True)
    if base.shape != refined.shape:
        raise ValueError(
            f"base and refined maps must have one shape [B, K, c, H, W], got {list(base.shape)} "
            f"and {list(refined.shape)}; refine these very base maps."
        )
    rows, wanted = (maps.flatten(2).flatten(0, 1) for maps in (base, refined))
    cut = torch.empty_like(rows)
    for row, values, count in zip(cut, rows, _counts(wanted), strict=True):
        row.copy_(_largest(values, count))
    return cut.view_as(base)


def _counts(rows: Float[Tensor, "m n"]) -> list[int]:
    """How many numbers of each row are not zero."""
    if rows.is_cpu and rows.dtype in _NUMPY:  # in a third of the time
        return [int(count) for count in np.count_nonzero(rows.numpy(force=True), axis=1)]
    counts: list[int] = rows.count_nonzero(1).tolist()
    return counts


def _largest(values: Float[Tensor, " n"], count: int) -> Float[Tensor, " n"]:
    """The values of largest magnitude, NaN above all, and 0 elsewhere; of equal ones the first."""
    if count == 0:
        return values * 0  # what is not finite stays visible
    magnitudes = values.abs()
    below, least = _at_rank(magnitudes, len(values) - count)
    if below < least:  # no equal value is left out
        return F.hardshrink(values, below).copysign_(values)  # zeros too, as a product has them
    if math.isnan(least):
        marks, equal = torch.zeros_like(values, dtype=torch.bool), magnitudes.isnan()
    else:
        marks, equal = ~(magnitudes <= least), magnitudes == least  # the former true of NaN
    left = count - int(marks.count_nonzero())
    marks[equal.nonzero()[:left, 0]] = True
    return values * marks


def _at_rank(values: Float[Tensor, " n"], rank: int) -> tuple[float, float]:
    """The values (none negative) of rank - 1 and rank in ascending order, from 0, NaN last.

    In place of that before the first stands -1.
    """
    if values.is_cpu and values.dtype in _NUMPY:
        # by vector instructions: 6 to 7 times as fast as kthvalue
        ordered = np.partition(values.numpy(force=True), rank)
        return float(ordered[:rank].max(initial=-1)), float(ordered[rank])
    below = float(values.kthvalue(rank).values) if rank else -1.0
    return below, float(values.kthvalue(rank + 1).values)


def random_map(
    ids: Sequence[str], classes: Classes, size: tuple[int, int], seed: int = 0
) -> Float[Tensor, "B K 1 H W"]:
    """Draw uniform noise in [0, 1), a stream of its own for each sample and class.

    Args:
        ids: B sample ids.
        classes: [B, K] int64.
        size: Height and width in pixels.
        seed: Seed of the run.

    Returns:
        [B, K, 1, H, W] float32 on the device of `classes`.
    """
    noise = [
        [torch.rand(1, *size, generator=sample_generator(seed, f"{name}/{label}")) for label in row]
        for name, row in zip(ids, classes.tolist(), strict=True)
    ]
    return torch.stack([torch.stack(row) for row in noise]).to(classes.device)


def gaussian_map(height: int, width: int, spread: float = 0.25) -> Float[Tensor, "H W"]:
    """Centred Gaussian, 1 at the centre: the guess that the object is in the middle.

    Args:
        height: Pixels.
        width: Pixels.
        spread: Standard deviation as a share of each side; positive.

    Returns:
        [H, W] float32 in (0, 1].
    """
    rows, columns = (
        torch.exp(-0.5 * (((torch.arange(side) + 0.5) / side - 0.5) / spread) ** 2)
        for side in (height, width)
    )
    return rows[:, None] * columns


def oracle_map(regions: Regions) -> Float[Tensor, "B A 1 H W"]:
    """The answer itself: 1 in the true region, 0 elsewhere. What a perfect map would score."""
    return regions[:, :, None].float()


def edge_map(images: Images) -> Float[Tensor, "B 1 H W"]:
    """Sobel gradient magnitude of the grey image (mean of the channels), borders replicated.

    Args:
        images: [B, C, H, W], normalised or not.

    Returns:
        [B, 1, H, W], at least 0: what an edge detector shows without any model.
    """
    grey = F.pad(images.mean(1, keepdim=True), (1, 1, 1, 1), mode="replicate")
    smooth = grey[..., :-2, :] + 2 * grey[..., 1:-1, :] + grey[..., 2:, :]
    across = smooth[..., 2:] - smooth[..., :-2]
    smooth = grey[..., :-2] + 2 * grey[..., 1:-1] + grey[..., 2:]
    down = smooth[..., 2:, :] - smooth[..., :-2, :]
    return torch.hypot(across, down)
