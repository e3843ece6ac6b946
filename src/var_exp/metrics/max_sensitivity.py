"""Max-sensitivity: how far does the map move when the picture hardly does?

    score = max over draws of ||a(x + e) - a(x)|| / ||a(x)||,   e uniform in [-r, r] per value

The class and its competitors stay those of the unperturbed picture. The radius r is in the units
of the normalised picture, as the model sees it. Where the map is all zero the distance itself is
the score, as in Captum, and the row is flagged.

Source: Yeh et al., "On the (In)fidelity and Sensitivity of Explanations", NeurIPS 2019, arXiv
1901.09392; radius and draws as in Captum. Captum takes the norm over all channels, here they are
summed first, as everywhere, since some refined maps have one.
"""

from collections.abc import Hashable, Iterable, Sequence

import torch
from jaxtyping import Float, Int
from torch import Tensor, nn

from var_exp.metrics.base import Flag, SampleMetric
from var_exp.metrics.reattribution import Change, Reattribute
from var_exp.metrics.share import ScoresAndFlags, pixel_values
from var_exp.seeds import sample_generator
from var_exp.types import Images


def max_sensitivity(
    maps: Float[Tensor, "N c h w"], perturbed_maps: Iterable[Float[Tensor, "N _ h w"]]
) -> Float[Tensor, " N"]:
    """Largest relative distance of a map to those of slightly perturbed pictures.

    Args:
        maps: [N, c, h, w], raw and signed, of the pictures as they are.
        perturbed_maps: For each draw the maps of the perturbed pictures, of the same classes.

    Returns:
        [N] float64, at least 0; NaN where a map is not finite.

    Raises:
        ValueError: maps of different shapes, or no draw.
    """
    return _scores(maps, perturbed_maps)[0]


class MaxSensitivity(SampleMetric):
    """Mean of `max_sensitivity`.

    Args:
        radius: Of the uniform noise, in the units of the normalised picture; positive.
        samples: Draws per picture, each of which costs one attribution.
        seed: Of the noise, combined with the sample's id and the draw.

    Raises:
        ValueError: an option out of its range.
    """

    higher_is_better = False
    bounds = (0.0, None)

    def __init__(self, radius: float = 0.02, samples: int = 10, seed: int = 0) -> None:
        super().__init__()
        if not radius > 0:
            raise ValueError(f"radius must be positive, got {radius}; Captum uses 0.02.")
        if samples < 1:
            raise ValueError(f"samples must be at least 1, got {samples}.")
        self.radius = radius
        self.samples = samples
        self.seed = seed

    def update(
        self,
        *,
        maps: Float[Tensor, "N c h w"],
        reattribute: Reattribute,
        classes: Int[Tensor, " N"] | None = None,
        ids: Sequence[str] | None = None,
    ) -> None:
        """Score N maps; classes and ids name the rows (see `SampleMetric.record`)."""
        draws = (reattribute.maps(*self._change(draw)) for draw in range(self.samples))
        self.record(*_scores(maps, draws), classes, ids)

    def _change(self, draw: int) -> tuple[Hashable, Change]:
        def change(
            model: nn.Module, images: Images, ids: Sequence[str]
        ) -> tuple[nn.Module, Images]:
            noise = [
                torch.rand(image.shape, generator=sample_generator(self.seed, id, draw))
                for image, id in zip(images, ids, strict=True)
            ]
            return model, images + self.radius * (2 * torch.stack(noise) - 1).to(images)

        return ("noise", self.radius, self.seed, draw), change


def _scores(maps: Tensor, perturbed_maps: Iterable[Tensor]) -> ScoresAndFlags:
    """Scores and flags."""
    size = (maps.shape[2], maps.shape[3])
    values = pixel_values(maps, size).flatten(1)
    norms = values.norm(dim=1)
    distances = []
    for others in perturbed_maps:
        if others.shape[0] != maps.shape[0] or others.shape[2:] != maps.shape[2:]:
            raise ValueError(
                "maps and perturbed_maps must be [N, c, h, w] of one N, h and w, got "
                f"{list(maps.shape)} and {list(others.shape)}."
            )
        distances.append((pixel_values(others, size).flatten(1) - values).norm(dim=1))
    if not distances:
        raise ValueError("perturbed_maps must hold one tensor or more, got none.")
    empty = (values == 0).all(1)
    scores = torch.stack(distances).amax(0) / norms.where(~empty, 1)
    finite = scores.isfinite()
    flags = Flag.EMPTY_MAP * empty + Flag.NON_FINITE * ~finite
    return scores.where(finite, torch.nan), flags
