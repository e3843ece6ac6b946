"""What every metric in conf/metric promises, on one process and on several.

Run as a program, the file is one of those processes: `test_metrics.py RANK FOLDER`.
"""

import inspect
import math
import pickle
import subprocess
import sys
from functools import cache

import pytest
import torch
import yaml
from torch import distributed

from var_exp.conf_files import aliases, conf_dir
from var_exp.metrics import (
    ABPC,
    AOPC,
    IROF,
    AverageDrop,
    ClassSensitivity,
    Complexity,
    ContrastiveDeletion,
    EfficientRandomization,
    EnergyPointingGame,
    EnergyShare,
    FFidelity,
    GridConfusion,
    GridPointingGame,
    Infidelity,
    Intervention,
    IrrelevantEnergyShare,
    MaxSensitivity,
    ModelRandomization,
    Overlap,
    PartDeletion,
    PixelRanking,
    RegionEffect,
    RelativeStability,
    SaCo,
    SensitivityN,
    Sparseness,
)
from var_exp.metrics.base import Flag
from var_exp.metrics.curve_metric import PerturbationAUC
from var_exp.registry import from_alias, locate

ALIASES = aliases("metric")
SIDE, COUNT = 40, 12
RECALL_AT_BEST = ("recall", "best_threshold")  # the best level of a complement marks everything
CHECKER = (torch.arange(SIDE)[:, None] + torch.arange(SIDE)) % 2 * 2.0 - 1.0


def predict(images):
    """Four classes, one for each quarter: how much of the checkerboard is seen there."""
    half = SIDE // 2
    seen = (images.mean(1) * CHECKER.to(images)).unflatten(1, (2, half)).unflatten(3, (2, half))
    return 8 * seen.mean((2, 4)).flatten(1)


class Network(torch.nn.Module):
    """Four classes, each the mean of its own feature map."""

    def __init__(self):
        super().__init__()
        generator = torch.Generator().manual_seed(0)
        self.features = torch.nn.Conv2d(3, 6, 3, padding=1)
        self.classes = torch.nn.Conv2d(6, 4, 3, padding=1)
        for parameter in self.parameters():
            parameter.data = torch.randn(parameter.shape, generator=generator).double()

    def forward(self, images):
        return self.maps(images).mean((2, 3))

    def maps(self, images):
        return self.classes(self.features(images).relu())


class Reattribute:
    """Attributes again, without remembering: the map of a class is its feature map."""

    def __init__(self, images, classes, ids):
        self.images, self.classes, self.ids = images, classes, ids
        self.kept = {}

    def __getitem__(self, rows):
        return Reattribute(self.images[rows], self.classes[rows], [self.ids[row] for row in rows])

    def maps(self, key, change):
        model, images = change(Network(), self.images, self.ids)
        return model.maps(images)[range(len(images)), self.classes, None].detach()

    def logits(self, key=None, change=None):
        model, images = (
            change(Network(), self.images, self.ids) if change else (Network(), self.images)
        )
        return model(images).detach()

    def once(self, key, make):
        return self.kept.setdefault(key, make())


def build(alias):
    node = yaml.safe_load((conf_dir() / "metric" / f"{alias}.yaml").read_text())
    accepted = inspect.signature(locate(node["_target_"])).parameters
    steps = 3 if "road" in alias else 8  # imputation takes its time
    small = {"model": predict, "steps": steps, "samples": 24, "regions": 13}
    small["compactness"] = 1e3  # a checkerboard is no picture: square segments
    if "random" in alias:
        small["stages"] = 1 if "full" in alias else 2  # as many as the network has layers
    return from_alias("metric", alias, **{k: v for k, v in small.items() if k in accepted})


def scene(count=COUNT):
    """One map per image: of the class of one quarter, with that quarter as its region."""
    values = _drawn(count)
    reattribute = Reattribute(values["images"].double(), values["classes"], values["ids"])
    return values | {"reattribute": reattribute}


