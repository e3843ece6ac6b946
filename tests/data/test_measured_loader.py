"""How many processes load follows from what the first batches took, and nothing else does."""

from itertools import count
from types import SimpleNamespace

import pytest
import torch

from var_exp.data import measured_loader
from var_exp.data.critters import Critters
from var_exp.data.datamodule import SampleModule
from var_exp.data.measured_loader import MeasuredLoader, workers_worth
from var_exp.types import InputSpec


class Clock:
    """Seconds that pass only where work is done."""

    def __init__(self, monkeypatch):
        self.now = 0.0
        monkeypatch.setattr(measured_loader.time, "perf_counter", lambda: self.now)

    def chosen(self, loading, using, batches=103, most=7):
        """The batches given to each number of processes."""
        asked = []

        def loader(places, workers):
            asked.append((workers, list(places)))
            for place in places:
                self.now += next(loading)
                yield place

        given = MeasuredLoader([[i] for i in range(batches)], loader, most)
        assert len(given) == batches
        for expected, batch in zip(count(), given, strict=False):
            assert batch == [expected]
            self.now += next(using)
        assert expected == batches - 1
        assert asked[0] == (0, [[i] for i in range(min(batches, 3))])
        return [workers for workers, _ in asked[1:]]


@pytest.fixture
def clock(monkeypatch):
    return Clock(monkeypatch)


def always(seconds):
    while True:
        yield seconds


@pytest.mark.parametrize(
    ("loading", "using", "workers"),
    [
        (0.1, 1.0, 0),  # 10 s in all: less than processes cost
        (1.0, 0.1, 0),
        (0.5, 1.0, 1),
        (1.0, 1.0, 1),
        (1.0, 0.4, 3),
        (9.0, 1.0, 7),  # as many as are allowed
    ],
)
def test_as_many_processes_as_keep_up(clock, loading, using, workers):
    assert clock.chosen(always(loading), always(using)) == [workers]


def test_the_slow_first_batch_decides_nothing(clock):
    loading, using = always(0.1), always(1.0)
    assert clock.chosen((9.0 if i == 0 else next(loading) for i in count()), using) == [0]
    used = (60.0 if i == 0 else 0.5 for i in count())
    assert clock.chosen(always(1.0), used) == [2]


@pytest.mark.parametrize("batches", [1, 2, 3])
def test_a_short_run_has_nothing_to_choose(clock, batches):
    assert clock.chosen(always(100.0), always(100.0), batches) == []


def test_the_fewest_seconds_that_are_worth_processes():
    assert workers_worth(loading=0.2, using=0.3, batches=100) == 0
    assert workers_worth(loading=0.21, using=0.3, batches=100) == 1
    assert workers_worth(loading=0.3, using=0.2, batches=100) == 0
    assert workers_worth(loading=0.3, using=0.21, batches=100) == 2


def loader_with(workers, device="cpu", done=()):
    spec = InputSpec(16, (0.5,) * 3, (0.5,) * 3)
    module = SampleModule(Critters(9, size=16), spec, 2, workers, done)
    strategy = SimpleNamespace(root_device=torch.device(device))
    module.trainer = SimpleNamespace(strategy=strategy, world_size=1, global_rank=0, num_devices=1)
    return module.test_dataloader()


def test_a_network_on_the_processor_keeps_its_cores():
    assert loader_with(None).num_workers == 0
    assert loader_with(2).num_workers == 2
    assert isinstance(loader_with(None, "cuda"), MeasuredLoader)
    assert loader_with(2, "cuda").num_workers == 2


def test_batches_are_the_same_whoever_loads_them(monkeypatch):
    def batches_with(workers):
        return [batch for (batch,) in loader_with(workers, "cuda", done={3})]

    alone = batches_with(0)
    places = [[int(name[-6:]) for name in batch.ids] for batch in alone]
    assert places == [[0, 1], [2], [4, 5], [6, 7], [8]]
    monkeypatch.setattr(measured_loader, "_WORTH_A_START", 0.0)
    for workers in (1, None):
        for batch, own in zip(batches_with(workers), alone, strict=True):
            assert batch.ids == own.ids
            assert torch.equal(batch.images, own.images)
