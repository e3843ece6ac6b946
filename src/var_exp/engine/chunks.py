"""Split many forward passes of few images into batches of bounded size."""

from collections.abc import Iterator

import torch
from jaxtyping import Float, Int
from torch import Tensor


def check_at_least_one(**options: int) -> None:
    """Refuse counts below 1, by the name of the option.

    Raises:
        ValueError: the first option that is below 1.
    """
    for name, value in options.items():
        if value < 1:
            raise ValueError(f"{name} must be at least 1, got {value}; set {name}=1 or more.")


def pairs(
    n_images: int, n_steps: int, max_batch: int
) -> Iterator[tuple[Int[Tensor, " n"], Int[Tensor, " n"]]]:
    """Yield (rows, steps) of all image x step pairs, image by image, `max_batch` at most."""
    for chunk in torch.arange(n_images * n_steps).split(max_batch):
        yield chunk // n_steps, chunk % n_steps


def add_by_row(
    total: Float[Tensor, "B ..."], rows: Int[Tensor, " n"], values: Float[Tensor, "n ..."]
) -> None:
    """Add each of n values to its row of the total, in place; deterministic on every device."""
    for row in rows.unique().tolist():
        total[row] += values[(rows == row).to(values.device)].sum(0)
