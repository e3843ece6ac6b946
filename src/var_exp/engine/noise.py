"""Gaussian noise around images, drawn from the streams of their samples."""

from collections.abc import Sequence

import torch
from jaxtyping import Float, Int
from torch import Generator, Tensor

from var_exp.seeds import sample_generator


def check_noise(noise: float) -> None:
    """Refuse a negative deviation.

    Raises:
        ValueError: noise below 0.
    """
    if noise < 0:
        raise ValueError(f"noise must not be negative, got {noise}; set noise=0.15.")


def generators_of(
    seed: int, ids: Sequence[str | None], rows: Int[Tensor, " n"], draws: Int[Tensor, " n"]
) -> list[Generator]:
    """One stream for each of n (row, draw) pairs, seeded by the row's id and the draw."""
    pairs = zip(rows.tolist(), draws.tolist(), strict=True)
    return [sample_generator(seed, ids[row], draw) for row, draw in pairs]


def gaussian_like(
    images: Float[Tensor, "n C H W"], noise: float, generators: Sequence[Generator]
) -> Float[Tensor, "n C H W"]:
    """Draw N(0, σ²) for each image, σ = noise · the image's own range (maximum - minimum)."""
    # always float32 on the CPU: the noise is the same for any type and device
    drawn = [torch.randn(images.shape[1:], generator=generator) for generator in generators]
    spread = images.amax((1, 2, 3), keepdim=True) - images.amin((1, 2, 3), keepdim=True)
    return torch.stack(drawn).to(images) * (noise * spread)
