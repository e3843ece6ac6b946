"""Batches for which the number of loader processes is chosen by what the first ones take."""

import logging
import math
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import Generic, TypeVar

_log = logging.getLogger(__name__)

Loaded = TypeVar("Loaded")

_TRIED = 3  # batches; the first also warms up disk and device
_WORTH_A_START = 20.0  # seconds: processes that import anew take up to ten


class MeasuredLoader(Generic[Loaded]):
    """As a `DataLoader`, in order; how many processes load is decided after three batches.

    Args:
        batch_sampler: Places of the samples of each batch, as that of a `DataLoader`.
        loader: Loads some of these batches with a number of processes.
        most: Most processes.
    """

    def __init__(
        self,
        batch_sampler: Sequence[list[int]],
        loader: Callable[[Sequence[list[int]], int], Iterable[Loaded]],
        most: int,
    ) -> None:
        self.batch_sampler = batch_sampler
        self.loader = loader
        self.most = most

    def __len__(self) -> int:
        return len(self.batch_sampler)

    def __iter__(self) -> Iterator[Loaded]:
        loading = using = math.inf
        asked = time.perf_counter()
        for loaded in self.loader(self.batch_sampler[:_TRIED], 0):
            given = time.perf_counter()
            yield loaded
            loading = min(loading, given - asked)
            asked = time.perf_counter()
            using = min(using, asked - given)
        if rest := self.batch_sampler[_TRIED:]:
            workers = min(workers_worth(loading, using, len(rest)), self.most)
            if workers:
                _log.info(
                    "a batch takes %.2g s to load, %.2g s to use: workers=%d",
                    *(loading, using, workers),
                )
            yield from self.loader(rest, workers)


def workers_worth(loading: float, using: float, batches: int) -> int:
    """Processes that load as fast as batches are used; 0 where they do not earn their start.

    Args:
        loading: Seconds that one process needs for a batch.
        using: Seconds until the next batch is asked for.
        batches: How many are left.

    Examples:
        >>> workers_worth(loading=1.0, using=0.4, batches=1000)
        3
        >>> workers_worth(loading=0.01, using=0.4, batches=1000)  # 10 s in all
        0
    """
    saved = batches * min(loading, using)
    return math.ceil(loading / using) if saved > _WORTH_A_START else 0
