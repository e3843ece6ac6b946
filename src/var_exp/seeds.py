"""One random stream per sample, so that chance never depends on batch, order, worker or device."""

import random
import threading
from collections.abc import Callable, Collection, Iterator
from contextlib import contextmanager
from hashlib import blake2b

import numpy as np
import torch
from torch import Generator

_streams = threading.RLock()  # the global streams belong to one thread while they are put back


def sample_generator(seed: int, id: str | None, draw: int | None = None) -> Generator:
    """Start a random stream of one sample.

    Args:
        seed: Seed of the whole run.
        id: Stable name of the sample; None gives the streams shared by all unnamed samples.
        draw: Number of the stream, for a method that draws in chunks: each of its draws has a
            stream of its own, so that the chunks do not matter.

    Returns:
        A CPU generator seeded with blake2b of "seed/id" or "seed/id/draw"; equal arguments give
        equal streams.
    """
    name = f"{seed}/{id}" if draw is None else f"{seed}/{id}/{draw}"
    digest = blake2b(name.encode(), digest_size=8).digest()
    return Generator().manual_seed(int.from_bytes(digest, "little"))


def chosen_by_id(ids: Collection[str], count: int) -> frozenset[str]:
    """Choose samples by their ids alone: those whose ids have the smallest hashes.

    The choice depends neither on the order of the samples nor on the seed of the run, so runs of
    one data set choose the same, and a larger choice holds every smaller one.

    Args:
        ids: Stable names of samples.
        count: How many; at most all that there are.

    Examples:
        >>> sorted(chosen_by_id(["a", "b", "c"], 2)), len(chosen_by_id(["a", "b", "c"], 9))
        (['a', 'c'], 3)
    """

    def rank(id: str) -> tuple[bytes, str]:
        return blake2b(id.encode(), digest_size=8).digest(), id

    return frozenset(sorted(set(ids), key=rank)[:count])


@contextmanager
def global_streams() -> Iterator[Callable[[], bool]]:
    """Put the global random streams of Python, NumPy and torch back afterwards.

    For code of others that may draw from them. One thread at a time: two would put back each
    other's.

    Yields:
        Function that says whether any was drawn from, or seeded, since.
    """
    with _streams:
        python, numpy = random.getstate(), np.random.get_state(legacy=False)  # noqa: NPY002
        devices = range(torch.cuda.device_count() if torch.cuda.is_initialized() else 0)
        with torch.random.fork_rng(devices=devices):
            start = _states(devices)
            try:
                yield lambda: _states(devices) != start
            finally:
                random.setstate(python)
                np.random.set_state(numpy)  # noqa: NPY002


def _states(devices: range) -> tuple[object, ...]:
    words = np.random.get_state(legacy=False)["state"]  # noqa: NPY002
    return (
        random.getstate(),
        words["key"].tobytes(),
        words["pos"],
        torch.get_rng_state().numpy().tobytes(),
        *(torch.cuda.get_rng_state(device).numpy().tobytes() for device in devices),
    )
