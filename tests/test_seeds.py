from hashlib import blake2b

import torch

from var_exp.seeds import chosen_by_id, sample_generator


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


def test_every_digest_is_a_seed():
    for index in range(500):  # half of the 64-bit digests are negative as signed numbers
        sample_generator(0, str(index))


def test_samples_are_chosen_by_the_hashes_of_their_ids_alone():
    ids = [f"picture {i}" for i in range(50)]
    by_hash = sorted(ids, key=lambda id: blake2b(id.encode(), digest_size=8).hexdigest())
    for count in (0, 1, 7, 49, 50, 99):
        assert chosen_by_id(ids, count) == set(by_hash[:count])
        assert chosen_by_id(ids[::-1] + ids[:5], count) == set(by_hash[:count])
