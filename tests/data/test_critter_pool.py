import itertools

import torch

from var_exp.data.critter_pool import CritterPool, vary
from var_exp.data.critters import Critters


def variants(image):
    """All 24 pictures that an 8-bit picture may turn into."""
    for order in itertools.permutations(range(3)):
        for mirrored in (image[list(order)], image[list(order)].flip(-1)):
            yield mirrored
            yield 255 - mirrored


def test_pool_holds_the_training_stream_with_shares_of_the_classes():
    pool = CritterPool(20, pairs=0.25, size=32)
    assert len(pool) == 20
    stream = Critters(20, "train", 32)
    expected = [stream[i] for i in range(15)] + [stream.scenes()[i] for i in range(5)]
    for row, sample in enumerate(expected):
        difference = pool.images[row].float() / 255 - sample.image
        assert difference.abs().max() <= 0.5 / 255 + 1e-6
        target = torch.zeros(16)
        for label in sample.classes:
            target[label] += 1 / len(sample.classes)
        assert torch.equal(pool.targets[row], target)


def test_workers_render_the_same_pool():
    alone, shared = CritterPool(70, 0.5, 16), CritterPool(70, 0.5, 16, workers=1)
    assert torch.equal(alone.images, shared.images)
    assert torch.equal(alone.targets, shared.targets)


def test_a_pool_of_one_kind():
    assert CritterPool(4, pairs=0.0, size=16).targets.max(dim=1).values.tolist() == [1.0] * 4
    assert CritterPool(4, pairs=1.0, size=16).targets.max(dim=1).values.tolist() == [0.5] * 4


def test_batches_are_varied_pictures_and_leave_the_pool_alone():
    pool = CritterPool(6, pairs=0.5, size=16)
    before = pool.images.clone()
    images, targets = pool[[4, 0]]
    assert images.shape == (2, 3, 16, 16)
    assert images.dtype == torch.float32
    assert torch.equal(targets, pool.targets[[4, 0]])
    for row, index in enumerate((4, 0)):
        eight_bit = (images[row] * 255).round().to(torch.uint8)
        assert any(torch.equal(eight_bit, variant) for variant in variants(before[index]))
    assert torch.equal(pool.images, before)


def test_variation_reaches_every_variant():
    torch.manual_seed(0)
    image = torch.randint(0, 256, (3, 4, 4), dtype=torch.uint8)
    seen = {tuple(v.flatten().tolist()) for v in vary(image.expand(600, 3, 4, 4))}
    assert seen == {tuple(v.flatten().tolist()) for v in variants(image)}
