"""What the measures of single maps share: pixel values, blocks of work, the share in a region."""

from collections.abc import Callable
from typing import Literal, TypeAlias

import torch
from jaxtyping import Bool, Float, Int, Shaped
from torch import Tensor
from torch.nn import functional as F  # noqa: N812 (the name everybody knows)

from var_exp.metrics.base import Flag

Counted = Literal["positive", "abs"]
ScoresAndFlags: TypeAlias = tuple[Float[Tensor, " N"], Int[Tensor, " N"]]
"""Scores and flags."""
MeasuresAndFlags: TypeAlias = tuple[Float[Tensor, "N ..."], Int[Tensor, " N"]]
"""Scores or curves, and flags."""

TIE = 1e-12
"""Values no further apart than this, relative to the map's largest magnitude, are equal: summing
channels and resizing in float64 tears equal float32 values no further apart."""

_BLOCK = 2**18  # pixels scored at once: their float64 values stay in the cache of a CPU


def channel_sums(maps: Float[Tensor, "N c h w"]) -> Float[Tensor, "N h w"]:
    """Sum the channels in float64; a single one is copied, which is 40 times as fast."""
    if maps.shape[1] == 1:
        return maps[:, 0].to(torch.float64, copy=True)
    return maps.sum(1, dtype=torch.float64)


def pixel_values(maps: Float[Tensor, "N c h w"], size: tuple[int, int]) -> Float[Tensor, "N H W"]:
    """Sum the channels in float64, then resize bilinearly where the size differs."""
    values = channel_sums(maps)
    if values.shape[1:] != size:
        values = F.interpolate(values[:, None], size=size, mode="bilinear")[:, 0]
    return values


def score_in_blocks(
    score: Callable[..., ScoresAndFlags],
    maps: Float[Tensor, "N c h w"],
    regions: Bool[Tensor, "N H W"],
    *masks: Bool[Tensor, "N ... H W"],
) -> tuple[Float[Tensor, "N ..."], Int[Tensor, " N"]]:
    """Score the pixel values of the maps against the regions, some maps at a time.

    `score` takes the values [n, H, W], the regions and the further masks of these n maps, and
    returns one score or several for each, and the flags.

    Raises:
        ValueError: maps are not float [N, c, h, w], or regions not bool [N, H, W].
    """
    _check(maps, regions)
    height, width = regions.shape[1:]
    block = max(1, _BLOCK // (height * width))
    parts = zip(*(torch.split(t, block) for t in (maps, regions, *masks)), strict=True)
    blocks = [score(pixel_values(m, (height, width)), *regions) for m, *regions in parts]
    return torch.cat([b[0] for b in blocks]), torch.cat([b[1] for b in blocks])


def share_inside(
    values: Float[Tensor, "N H W"],
    regions: Bool[Tensor, "N H W"],
    magnitude: Counted,
    scope: Bool[Tensor, "N H W"] | None = None,
) -> ScoresAndFlags:
    """Return sum inside / sum everywhere of the positive or absolute values, and the flags.

    With a scope, only values in it count. A map without any that counts scores 0; an empty region
    or a value that is not finite gives NaN.
    """
    finite, whole = values.sum((1, 2)).isfinite(), values
    if scope is not None:
        values, regions = values * scope.to(values.dtype), regions & scope
    values = values.abs() if magnitude == "abs" else values.clamp_min(0)
    total = values.sum((1, 2))
    inside = (values * regions.to(values.dtype)).sum((1, 2))  # as bool, 8 times as slow
    nothing = total == 0
    empty = _all_zero(whole, nothing)  # a map that counts for something is not
    empty_region = _all_zero(regions, ~(inside > 0))  # nor is a region that holds something
    scores = inside / total.where(~nothing, 1)
    flags = (
        Flag.EMPTY_MAP * empty
        + Flag.NOTHING_POSITIVE * (nothing & ~empty)
        + Flag.EMPTY_REGION * empty_region
        + Flag.NON_FINITE * ~finite
    )
    return scores.where(finite & ~empty_region, torch.nan), flags


def _all_zero(values: Shaped[Tensor, "N H W"], asked: Bool[Tensor, " N"]) -> Bool[Tensor, " N"]:
    """Which of those asked about hold nothing but 0."""
    found = torch.zeros_like(asked)
    if asked.any():
        found[asked] = ~values[asked].flatten(1).any(1)
    return found


def magnitudes(maps: Float[Tensor, "N c h w"]) -> tuple[Float[Tensor, "N P"], Bool[Tensor, " N"]]:
    """Absolute pixel values, their largest 1 so that no sum overflows, and which are finite.

    Raises:
        ValueError: maps are not float [N, c, h, w].
    """
    _check_maps(maps)
    values = channel_sums(maps).flatten(1).abs()
    largest = values.amax(1, keepdim=True)
    return values / largest.where(largest > 0, 1), values.isfinite().all(1)


def check_magnitude(magnitude: str) -> None:
    """Refuse an unknown magnitude.

    Raises:
        ValueError: neither "positive" nor "abs".
    """
    if magnitude not in ("positive", "abs"):
        raise ValueError(f"magnitude must be positive or abs, got '{magnitude}'.")


def _check_maps(maps: Tensor) -> None:
    """Refuse what is not one map each."""
    if maps.ndim != 4 or not maps.is_floating_point():
        raise ValueError(
            f"maps must be a float tensor [N, c, h, w], got {maps.dtype} of shape "
            f"{list(maps.shape)}; pick one class per map."
        )


def _check(maps: Tensor, regions: Tensor) -> None:
    """Refuse maps and regions that do not belong together."""
    _check_maps(maps)
    if regions.ndim != 3 or regions.dtype != torch.bool or len(regions) != len(maps):
        raise ValueError(
            f"regions must be a bool tensor [N, H, W] with N={len(maps)} as the maps, got "
            f"{regions.dtype} of shape {list(regions.shape)}; pass one region per map."
        )
