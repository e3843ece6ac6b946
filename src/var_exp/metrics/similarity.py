"""How alike two maps are: rank correlation and structural similarity.

Channels are summed first. Ranks of equal values are averaged, since a refined map is mostly zeros.
"""

from dataclasses import dataclass
from typing import Literal, get_args

import torch
from jaxtyping import Bool, Float
from torch import Tensor
from torchmetrics.functional.image import structural_similarity_index_measure

from var_exp.metrics.base import Flag
from var_exp.metrics.share import ScoresAndFlags, pixel_values

Similarity = Literal["spearman", "spearman_abs", "spearman_union", "ssim"]
_SIDE = 11  # pixels of the window of SSIM


def map_similarity(
    maps: Float[Tensor, "N c h w"],
    others: Float[Tensor, "N _ h w"],
    similarity: Similarity = "spearman",
) -> Float[Tensor, " N"]:
    """Similarity of two maps of the same picture.

    Args:
        maps: [N, c, h, w], raw and signed.
        others: [N, c, h, w], those that they are compared with.
        similarity: "spearman" correlates the ranks of the signed values, "spearman_abs" those of
            the absolute values, "spearman_union" those of the signed values where either map is
            not zero; "ssim" is the mean structural similarity of the absolute values, each map
            divided by its largest (Gaussian window of 11 px and sigma 1.5, K1 = 0.01, K2 = 0.03,
            where the window fits).

    Returns:
        [N] float64 in [-1, 1], 1 for equal maps; NaN where a map is all zero, not finite, or
        constant (but for SSIM).

    Raises:
        ValueError: shapes that do not belong together, an unknown similarity, or SSIM of maps
            smaller than its window.
    """
    check_similarity(similarity)
    return compare(Looks.of(maps, similarity), Looks.of(others, similarity), similarity)[0]


@dataclass(frozen=True)
class Looks:
    """Of N maps, what a similarity compares; computed once where one map is compared often.

    Attributes:
        values: [N, H, W] float64: the ranks or values that are compared.
        empty: [N], the map is all zero.
        finite: [N].
    """

    values: Float[Tensor, "N H W"]
    empty: Bool[Tensor, " N"]
    finite: Bool[Tensor, " N"]

    @classmethod
    def of(cls, maps: Float[Tensor, "N c h w"], similarity: Similarity) -> "Looks":
        """Prepare maps for a similarity.

        Raises:
            ValueError: maps are not [N, c, h, w], or smaller than the window of SSIM.
        """
        if maps.ndim != 4 or (similarity == "ssim" and min(maps.shape[2:]) < _SIDE):
            least = f" of at least {_SIDE} x {_SIDE} pixels" if similarity == "ssim" else ""
            raise ValueError(f"maps must be [N, c, h, w]{least}, got {list(maps.shape)}.")
        values = pixel_values(maps, (maps.shape[2], maps.shape[3]))
        empty, finite = (values == 0).all((1, 2)), values.isfinite().all((1, 2))
        if similarity in ("spearman_abs", "ssim"):
            values = values.abs()
        if similarity == "ssim":
            values = values / values.amax((1, 2), keepdim=True).where(~empty[:, None, None], 1)
        elif similarity != "spearman_union":
            values = average_ranks(values.flatten(1)).view_as(values)
        return cls(values, empty, finite)


def compare(left: Looks, right: Looks, similarity: Similarity) -> ScoresAndFlags:
    """Similarities [N] and flags.

    Raises:
        ValueError: maps of different shapes.
    """
    if left.values.shape != right.values.shape:
        raise ValueError(
            "both maps must be [N, c, h, w] of one N, h and w, got maps of "
            f"{list(left.values.shape)} and {list(right.values.shape)}."
        )
    measure = {"ssim": _ssim, "spearman_union": _spearman_union}.get(similarity, _correlation)
    empty, finite = left.empty | right.empty, left.finite & right.finite
    scores = measure(left.values, right.values).where(finite & ~empty, torch.nan)
    flags = Flag.EMPTY_MAP * empty + Flag.NON_FINITE * ~finite
    return scores, flags + Flag.TIED * (scores.isnan() & (flags == 0))


def correlation(left: Float[Tensor, "N P"], right: Float[Tensor, "N P"]) -> Float[Tensor, " N"]:
    """Pearson correlation of each row, in [-1, 1]; NaN where a row is constant."""
    left, right = (values - values.mean(1, keepdim=True) for values in (left, right))
    # each divided by its own norm first: the product of two small norms would vanish
    left, right = (values / values.norm(dim=1, keepdim=True) for values in (left, right))
    return (left * right).sum(1).clamp(-1, 1)


def average_ranks(values: Float[Tensor, "N P"]) -> Float[Tensor, "N P"]:
    """Ranks 1 … P of each row in ascending order, float64; equal values share their mean rank.

    Examples:
        >>> average_ranks(torch.tensor([[0.0, 5.0, 0.0, 3.0]]))
        tensor([[1.5000, 4.0000, 1.5000, 3.0000]], dtype=torch.float64)
    """
    ordered, places = values.sort(1)
    rank = torch.arange(1, values.shape[1] + 1, device=values.device).expand_as(places)
    change = ordered[:, 1:] != ordered[:, :-1]  # between runs of equal values
    edge = torch.ones_like(change[:, :1])
    first = torch.where(torch.cat([edge, change], 1), rank, 1).cummax(1).values
    last = torch.where(torch.cat([change, edge], 1), rank, values.shape[1])
    last = last.flip(1).cummin(1).values.flip(1)
    return torch.empty_like(ordered, dtype=torch.float64).scatter_(
        1, places, (first + last).double() / 2
    )


def check_similarity(similarity: str) -> None:
    """Refuse an unknown similarity.

    Raises:
        ValueError: none of `Similarity`.
    """
    if similarity not in get_args(Similarity):
        raise ValueError(
            f"similarity must be one of {', '.join(get_args(Similarity))}, got '{similarity}'."
        )


def _correlation(left: Tensor, right: Tensor) -> Float[Tensor, " N"]:
    return correlation(left.flatten(1), right.flatten(1))


def _spearman_union(left: Tensor, right: Tensor) -> Float[Tensor, " N"]:
    """Rank correlation of each pair over the places where either is not zero."""
    scores = left.new_full((len(left),), torch.nan)
    for n, places in enumerate((left != 0) | (right != 0)):
        if places.any():
            ranks = [average_ranks(values[n, places][None]) for values in (left, right)]
            scores[n] = correlation(*ranks)[0]
    return scores


def _ssim(left: Tensor, right: Tensor) -> Float[Tensor, " N"]:
    """Structural similarity of each pair, averaged where the window fits."""
    _, everywhere = structural_similarity_index_measure(
        left[:, None], right[:, None], data_range=1.0, return_full_image=True
    )
    border = _SIDE // 2
    inside: Tensor = everywhere[:, 0, border:-border, border:-border]
    return inside.mean((1, 2))
