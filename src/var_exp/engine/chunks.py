"""Split work into forward passes of bounded size, and into smaller ones when memory runs out."""

import logging
from collections.abc import Callable, Iterator
from typing import TypeVar

import torch
from jaxtyping import Float, Int
from torch import Tensor

from var_exp.types import OutOfMemory

Result = TypeVar("Result")
_log = logging.getLogger(__name__)


def check_at_least_one(**options: int) -> None:
    """Refuse counts below 1, by the name of the option.

    Raises:
        ValueError: the first option that is below 1.
    """
    for name, value in options.items():
        if value < 1:
            raise ValueError(f"{name} must be at least 1, got {value}; set {name}=1 or more.")


class ChunkLimit:
    """How many images are worked on together; halved for good when memory runs out.

    Args:
        images: First limit.
        option: What the user sets it with.

    Raises:
        ValueError: a limit below 1.
    """

    def __init__(self, images: int, option: str = "max_batch") -> None:
        check_at_least_one(**{option: images})
        self.images = images
        self.option = option

    def chunks(
        self,
        count: int,
        work: Callable[[Int[Tensor, " n"]], Result],
        at_most: int | None = None,
    ) -> Iterator[tuple[Int[Tensor, " n"], Result]]:
        """Yield (indices, work(indices)) for 0 … count - 1, at most `images` indices at a time.

        Work that ran out of memory is done again in halves, so it must have no other effect than
        its result.

        Args:
            count: Number of indices.
            work: What is done with a chunk of them.
            at_most: Another limit, for this work alone.

        Raises:
            OutOfMemory: work on a single index does not fit.
        """
        start = 0
        while start < count:
            size = min(self.images, at_most or self.images)
            indices = torch.arange(start, min(start + size, count))
            try:
                result = work(indices)
            except (RuntimeError, OutOfMemory) as error:
                if not is_out_of_memory(error):
                    raise
                failed = str(error).splitlines()[0]
            else:
                yield indices, result
                start += len(indices)
                continue
            # only here, since a live exception keeps the frames that hold the memory
            self._halve(len(indices), failed)

    def pairs(
        self,
        n_images: int,
        n_steps: int,
        work: Callable[[Int[Tensor, " n"], Int[Tensor, " n"]], Result],
    ) -> Iterator[tuple[Int[Tensor, " n"], Int[Tensor, " n"], Result]]:
        """Yield (rows, steps, work(rows, steps)) for all image x step pairs, image by image."""
        jobs = self.chunks(n_images * n_steps, lambda i: work(i // n_steps, i % n_steps))
        for indices, result in jobs:
            yield indices // n_steps, indices % n_steps, result

    def _halve(self, tried: int, failed: str) -> None:
        if tried == 1:
            raise OutOfMemory(
                f"a single image does not fit into memory ({failed}); take smaller images, fewer "
                "competing classes, or another method."
            )
        self.images = tried // 2
        if torch.cuda.is_available():
            torch.cuda.empty_cache()
        _log.warning(
            "Out of memory with %d images at once; going on with %d. "
            "Setting %s=%d spares the first attempt.",
            *(tried, self.images, self.option, self.images),
        )


def is_out_of_memory(error: Exception) -> bool:
    """Whether an accelerator, or the CPU's allocator, which has no error of its own, is full."""
    known = isinstance(error, (torch.OutOfMemoryError, OutOfMemory))
    return known or "can't allocate memory" in str(error)


def add_by_row(
    total: Float[Tensor, "B ..."], rows: Int[Tensor, " n"], values: Float[Tensor, "n ..."]
) -> None:
    """Add each of n values to its row of the total, in place; deterministic on every device."""
    for row in rows.unique().tolist():
        total[row] += values[(rows == row).to(values.device)].sum(0)
