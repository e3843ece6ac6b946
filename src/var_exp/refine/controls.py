"""Controls: maps without class competition, or without a model, that run beside every comparison.

A gain of a refiner counts only beyond what its control reaches: the base map cut to the same
sparsity, chance, the centre of the picture, its edges.
"""

from collections.abc import Sequence

import numpy as np
import torch
from jaxtyping import Bool, Float
from torch import Tensor
from torch.nn import functional as F  # noqa: N812 (the name everybody knows)

from var_exp.seeds import sample_generator
from var_exp.types import Classes, Images, Maps, Regions


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
    magnitudes = base.flatten(2).abs().flatten(0, 1)
    holds_nan = bool(magnitudes.sum().isnan())
    counts = refined.flatten(2).count_nonzero(2).flatten()
    kept = torch.zeros_like(magnitudes, dtype=torch.bool)
    for row, values, count in zip(kept, magnitudes, counts.tolist(), strict=True):
        _mark_largest(row, values, count, holds_nan)
    return base * kept.view_as(base)


def _mark_largest(
    marks: Bool[Tensor, " n"], values: Float[Tensor, " n"], count: int, holds_nan: bool
) -> None:
    """Mark the largest values, NaN above all; among equal ones the first. By selection, no sort."""
    if count == 0:
        return
    least = _of_rank(values, len(values) - count)
    if not holds_nan:
        torch.ge(values, least, out=marks)
        if marks.count_nonzero() == count:  # no equal value is left out
            return
    if least.isnan():
        equal = values.isnan()
    else:
        torch.logical_not(values <= least, out=marks)  # true of NaN
        equal = values == least
    left = count - int(marks.count_nonzero())
    marks[equal.nonzero()[:left, 0]] = True


def _of_rank(values: Float[Tensor, " n"], rank: int) -> Float[Tensor, ""]:
    """The value that has `rank` values before it in ascending order, NaN last."""
    if values.is_cpu and values.dtype in (torch.float32, torch.float64):
        # NumPy selects with vector instructions: 6 to 7 times as fast as kthvalue
        return torch.from_numpy(np.partition(values.detach().numpy(), rank))[rank]
    return values.kthvalue(rank + 1).values


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
