import random
from hashlib import blake2b

import numpy as np
import pytest
import torch

from var_exp.seeds import chosen_by_id, global_streams, sample_generator


def draw(seed, name):
    return torch.rand(8, generator=sample_generator(seed, name)).tolist()


def test_stream_is_a_function_of_seed_and_id():
    assert draw(0, "a") == draw(0, "a")
    streams = [draw(0, "a"), draw(0, "b"), draw(1, "a"), draw(0, None), draw(1, None), draw(0, "")]
    assert len({tuple(stream) for stream in streams}) == len(streams)


def test_stream_leaves_the_global_one_alone():
    before = torch.get_rng_state()
    draw(3, "x")
    assert torch.equal(before, torch.get_rng_state())


def seed_all(seed):
    random.seed(seed)
    np.random.seed(seed)  # noqa: NPY002
    torch.manual_seed(seed)


@pytest.mark.parametrize("draw_one", [random.random, np.random.rand, lambda: torch.rand(1)])
def test_global_streams_are_put_back_and_say_whether_they_were_drawn_from(draw_one):
    seed_all(1)
    expected = float(draw_one())
    for touch in (draw_one, lambda: seed_all(4)):
        seed_all(1)
        with global_streams() as drawn:
            assert not drawn()
            touch()
            assert drawn()
        assert float(draw_one()) == expected


def test_every_digest_is_a_seed():
    for index in range(500):  # half of the 64-bit digests are negative as signed numbers
        sample_generator(0, str(index))


@pytest.mark.parametrize(
    ("arguments", "name", "seed"),
    [
        ((0, "a"), b"0/a", 140742745180244919),
        ((3, "grid 7", 2), b"3/grid 7/2", 10249097375055533062),
        ((1, None), b"1/None", 11891397400072813883),
        ((0, "größe"), "0/größe".encode(), 13707797028259795238),
    ],
)
def test_streams_are_the_same_in_every_version(arguments, name, seed):
    """Against the hash and the Mersenne twister of Python and NumPy, and literal seeds."""
    digest = blake2b(name, digest_size=8).digest()
    assert int.from_bytes(digest, "little") == seed
    generator = sample_generator(*arguments)
    assert generator.initial_seed() % 2**64 == seed
    words = np.random.MT19937()
    words._legacy_seeding(seed % 2**32)
    expected = (words.random_raw(5) % 2**24).astype(np.float32) / 2**24
    np.testing.assert_array_equal(torch.rand(5, generator=generator).numpy(), expected)


def test_samples_are_chosen_by_the_hashes_of_their_ids_alone():
    ids = [f"picture {i}" for i in range(50)]
    by_hash = sorted(ids, key=lambda id: blake2b(id.encode(), digest_size=8).hexdigest())
    for count in (0, 1, 7, 49, 50, 99):
        assert chosen_by_id(ids, count) == set(by_hash[:count])
        assert chosen_by_id(ids[::-1] + ids[:5], count) == set(by_hash[:count])
