"""What stands where a pixel is taken away.

zero          0 in normalised space, the mean colour of the model's training set
mean          the mean of the picture, channel by channel
blur          11 x 11 Gaussian of sigma 5 px, zero padding (RISE)
noisy_linear  the weighted mean of the neighbours plus N(0, 0.01²) noise, drawn once per sample
              id (ROAD); the only one that depends on which other pixels are missing
"""

from collections.abc import Callable, Sequence
from typing import Literal, TypeAlias

import torch
from jaxtyping import Bool, Int
from torch import Tensor
from torch.nn import functional as F  # noqa: N812 (the name everybody knows)

from var_exp.metrics.imputation import impute_linearly
from var_exp.seeds import sample_generator
from var_exp.types import Images

Baseline = Literal["zero", "mean", "blur", "noisy_linear"]
Fill: TypeAlias = Callable[[Int[Tensor, " n"], Bool[Tensor, "n H W"]], Images]
"""From rows of the batch and their missing pixels to the filled pictures [n, C, H, W]."""

_NOISE = 0.01  # standard deviation, of colours in [0, 1]


def gaussian_blur(images: Images) -> Images:
    """Blur with an 11 x 11 Gaussian of sigma 5 px, zero padding (zero is the mean colour)."""
    offsets = torch.arange(-5, 6, dtype=torch.float64, device=images.device)
    weights = torch.exp(-0.5 * (offsets / 5.0) ** 2)
    column = (weights / weights.sum()).view(1, 1, -1, 1).expand(images.shape[1], 1, -1, 1)
    # In float64, which autocast leaves alone.
    blurred = F.conv2d(images.double(), column, padding=(5, 0), groups=images.shape[1])
    blurred = F.conv2d(blurred, column.mT, padding=(0, 5), groups=images.shape[1])
    return blurred.to(images.dtype)


def channel_mean(images: Images) -> Images:
    """The mean colour of each picture, everywhere."""
    return images.mean((2, 3), keepdim=True).expand_as(images)


CANVASES: dict[Baseline, Callable[[Images], Images]] = {
    "zero": torch.zeros_like,
    "mean": channel_mean,
    "blur": gaussian_blur,
}
"""The baselines that are one picture, whatever is missing."""


def make_fill(
    baseline: Baseline,
    images: Images,
    ids: Sequence[str | None],
    seed: int,
    std: Sequence[float],
) -> Fill:
    """Prepare a batch of pictures for having pixels taken away.

    Args:
        baseline: What stands there then.
        images: [B, C, H, W].
        ids: B sample ids, for the noise.
        seed: Seed of the noise.
        std: One number, or one per channel: what colours in [0, 1] were divided by.
    """
    if baseline == "noisy_linear":
        scale = _NOISE / torch.tensor(std, dtype=torch.float64).view(-1, 1, 1)
        drawn = {
            name: torch.randn(images.shape[1:], generator=sample_generator(seed, name))
            for name in dict.fromkeys(ids)
        }
        noise = torch.stack([drawn[name] * scale for name in ids]).to(images)
        return lambda rows, missing: (
            impute_linearly(images[rows], missing) + noise[rows] * missing[:, None]
        )
    canvas = CANVASES[baseline](images)
    return lambda rows, missing: torch.where(missing[:, None], canvas[rows], images[rows])
