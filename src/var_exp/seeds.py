"""One random stream per sample, so that chance never depends on batch, order, worker or device."""

from hashlib import blake2b

from torch import Generator


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
    return Generator().manual_seed(int.from_bytes(digest, "little", signed=True))
