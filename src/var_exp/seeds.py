"""One random stream per sample, so that chance never depends on batch, order, worker or device."""

from hashlib import blake2b

from torch import Generator


def sample_generator(seed: int, id: str | None) -> Generator:
    """Start the random stream of one sample.

    Args:
        seed: Seed of the whole run.
        id: Stable name of the sample; None gives the one stream shared by all unnamed samples.

    Returns:
        A CPU generator seeded with blake2b of "seed/id"; equal arguments give equal streams.
    """
    digest = blake2b(f"{seed}/{id}".encode(), digest_size=8).digest()
    return Generator().manual_seed(int.from_bytes(digest, "little", signed=True))
