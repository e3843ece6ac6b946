"""Relative stability: how far does the map move, measured by how far the picture or the logits do?

    input    max over draws of ||(a(x) - a(x')) / a(x)|| / ||(x - x') / x||
    output   max over draws of ||(a(x) - a(x')) / a(x)|| / ||y(x) - y(x')||,   x' = x + e

Lower is better. The draws are those of max-sensitivity, and shared with it. Both quotients on the
left are taken pixel by pixel, as published; where the divisor is 0 it is 1e-6 instead, as in
Quantus. A refined map is mostly zeros, and one of them that wakes up counts a million: read these
for base maps, and max-sensitivity for refined ones.

Departure: the authors keep the draws on which the prediction stays; with noise this small all do.
Source: Agarwal et al., "Rethinking Stability for Attribution-based Explanations", 2022, arXiv
2203.06877.
"""

from collections.abc import Iterable, Sequence
from typing import Literal, get_args

import torch
from jaxtyping import Float, Int
from torch import Tensor

from var_exp.metrics.base import Flag
from var_exp.metrics.max_sensitivity import MaxSensitivity
from var_exp.metrics.reattribution import Reattribute
from var_exp.metrics.share import ScoresAndFlags, pixel_values

Against = Literal["input", "output"]
_LEAST = 1e-6


def relative_stability(
    maps: Float[Tensor, "N c h w"],
    values: Float[Tensor, "N ..."],
    draws: Iterable[tuple[Float[Tensor, "N _ h w"], Float[Tensor, "N ..."]]],
    against: Against = "input",
) -> Float[Tensor, " N"]:
    """Largest relative change of a map over that of what it explains.

    Args:
        maps: [N, c, h, w], raw and signed, of the pictures as they are; channels are summed.
        values: The pictures [N, C, H, W], or the logits [N, classes].
        draws: For each draw the maps and the values of the perturbed pictures.
        against: "input" for pictures, "output" for logits.

    Returns:
        [N] float64, at least 0; NaN where a map is not finite.

    Raises:
        ValueError: shapes that do not belong together, no draw, or an unknown `against`.
    """
    return _scores(maps, values, draws, against)[0]


class RelativeStability(MaxSensitivity):
    """Mean of `relative_stability`.

    Args:
        against: "input" or "output".
        radius: Of the uniform noise, in the units of the normalised picture; positive.
        samples: Draws per picture, each of which costs one attribution.
        seed: Of the noise, combined with the sample's id and the draw.

    Raises:
        ValueError: an option out of its range.
    """

    def __init__(
        self, against: Against = "input", radius: float = 0.02, samples: int = 10, seed: int = 0
    ) -> None:
        super().__init__(radius, samples, seed)
        _check(against)
        self.against: Against = against

    def update(  # type: ignore[override]  # the pictures are one more keyword
        self,
        *,
        images: Float[Tensor, "N C H W"],
        maps: Float[Tensor, "N c h w"],
        reattribute: Reattribute,
        classes: Int[Tensor, " N"] | None = None,
        ids: Sequence[str] | None = None,
    ) -> None:
        """Score N maps; classes and ids name the rows (see `SampleMetric.record`)."""
        changes = [self._change(draw) for draw in range(self.samples)]
        names = ids if ids is not None else [""] * len(maps)
        if self.against == "input":
            values = images
            draws = (
                (reattribute.maps(key, change), change(torch.nn.Identity(), images, names)[1])
                for key, change in changes
            )
        else:
            values = reattribute.logits()
            draws = (
                (reattribute.maps(key, change), reattribute.logits(key, change))
                for key, change in changes
            )
        self.record(*_scores(maps, values, draws, self.against), classes, ids)


def _scores(
    maps: Tensor, values: Tensor, draws: Iterable[tuple[Tensor, Tensor]], against: Against
) -> ScoresAndFlags:
    """Scores and flags."""
    _check(against)
    size = (maps.shape[2], maps.shape[3])
    before, known = pixel_values(maps, size).flatten(1), values.double().flatten(1)
    ratios = []
    for others, moved in draws:
        if others.shape[2:] != maps.shape[2:] or moved.shape != values.shape:
            raise ValueError(
                "maps and values of a draw must have the shapes of the others, got "
                f"{list(others.shape)} for {list(maps.shape)} and {list(moved.shape)} for "
                f"{list(values.shape)}."
            )
        told = _relative(before, pixel_values(others, size).flatten(1)).norm(dim=1)
        after = moved.double().flatten(1)
        change = _relative(known, after) if against == "input" else known - after
        ratios.append(told / _nonzero(change.norm(dim=1)))
    if not ratios:
        raise ValueError("draws must hold one pair or more, got none.")
    scores = torch.stack(ratios).amax(0)
    finite = scores.isfinite()
    flags = Flag.EMPTY_MAP * (before == 0).all(1) + Flag.NON_FINITE * ~finite
    return scores.where(finite, torch.nan), flags


def _relative(before: Tensor, after: Tensor) -> Tensor:
    return (before - after) / _nonzero(before)


def _nonzero(divisor: Tensor) -> Tensor:
    return divisor.where(divisor != 0, _LEAST)


def _check(against: str) -> None:
    """Refuse what stability is not measured by."""
    if against not in get_args(Against):
        raise ValueError(f"against must be input or output, got '{against}'.")