@cache
def _drawn(count):
    """All of a scene but what remembers; no metric alters what it is given, see the test of it."""
    generator = torch.Generator().manual_seed(0)
    classes = torch.arange(count) % 4
    regions = torch.zeros(count, SIDE, SIDE, dtype=torch.bool)
    for region, label in zip(regions, classes.tolist(), strict=True):
        y, x = (SIDE // 2 * part for part in divmod(label, 2))
        region[y : y + SIDE // 2, x : x + SIDE // 2] = True
    quarters = torch.stack([regions[classes == label][0] for label in range(4)])
    noise = torch.randn(count, 3, SIDE, SIDE, generator=generator)
    values = {
        "images": CHECKER.expand(count, 3, SIDE, SIDE) + 0.1 * noise,
        "classes": classes,
        "competitors": (classes + 1) % 4,
        "regions": regions,
        "cells": quarters.expand(count, 4, SIDE, SIDE),
        "own": classes,
        "asked": torch.arange(4).expand(count, 4),
        "maps": torch.randn(count, 3, SIDE, SIDE, generator=generator),
        "base_maps": torch.randn(count, 3, SIDE, SIDE, generator=generator),
        "scope": torch.ones(count, SIDE, SIDE, dtype=torch.bool),
        "other_maps": torch.randn(count, 3, SIDE, SIDE, generator=generator),
        "ids": [f"sample {index}" for index in range(count)],
    }
    values["without"] = values["images"][:, None] * ~values["cells"][:, :, None]
    return values


def update(metric, values, rows=None):
    """Give a metric what it takes, of some of the rows."""
    rows = list(range(len(values["ids"]))) if rows is None else rows
    chosen = {k: [v[r] for r in rows] if k == "ids" else v[rows] for k, v in values.items()}
    metric.update(**metric._filter_kwargs(**chosen))
    return metric


def skip_what_looks_at_no_map(metric):
    if metric.about_model:
        pytest.skip("scores the model")


def scores_of(metric, maps):
    return update(metric, scene(len(maps)) | {"maps": maps}).latest


@pytest.fixture(params=ALIASES)
def metric(request):
    return build(request.param)


@pytest.mark.parametrize("batch", [1, 5, 7])
def test_any_split_and_order_gives_the_same(metric, batch):
    whole = update(metric.clone(), scene())
    order = torch.randperm(COUNT, generator=torch.Generator().manual_seed(batch)).tolist()
    for first in range(0, COUNT, batch):
        update(metric, scene(), order[first : first + batch])
    torch.testing.assert_close(metric.compute(), whole.compute(), rtol=1e-6, atol=0)
    assert metric.ledger() == whole.ledger()
    assert metric.by_class() == pytest.approx(whole.by_class())
    for further in ("curve", "matrix"):
        if hasattr(metric, further):
            torch.testing.assert_close(getattr(metric, further)(), getattr(whole, further)())


def test_repeated_ids_count_once(metric):
    whole = update(metric.clone(), scene())
    for rows in ([0, 1, 2, 0], [3, 4, 1], list(range(COUNT))):
        update(metric, scene(), rows)
    torch.testing.assert_close(metric.compute(), whole.compute(), rtol=1e-6, atol=0)
    assert metric.ledger()["samples"] == COUNT


def test_value_is_the_mean_of_the_scores(metric):
    update(metric, scene())
    scores, flags = metric.latest
    assert scores.shape == flags.shape == (COUNT,)
    assert scores.dtype == torch.float64
    value = metric.compute()
    assert value.ndim == 0
    # every class has as many maps, so the mean over classes is the same
    assert value.item() == pytest.approx(math.fsum(scores.tolist()) / COUNT)
    by_class = {k: math.fsum(scores[k::4].tolist()) * 4 / COUNT for k in range(4)}
    assert metric.by_class() == pytest.approx(by_class)
    assert metric.ledger()["samples"] == COUNT


def test_bounds(metric):
    scores, _ = scores_of(metric, torch.randn(COUNT, 1, SIDE, SIDE) * 100)
    signed = ABPC | AOPC | ClassSensitivity | ContrastiveDeletion | GridConfusion | Intervention
    signed |= EfficientRandomization | FFidelity | ModelRandomization
    signed |= PartDeletion | SaCo | SensitivityN
    of_logits = isinstance(metric, PerturbationAUC) and metric.score == "logit"
    if of_logits or isinstance(metric, RegionEffect):
        assert scores.isfinite().all()
        assert metric.bounds == (None, None)
        return
    lowest = -math.inf if isinstance(metric, IROF) else -1 if isinstance(metric, signed) else 0
    open_ended = (Infidelity, MaxSensitivity, RelativeStability, EfficientRandomization)
    highest = {Complexity: math.log(SIDE**2), **dict.fromkeys(open_ended, math.inf)}
    assert ((scores >= lowest) & (scores <= highest.get(type(metric), 1))).all()
    if isinstance(metric, Intervention) and metric.mode == "deleted":
        assert metric.bounds == (-2, 2)  # a fall by 1 beside a rise by 1
    else:
        ends = None if lowest == -math.inf else lowest, None if type(metric) in highest else 1
        assert metric.bounds == ends


def test_declared_direction(metric):
    """The region itself beats its complement."""
    skip_what_looks_at_no_map(metric)
    elsewhere = ClassSensitivity | EfficientRandomization | IrrelevantEnergyShare
    if isinstance(metric, elsewhere | MaxSensitivity | ModelRandomization):
        return  # asks nothing about the region, or the region is where nothing should be
    regions = scene()["regions"][:, None].float()
    perfect, _ = scores_of(metric, regions)
    complement, _ = scores_of(metric, 1 - regions)
    if isinstance(metric, Overlap) and (metric.measure, metric.threshold) == RECALL_AT_BEST:
        assert (perfect == complement).all()
        return
    assert (perfect > complement if metric.higher_is_better else perfect < complement).all()


def test_a_single_pixel_counts_where_it_lies(metric):
    """In the region, or in the corner of the picture that is farthest from it."""
    if not {"regions", "cells"} & set(inspect.signature(metric.update).parameters):
        pytest.skip("asks nothing about the region")
    inside, outside = torch.zeros(2, COUNT, 1, SIDE, SIDE)
    for index, label in enumerate(scene()["classes"].tolist()):
        y, x = ((SIDE - 1) * part for part in divmod(label, 2))
        inside[index, 0, y, x] = outside[index, 0, SIDE - 1 - y, SIDE - 1 - x] = 3
    near, far = (scores_of(metric.clone(), maps)[0] for maps in (inside, outside))
    if isinstance(metric, EnergyPointingGame | EnergyShare | GridPointingGame):
        assert near.tolist() == [1] * COUNT
        assert far.tolist() == [0] * COUNT
    elif isinstance(metric, Overlap) and metric.threshold == "best_threshold":
        assert torch.equal(near, far)  # all of the picture is better than one pixel of 400
    else:
        assert (near > far if metric.higher_is_better else near < far).all()


def test_all_zero_maps_are_counted(metric):
    skip_what_looks_at_no_map(metric)
    scores, _ = scores_of(metric, torch.zeros(COUNT, 3, SIDE, SIDE))
    assert metric.ledger()["empty_map"] == COUNT
    never = ClassSensitivity | Complexity | EfficientRandomization | ModelRandomization
    undefined = isinstance(metric, never)
    assert scores.isnan().tolist() == [undefined] * COUNT
    if isinstance(metric, EnergyPointingGame | EnergyShare | GridConfusion | GridPointingGame):
        assert (scores == 0).all()


def test_constant_maps_score_like_chance(metric):
    """Between the region and its complement, and never by the place of the first pixel."""
    skip_what_looks_at_no_map(metric)
    nowhere = ClassSensitivity | Complexity | MaxSensitivity | ModelRandomization | Sparseness
    if isinstance(metric, nowhere | AverageDrop | EfficientRandomization):
        pytest.skip("asks nothing about the region, or makes no mask of a constant map")
    regions = scene()["regions"][:, None].float()
    constant, _ = scores_of(metric.clone(), torch.ones(COUNT, 1, SIDE, SIDE))
    ends = [scores_of(metric.clone(), maps)[0] for maps in (regions, 1 - regions)]
    low, high = torch.minimum(*ends), torch.maximum(*ends)
    if isinstance(metric, Overlap | PixelRanking):  # which marks everything then, or nothing
        assert ((constant >= low) & (constant <= high)).all()
    else:
        assert ((constant > low) & (constant < high)).all()


def test_maps_that_are_not_finite_are_undefined_and_counted(metric):
    skip_what_looks_at_no_map(metric)
    maps = scene()["maps"].clone()
    whole, _ = scores_of(metric.clone(), maps)
    for index, bad in ((1, math.nan), (4, math.inf), (5, -math.inf)):
        maps[index, 0, 3, 3] = bad
    scores, flags = scores_of(metric, maps)
    undefined = [index in (1, 4, 5) for index in range(COUNT)]
    assert scores.isnan().tolist() == undefined
    assert ((flags & Flag.NON_FINITE) != 0).tolist() == undefined
    defined = ~scores.isnan()
    torch.testing.assert_close(scores[defined], whole[defined])
    if metric.average == "samples":
        torch.testing.assert_close(metric.compute(), scores[defined].mean())
    assert metric.ledger()["undefined"] == metric.ledger()["non_finite"] == 3


def test_nothing_defined_is_nan(metric):
    skip_what_looks_at_no_map(metric)
    scores_of(metric, torch.full((COUNT, 1, SIDE, SIDE), math.nan))
    assert metric.compute().isnan()


def test_input_is_left_alone_and_inference_mode_works(metric):
    values = scene()
    before = {name: v.clone() for name, v in values.items() if isinstance(v, torch.Tensor)}
    with torch.inference_mode():
        update(metric, values)
    inside = metric.compute()
    for name, value in before.items():
        assert torch.equal(value, values[name])
    metric.reset()
    assert update(metric, values).compute() == inside


def test_pickle_reset_and_merge(metric):
    update(metric, scene(), list(range(6)))
    restored = pickle.loads(pickle.dumps(metric))
    torch.testing.assert_close(restored.compute(), metric.compute())
    other = update(metric.clone(), scene(), [0, 1])
    other.reset()
    assert other.ledger()["samples"] == 0
    update(other, scene(), list(range(4, COUNT)))
    other.merge_state(metric)
    whole = metric.clone()
    whole.reset()
    torch.testing.assert_close(other.compute(), update(whole, scene()).compute(), rtol=1e-6, atol=0)
    assert other.ledger()["samples"] == COUNT


def test_a_stored_state_goes_on(metric):
    metric.persistent(True)
    update(metric, scene(), list(range(6)))
    other = metric.clone()
    other.reset()
    other.load_state_dict(metric.state_dict())
    update(other, scene(), list(range(4, COUNT)))
    update(metric, scene(), list(range(4, COUNT)))
    torch.testing.assert_close(other.compute(), metric.compute(), rtol=1e-6, atol=0)
    assert other.ledger() == metric.ledger()


def test_forward_gives_the_value_of_the_batch_and_keeps_it(metric):
    values, alone = scene(), metric.clone()
    for rows in ([0, 1, 2], [3, 4, 5]):
        chosen = {k: [v[r] for r in rows] if k == "ids" else v[rows] for k, v in values.items()}
        alone.reset()
        update(alone, values, rows)
        torch.testing.assert_close(metric(**metric._filter_kwargs(**chosen)), alone.compute())
    alone.reset()
    torch.testing.assert_close(metric.compute(), update(alone, values, list(range(6))).compute())


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
def test_maps_of_any_precision_score_as_what_they_hold(metric, dtype):
    """Sums are in float64: a half-precision map is no worse than its own values."""
    names = ("maps", "base_maps", "other_maps")
    rounded = scene() | {name: scene()[name].to(dtype) for name in names}
    exact = scene() | {name: rounded[name].double() for name in names}
    expected = update(metric.clone(), exact).latest[0]
    scores = update(metric, rounded).latest[0]
    torch.testing.assert_close(scores, expected, rtol=1e-6, atol=1e-9)
    value = metric.compute()
    assert value.dtype == torch.float64
    assert metric.half().float().compute() == value  # which a Lightning module calls


def test_flags_of_torchmetrics_are_declared(metric):
    assert metric.is_differentiable is False
    assert metric.full_state_update is False
    assert isinstance(metric.higher_is_better, bool)
    for name in ("is_differentiable", "full_state_update", "higher_is_better"):
        with pytest.raises(RuntimeError, match="Can't change const"):
            setattr(metric, name, None)


@pytest.mark.ddp
@pytest.mark.slow
def test_any_number_of_processes_gives_the_same(python, tmp_path):
    """Uneven shares, repeated samples, and of 3 processes one that has no sample at all."""
    alone = {alias: update(build(alias), scene()) for alias in ALIASES}
    by_class = {alias: metric.by_class() for alias, metric in alone.items()}
    matrix = {alias: each.matrix() for alias, each in alone.items() if hasattr(each, "matrix")}
    torch.save((by_class, matrix), tmp_path / "alone.pt")
    ranks = [
        subprocess.Popen(
            [python, __file__, str(rank), str(tmp_path)], stdout=subprocess.PIPE, text=True
        )
        for rank in range(3)
    ]
    outputs = [yaml.safe_load(rank.communicate(timeout=300)[0]) for rank in ranks]
    assert [rank.returncode for rank in ranks] == [0, 0, 0]
    for alias, whole in alone.items():
        expected, known = whole.compute().item(), whole.ledger()
        for rank, output in enumerate(outputs):
            for world in (2, 3) if rank < 2 else (3,):
                value, ledger = output[f"{alias} {world}"]
                assert value == pytest.approx(expected, rel=1e-6), alias
                assert ledger == known


def main(rank: int, folder: str) -> None:
    """Score this process's shares with every metric and print what all processes say together."""
    shares = {2: [[*range(7), 0], [*range(7, COUNT), 0]], 3: [[*range(9)], [*range(8, COUNT)], []]}
    results = {}
    by_class, matrix = torch.load(f"{folder}/alone.pt")
    for world in (2, 3):
        if rank >= world:
            continue
        store = f"file://{folder}/{world}"
        distributed.init_process_group("gloo", store, rank=rank, world_size=world)
        for alias in ALIASES:
            metric = build(alias)
            if share := shares[world][rank]:
                update(metric, scene(), share)
            else:
                metric._update_count = 1  # torchmetrics warns of a compute without update
            value = metric.compute().item()
            if hasattr(metric, "curve"):
                assert metric.curve().shape == (len(metric.places()),)
            assert metric.by_class() == pytest.approx(by_class[alias])
            if hasattr(metric, "matrix"):
                torch.testing.assert_close(metric.matrix(), matrix[alias])
            results[f"{alias} {world}"] = [value, metric.ledger()]
        distributed.barrier()
        distributed.destroy_process_group()
    print(yaml.safe_dump(results))


if __name__ == "__main__":
    main(int(sys.argv[1]), sys.argv[2])
