"""Batches are normalised, in order, and what people look at is the picture again."""

from types import SimpleNamespace

import pytest
import torch

from var_exp.data.batches import collate, to_display
from var_exp.data.datamodule import SampleModule
from var_exp.types import ConfigError, InputSpec, Sample, SampleDataset

SPEC = InputSpec(size=4, mean=(0.1, 0.2, 0.3), std=(0.5, 0.25, 0.125))


class Noise(SampleDataset):
    class_names = ("a", "b")

    def __len__(self):
        return 7

    def label(self, index):
        return 0

    def sample_id(self, index):
        return str(index)

    def __getitem__(self, index):
        image = torch.rand(3, 4, 4, generator=torch.Generator().manual_seed(index))
        regions = torch.ones(1, 4, 4, dtype=torch.bool)
        return Sample(image, torch.tensor([0]), regions, str(index))


def test_collate_normalises_per_channel_and_to_display_undoes_it():
    samples = [Noise()[i] for i in range(3)]
    (batch,) = collate(samples, SPEC)
    for b, sample in enumerate(samples):
        for channel in range(3):
            expected = (sample.image[channel] - SPEC.mean[channel]) / SPEC.std[channel]
            assert torch.allclose(batch.images[b, channel], expected)
    pictures = torch.stack([sample.image for sample in samples])
    assert torch.equal(to_display(batch.images, SPEC), (pictures * 255).round().byte())
    assert batch.ids == ("0", "1", "2")
    assert batch.regions.shape == (3, 1, 4, 4)
    assert batch.classes.tolist() == [[0], [0], [0]]


def test_batches_without_regions_say_so():
    bare = Sample(torch.zeros(3, 4, 4), torch.tensor([0]), None, "bare")
    assert collate([bare], SPEC)[0].regions is None
    assert collate([bare], SPEC)[0].to("cpu").regions is None


def scene(name, asked=1, height=4, regions=True, competitors=None):
    where = torch.ones(asked, height, 4, dtype=torch.bool) if regions else None
    image = torch.full((3, height, 4), float(asked))
    return Sample(image, torch.arange(asked), where, name, competitors=competitors)


def test_samples_of_other_shapes_go_into_batches_of_their_own_and_none_is_padded():
    competitor = torch.tensor([7])
    samples = [
        scene("one"),
        scene("two", asked=2),
        scene("tall", height=6),
        scene("one more"),
        scene("nowhere", regions=False),
        scene("two tall", asked=2, height=6),
        scene("competitor", competitors=competitor),
        scene("tall too", height=6),
    ]
    batches = collate(samples, SPEC)
    assert [batch.ids for batch in batches] == [
        ("one", "one more"),
        ("two",),
        ("tall", "tall too"),
        ("nowhere",),
        ("two tall",),
        ("competitor",),
    ]
    for batch in batches:
        for b, name in enumerate(batch.ids):
            (alone,) = collate([s for s in samples if s.id == name], SPEC)
            for field in ("images", "classes", "regions", "scope", "competitors"):
                together, own = getattr(batch, field), getattr(alone, field)
                assert (together is None) == (own is None)
                assert own is None or torch.equal(together[b], own[0])


@pytest.mark.parametrize(("batch_size", "workers"), [(0, 0), (4, -1)])
def test_impossible_loaders_are_refused(batch_size, workers):
    with pytest.raises(ConfigError, match="batch_size must be at least 1 and workers at least 0"):
        SampleModule(Noise(), SPEC, batch_size, workers)


def test_one_picture_at_a_time_is_possible_and_eight_in_the_main_process_the_default():
    assert [batch.ids for (batch,) in SampleModule(Noise(), SPEC, 1).test_dataloader()] == [
        (str(i),) for i in range(7)
    ]

    class More(Noise):
        def __len__(self):
            return 16

    loader = SampleModule(More(), SPEC).test_dataloader()
    assert [len(places) for places in loader.batch_sampler] == [8, 8]
    assert loader.num_workers == 0


def dealt(world_size, done=()):
    """The batches of ids that each process gets."""
    modules = [SampleModule(Noise(), SPEC, 2, done=done) for _ in range(world_size)]
    for rank, module in enumerate(modules):
        module.trainer = SimpleNamespace(world_size=world_size, global_rank=rank)
    return [[batch.ids for (batch,) in module.test_dataloader()] for module in modules]


WHOLE = [("0", "1"), ("2", "3"), ("4", "5"), ("6",)]


@pytest.mark.parametrize("world_size", [1, 2, 3, 5])
def test_each_batch_goes_to_exactly_one_process_and_is_always_the_same(world_size):
    batches = dealt(world_size)
    assert sorted(batch for share in batches for batch in share) == WHOLE
    lengths = [len(share) for share in batches]
    assert max(lengths) - min(lengths) <= 1


def test_samples_that_are_done_are_left_out_and_the_others_stay_together():
    assert dealt(1, done={0, 1, 4}) == [[("2", "3"), ("5",), ("6",)]]
    assert dealt(2, done={0, 1, 4}) == [[("2", "3"), ("6",)], [("5",)]]
    assert dealt(2, done=range(7)) == [[], []]


def test_the_first_process_tells_the_others_what_is_done():
    module = SampleModule(Noise(), SPEC, 2, done=())
    module.setup("test")  # without a trainer there is nobody to tell
    assert module.done == ()
    told = SimpleNamespace(broadcast=lambda done: {0, 1, *done})
    module.done = {4}
    module.trainer = SimpleNamespace(world_size=1, global_rank=0, strategy=told)
    module.setup("test")
    assert [batch.ids for (batch,) in module.test_dataloader()] == [("2", "3"), ("5",), ("6",)]


def test_samples_that_come_first_have_batches_of_their_own():
    whole = [("2", "5"), ("6",), ("0", "1"), ("3", "4")]
    for done, expected in (((), whole), ((5, 1), [("2",), ("6",), ("0",), ("3", "4")])):
        module = SampleModule(Noise(), SPEC, 2, done=done, first={"6", "2", "5"})
        module.trainer = SimpleNamespace(world_size=1, global_rank=0)
        assert [batch.ids for (batch,) in module.test_dataloader()] == expected


def test_a_batch_is_pinned_and_moved_whole(monkeypatch):
    moved = []
    monkeypatch.setattr(torch.Tensor, "pin_memory", torch.Tensor.clone)
    monkeypatch.setattr(torch.Tensor, "is_pinned", lambda self: True)
    (batch,) = collate([scene("a", 2)], SPEC)
    pinned = batch.pin_memory()
    assert torch.equal(pinned.images, batch.images)
    assert pinned.regions.data_ptr() != batch.regions.data_ptr()
    to = torch.Tensor.to
    monkeypatch.setattr(
        torch.Tensor,
        "to",
        lambda self, *, device, non_blocking: (moved.append(non_blocking), to(self, device))[1],
    )
    assert torch.equal(pinned.to("cpu").images, pinned.images)
    assert set(moved) == {True}
