import copy
import math

import pytest
import torch
from torchmetrics import MetricCollection

from var_exp.metrics import EnergyPointingGame, GridPointingGame, InsertionAUC
from var_exp.metrics.base import Flag, SampleMetric


class Recorder(SampleMetric):
    def update(self, scores, flags, classes, ids):
        classes = None if classes is None else torch.tensor(classes)
        self.record(torch.tensor(scores).double(), torch.tensor(flags), classes, ids)


def recorded(*batches):
    metric = Recorder()
    for batch in batches:
        metric.update(*batch)
    return metric


def test_first_row_of_a_key_counts():
    metric = recorded(
        ([1.0, 0.0], [0, 1], None, ["a", "b"]), ([0.5, 0.0], [0, 8], None, ["b", "c"])
    )
    assert metric.compute() == pytest.approx(1 / 3)
    assert metric.ledger() == {
        "samples": 3,
        "undefined": 0,
        "empty_map": 1,
        "empty_region": 0,
        "non_finite": 0,
        "tied": 1,
        "nothing_positive": 0,
    }


def test_repeats_within_one_batch_count_once():
    assert recorded(([1.0, 1.0, 0.0], [0, 0, 0], None, ["a", "a", "b"])).compute() == 0.5


def test_classes_of_one_sample_are_rows_of_their_own():
    metric = recorded(([1.0, 0.0, 0.5], [0, 0, 0], [3, 4, 3], ["a", "a", "a"]))
    assert metric.compute() == 0.5
    assert metric.ledger()["samples"] == 2


def test_rows_without_id_all_count():
    metric = recorded(([1.0, 1.0, 0.0, 0.0], [0] * 4, [1, 1, 1, 1], None))
    assert metric.compute() == 0.5
    assert metric.ledger()["samples"] == 4


def test_undefined_scores_are_left_out_and_counted():
    metric = recorded(([1.0, math.nan], [0, 2], None, ["a", "b"]))
    assert metric.compute() == 1
    assert metric.ledger()["undefined"] == metric.ledger()["empty_region"] == 1
    assert recorded(([math.nan], [4], None, ["a"])).compute().isnan()


def test_flags_add_up():
    assert {int(flag) for flag in Flag} == {1, 2, 4, 8, 16}
    metric = recorded(([math.nan], [int(Flag.EMPTY_REGION | Flag.TIED)], None, None))
    assert metric.ledger()["tied"] == metric.ledger()["empty_region"] == 1


def test_one_id_per_map():
    with pytest.raises(ValueError, match="one id per map, got 1 ids for 2 maps"):
        recorded(([1.0, 1.0], [0, 0], None, ["a"]))


def test_latest_is_the_last_update_in_its_order():
    metric = EnergyPointingGame()
    region = torch.tensor([[True, False]])
    for maps in ([[1.0, 0.0]], [[0.0, 1.0], [0.0, 0.0]]):
        maps = torch.tensor(maps)[:, None, None]
        metric.update(maps=maps, regions=region.expand(len(maps), 1, 2), ids=["a"] * len(maps))
    scores, flags = metric.latest
    assert scores.tolist() == [0, 0]
    assert flags.tolist() == [0, Flag.EMPTY_MAP]


def test_draining_hands_out_every_row_with_its_details_and_forgets_them():
    metric = InsertionAUC(lambda images: images.mean((2, 3)), steps=2)
    images = torch.rand(3, 3, 4, 4)
    for row in range(3):
        part = slice(row, row + 1)
        metric.update(images=images[part], classes=torch.tensor([row]), maps=images[part, :1])
    value, curve = metric.compute(), metric.curve()
    recorded = metric.drain()
    torch.testing.assert_close(recorded.scores.mean(), value)  # the sums differ in order
    assert recorded.flags.shape == (3,)
    torch.testing.assert_close(recorded.details["curves"].double().mean(0), curve)
    assert metric.scores == metric.curves == []


def test_forward_returns_the_value_of_the_batch():
    metric = EnergyPointingGame()
    region = torch.tensor([[[True, False]]])
    assert metric(maps=torch.tensor([[[[1.0, 0.0]]]]), regions=region, ids=["a"]) == 1
    assert metric(maps=torch.tensor([[[[0.0, 1.0]]]]), regions=region, ids=["b"]) == 0
    assert metric.compute() == 0.5


def test_copies_go_their_own_way():
    metric = recorded(([1.0], [0], None, ["a"]))
    other = copy.deepcopy(metric)
    other.update([0.0], [0], None, ["b"])
    assert metric.compute() == 1
    assert other.compute() == 0.5


def test_collections_need_compute_groups_off():
    """Why: with equal states on the first batch, torchmetrics gives two measures one value."""
    scenes = [
        {"maps": torch.zeros(1, 1, 1, 2), "regions": torch.tensor([[[True, False]]])},
        {"maps": torch.tensor([[[[1.0, -3.0]]]]), "regions": torch.tensor([[[True, False]]])},
    ]
    values = {}
    for grouped in (True, False):
        metrics = MetricCollection(
            {"positive": GridPointingGame(), "abs": GridPointingGame("abs")},
            compute_groups=grouped,
        )
        for scene in scenes:
            metrics.update(**scene, ids=None, classes=None)
        values[grouped] = {name: value.item() for name, value in metrics.compute().items()}
    assert values[False] == {"positive": 0.5, "abs": 0.125}
    assert values[True]["abs"] == values[True]["positive"]
