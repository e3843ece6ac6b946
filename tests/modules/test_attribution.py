"""The module scores what it says it scores, whatever the batches; tested with plain loops."""

import gc
import logging
import re
import weakref
from copy import deepcopy
from dataclasses import replace
from types import SimpleNamespace
from typing import ClassVar

import pytest
import torch
from lightning import Trainer
from scipy.stats import pearsonr
from torch import nn

from var_exp.classes import ClassMapping, Given, TopK
from var_exp.data.batches import collate
from var_exp.data.datamodule import SampleModule
from var_exp.methods import get_method
from var_exp.methods.guided_backprop import GuidedBackprop
from var_exp.metrics import (
    ClassSensitivity,
    GridPointingGame,
    InsertionAUC,
    Intervention,
    MaxSensitivity,
    ModelRandomization,
    PointingGame,
    RandomizedAccuracy,
)
from var_exp.metrics.base import SampleMetric
from var_exp.metrics.grid_pointing_game import grid_pointing_game
from var_exp.metrics.inputs import INPUTS, inputs_of
from var_exp.metrics.reattribution import Reattribute
from var_exp.modules.attribution import AttributionModule
from var_exp.refine.var import VAR
from var_exp.results.aggregate import results_of
from var_exp.results.store import Store
from var_exp.types import PREDICTED, ConfigError, InputSpec, Sample, SampleDataset
from var_exp.variants import variants_of

CONTROLS_OF_VAR = [v.name for v in variants_of(["var"], controls=True) if v.role == "control"]
SPEC = InputSpec(size=16, mean=(0.0, 0.0, 0.0), std=(1.0, 1.0, 1.0))
CLASSES = 9


class Scenes(SampleDataset):
    """Noise with three asked classes and one region for each."""

    class_names = tuple(f"class {i}" for i in range(CLASSES))

    def __len__(self):
        return 7

    def label(self, index):
        return index

    def sample_id(self, index):
        return f"scene {index}"

    def __getitem__(self, index):
        generator = torch.Generator().manual_seed(index)
        regions = torch.zeros(3, 16, 16, dtype=torch.bool)
        for region, rows in zip(regions, (slice(0, 5), slice(5, 10), slice(10, 16)), strict=True):
            region[rows] = True
        classes = torch.randperm(CLASSES, generator=generator)[:3]
        return Sample(
            torch.rand(3, 16, 16, generator=generator), classes, regions, f"scene {index}"
        )


class Photographs(Scenes):
    """The same with one to three asked classes, and pictures of two sizes."""

    def __getitem__(self, index):
        scene, asked = super().__getitem__(index), 1 + index % 3
        rows = slice(0, 16 if index < 4 else 12)
        return replace(
            scene,
            image=scene.image[:, rows],
            classes=scene.classes[:asked],
            regions=scene.regions[:asked, rows],
        )


@pytest.fixture(scope="module")
def model():
    torch.manual_seed(0)
    net = nn.Sequential(
        nn.Conv2d(3, 8, 3),
        nn.ReLU(),
        nn.AdaptiveAvgPool2d(4),
        nn.Flatten(),
        nn.Linear(128, CLASSES),
    )
    return net.eval().requires_grad_(False)


def run(model, metrics, *, precision="32-true", data=None, batch_size=3, **chosen):
    module = AttributionModule(
        model,
        get_method("gbp"),
        chosen.pop("rule", None) or Given(),
        {"var": VAR(temperature=1000.0)},
        metrics,
        **chosen,
    )
    data = data or Scenes()
    store = Store(None, [data.sample_id(place) for place in range(len(data))])
    module.keep = store.commit
    trainer = Trainer(
        accelerator="cpu",
        precision=precision,
        inference_mode=False,
        logger=False,
        enable_progress_bar=False,
        enable_model_summary=False,
        enable_checkpointing=False,
        use_distributed_sampler=False,
    )
    trainer.test(module, SampleModule(data, SPEC, batch_size), verbose=False)
    rows = list(store.rows())
    scores = {(r.sample_id, r.class_index, r.metric, r.variant.name): r.score for r in rows}
    assert len(scores) == len(rows)
    return module, scores, results_of(store, module.measures)


@pytest.mark.parametrize("count", [3, 5])
def test_each_class_is_compared_with_the_next_one_that_competes(model, count):
    """The last one asked about meets the first competitor, or else the first class."""
    rule = Given() if count == 3 else TopK(k=count)
    module, scores, _ = run(model, lambda: {"alike": ClassSensitivity()}, rule=rule)
    data, expected = Scenes(), {}
    for scene in (data[place] for place in range(len(data))):
        logits = model(scene.image[None])
        classes = module.rule(logits, scene.classes[None], [scene.id])
        assert classes.shape == (1, count)
        maps = get_method("gbp").attribute(model, scene.image[None], classes)[0].sum(1).flatten(1)
        for own in range(3):
            other = maps[(own + 1) % count]
            key = (scene.id, int(classes[0, own]), "alike", "base")
            expected[key] = pearsonr(maps[own].double(), other.double()).statistic
    found = {key: score for key, score in scores.items() if key[3] == "base"}
    assert found == pytest.approx(expected, abs=1e-5)


@pytest.mark.parametrize("batch_size", [1, 4])
def test_measures_that_attribute_again_are_those_of_any_batch(model, batch_size):
    def metrics():
        return {
            "sanity": ModelRandomization(stages=2),
            "known": RandomizedAccuracy(stages=2),
            "moved": MaxSensitivity(samples=2),
            "masked": Intervention(model),
        }

    _, expected, whole = run(model, metrics, batch_size=7)
    _, scores, results = run(model, metrics, batch_size=batch_size)
    assert scores.keys() == expected.keys()
    assert scores == pytest.approx(expected, abs=2e-4, nan_ok=True)  # ranks see the last digits
    assert {key[3] for key in scores if key[2] == "known"} == {"base"}  # of the model, no map
    assert {key[3] for key in scores if key[2] == "sanity"} == {
        "base",
        "var",
        *CONTROLS_OF_VAR,
    }
    sanity, known = results.curves
    assert sanity.lines["edge_map"] == pytest.approx([1, 1, 1])
    assert len(known.lines["base"]) == 3
    assert [matrix.title for matrix in whole.matrices] == ["masked"]


class Curious(SampleMetric):
    """Asks for all that there is, and looks at it."""

    higher_is_better = True
    seen: ClassVar[dict[str, object]] = {}

    def update(
        self,
        *,
        maps,
        classes,
        ids,
        images,
        base_maps,
        competitors,
        asked,
        own,
        regions,
        cells,
        scope,
        without,
        other_maps,
        reattribute,
    ):
        """Keep the latest of everything."""
        Curious.seen = {name: value for name, value in locals().items() if name != "self"}
        self.record(maps.sum((1, 2, 3)), torch.zeros(len(maps), dtype=torch.int64), classes, ids)


class Parts(Scenes):
    """The same, each region in the upper half of an object of its own; two things may be absent."""

    def __getitem__(self, index):
        sample = super().__getitem__(index)
        without = torch.stack([sample.image / 2, 1 - sample.image])
        return replace(sample, scope=sample.regions, without=without)


def test_a_run_gives_all_that_a_metric_may_ask_for_in_the_shapes_of_the_table(model):
    """The letters of `INPUTS`: here N = 3 maps a picture, A = 3 classes asked about."""
    run(model, lambda: {"curious": Curious()}, data=Parts(), batch_size=7, controls=False)
    assert list(Curious.seen) == list(INPUTS) == list(inputs_of("curious", Curious()))
    sizes = {"N": 21, "A": 3, "P": 2, "c": 3, "C": 3, "H": 16, "W": 16}
    for name, value in Curious.seen.items():
        meaning = INPUTS[name].meaning
        letters = re.match(r"\[([\w, ]+)\]( bool| int64)?", meaning)
        if letters:
            assert list(value.shape) == [sizes[letter] for letter in letters[1].split(", ")]
            kind = {" bool": torch.bool, " int64": torch.int64}.get(letters[2], torch.float32)
            assert value.dtype == kind
    assert len(Curious.seen["ids"]) == 21
    images, (half, inverse) = Curious.seen["images"], Curious.seen["without"].unbind(1)
    mean, std = (torch.tensor(numbers).view(3, 1, 1) for numbers in (SPEC.mean, SPEC.std))
    torch.testing.assert_close(half, ((images * std + mean) / 2 - mean) / std)
    torch.testing.assert_close(inverse, (1 - (images * std + mean) - mean) / std)
    assert isinstance(Curious.seen["reattribute"], Reattribute)


def test_a_metric_that_asks_for_what_nobody_can_give_is_refused_at_once(model):
    class Misspelt(SampleMetric):
        def update(self, *, maps, image):
            """Never called."""

    with pytest.raises(ConfigError, match=r"metric mine asks for 'image' .* mean 'images'\?"):
        run(model, lambda: {"mine": Misspelt()})


def test_a_refiner_may_take_the_maps_alone(model):
    module = AttributionModule(
        *(model, get_method("gbp"), Given(), {"half": lambda maps: maps / 2}),
        lambda: {"grid": GridPointingGame()},
    )
    batch = collate([Scenes()[0]], SPEC)[0]
    attributed = module.attribute(batch, controls=True)
    variants = module._variants(attributed)
    assert torch.equal(variants["half"], attributed.maps[:, :3] / 2)
    assert torch.equal(variants["half_random_classes"], attributed.maps[:, :3] / 2)


def test_scores_are_those_of_a_plain_loop_over_samples_and_classes(model):
    _, scores, _ = run(model, lambda: {"grid": GridPointingGame()})
    refine = VAR(temperature=1000.0)
    for index in range(7):
        sample = Scenes()[index]
        maps = get_method("gbp").attribute(model, sample.image[None], sample.classes[None])
        for variant, kind in (("base", maps), ("var", refine(maps))):
            for a, label in enumerate(sample.classes.tolist()):
                expected = grid_pointing_game(kind[0, a : a + 1], sample.regions[a : a + 1])
                assert scores[sample.id, label, "grid", variant] == pytest.approx(expected.item())


def test_the_likeliest_member_answers_for_a_class_of_the_data(model):
    """Three classes of the data, of which the model knows parts; scored by a plain loop."""

    class Objects(Scenes):
        def __getitem__(self, index):
            return replace(super().__getitem__(index), classes=torch.tensor([0, 2, 1]))

    members = torch.zeros(3, CLASSES, dtype=torch.bool)
    members[0, [1, 4, 8]] = members[1, [0, 2]] = members[2, [3]] = True
    _, scores, _ = run(
        model,
        lambda: {"grid": GridPointingGame()},
        data=Objects(),
        class_mapping=ClassMapping(members),
    )
    assert {key[1] for key in scores} == {0, 1, 2}
    for index in range(7):
        sample = Objects()[index]
        logits = model(sample.image[None])[0]
        labels = [
            max(members[c].nonzero()[:, 0].tolist(), key=lambda n: logits[n]) for c in (0, 2, 1)
        ]
        maps = get_method("gbp").attribute(model, sample.image[None], torch.tensor([labels]))
        for a, label in enumerate((0, 2, 1)):
            expected = grid_pointing_game(maps[0, a : a + 1], sample.regions[a : a + 1])
            assert scores[sample.id, label, "grid", "base"] == pytest.approx(expected.item())


@pytest.mark.parametrize("data", [Scenes(), Photographs()])
@pytest.mark.parametrize("batch_size", [1, 2, 7])
def test_scores_do_not_depend_on_the_batch_size(model, batch_size, data):
    def metrics():
        return {
            "grid": GridPointingGame(),
            "pointing": PointingGame(tolerance=2),
            "insertion": InsertionAUC(model, steps=8),
        }

    one, expected, first = run(model, metrics, data=data, rule=TopK(5))
    _, scores, second = run(model, metrics, data=data, rule=TopK(5), batch_size=batch_size)
    assert scores.keys() == expected.keys()
    assert len(scores) == sum(len(data[i].classes) for i in range(7)) * 3 * len(one.scores)
    assert scores == pytest.approx(expected, abs=1e-6)
    values, expected_values = (
        {(row.metric, row.variant.name): row.value for row in found.summary}
        for found in (second, first)
    )
    assert values == pytest.approx(expected_values, abs=1e-6)
    assert (second.facts, second.chance) == (first.facts, pytest.approx(first.chance))


class Labelled(Scenes):
    """One class asked about: what `label` says."""

    def __init__(self, label):
        self.label = label

    def __getitem__(self, index):
        scene = super().__getitem__(index)
        return replace(scene, classes=torch.tensor([self.label(index)]), regions=scene.regions[:1])


def test_without_labels_the_prediction_is_asked_about(model):
    def predicted(index):
        return int(model(Scenes()[index].image[None]).argmax())

    def metrics():
        return {"insertion": InsertionAUC(model, steps=8), "pointing": PointingGame()}

    _, expected, _ = run(model, metrics, data=Labelled(predicted), rule=TopK(3))
    _, scores, _ = run(model, metrics, data=Labelled(lambda index: PREDICTED), rule=TopK(3))
    assert scores == pytest.approx(expected, abs=1e-6)


def test_figures_facts_and_chance_are_those_of_the_samples(model):
    _, scores, found = run(model, lambda: {"grid": GridPointingGame()})
    for variant in ("base", "var", *CONTROLS_OF_VAR):
        rows = [score for key, score in scores.items() if key[3] == variant]
        assert len(rows) == 21
        (value,) = [row.value for row in found.summary if row.variant.name == variant]
        assert value == pytest.approx(sum(rows) / len(rows))
    assert found.directions == {"grid": True}
    right = [
        int(model(s.image[None]).argmax() in s.classes) for s in map(Scenes().__getitem__, range(7))
    ]
    assert found.facts["top-1 class is one of those asked"] == f"{sum(right) / 7:.3f}"
    assert found.chance == {"grid": pytest.approx(1 / 3)}


def test_random_competitors_are_outside_the_competition(model):
    seen = []

    class Spy(GuidedBackprop):
        def attribute(self, model, images, classes, *, ids=None):
            seen.append(classes)
            return super().attribute(model, images, classes, ids=ids)

    module = AttributionModule(
        model,
        Spy(),
        Given(),
        {"var": VAR()},
        lambda: {"grid": GridPointingGame()},
    )
    datamodule = SampleModule(Scenes(), SPEC, 7)
    datamodule.trainer = SimpleNamespace(world_size=1, global_rank=0)
    ((batch,),) = datamodule.test_dataloader()
    module.test_step((batch,), 0)
    (classes,) = seen
    assert classes.shape == (7, 5)  # three given, two random
    assert torch.equal(classes[:, :3], batch.classes)
    assert all(len(set(row.tolist())) == 5 for row in classes)


def test_no_random_competitors_when_all_classes_compete(model):
    _, scores, _ = run(model, lambda: {"grid": GridPointingGame()}, rule=TopK(CLASSES))
    variants = {key[3] for key in scores}
    assert "var_random_classes" not in variants
    assert "var_same_sparsity" in variants


@pytest.mark.parametrize("batch_size", [1, 3, 7])
def test_random_competitors_on_some_samples_change_nothing_else(model, batch_size):
    chosen = {"scene 1", "scene 4", "scene 5"}
    _, every, _ = run(model, lambda: {"grid": GridPointingGame()})
    module, some, found = run(
        model,
        lambda: {"grid": GridPointingGame()},
        batch_size=batch_size,
        random_competitors=chosen,
    )
    kept = {key for key in every if key[3] != "var_random_classes" or key[0] in chosen}
    assert some.keys() == kept
    assert some == pytest.approx({key: every[key] for key in kept}, abs=1e-6, nan_ok=True)
    rows = {row.variant.name: row for row in found.summary}
    assert rows["var_random_classes"].rows == rows["var-var_random_classes"].rows == 9
    assert rows["var-var_same_sparsity"].rows == 21
    assert [id for id in ("scene 1", "scene 2") if module.meets_random(id)] == ["scene 1"]


def test_controls_can_be_left_out(model):
    _, scores, _ = run(model, lambda: {"grid": GridPointingGame()}, controls=False)
    assert {key[3] for key in scores} == {"base", "var"}


def test_curves_are_those_of_the_metric(model):
    _, _, found = run(model, lambda: {"insertion": InsertionAUC(model, steps=4)})
    (curves,) = found.curves
    assert curves.title == "insertion"
    assert set(curves.lines) == {"base", "var", *CONTROLS_OF_VAR}
    last = [
        torch.softmax(model(sample.image[None])[0], 0)[label].item()
        for sample in (Scenes()[i] for i in range(7))
        for label in sample.classes.tolist()
    ]
    # with every pixel inserted, each variant ends at the image's own probability
    assert all(
        line[-1] == pytest.approx(sum(last) / 21, rel=1e-4) for line in curves.lines.values()
    )


def test_rivals_are_the_strongest_other_competing_classes(model):
    class Competitor(SampleMetric):
        higher_is_better = True

        def update(self, *, classes, competitors, ids):
            self.record(competitors.double(), torch.zeros_like(competitors), classes, ids)

    _, scores, _ = run(model, lambda: {"competitor": Competitor()}, rule=TopK(5))
    for sample in map(Scenes().__getitem__, range(7)):
        logits = model(sample.image[None])[0].tolist()
        asked = sample.classes.tolist()
        others = sorted(set(range(CLASSES)) - set(asked), key=lambda c: -logits[c])
        competing = asked + others[:2]
        for label in asked:
            expected = max((c for c in competing if c != label), key=lambda c: logits[c])
            assert scores[sample.id, label, "competitor", "var"] == expected


def test_the_maps_of_a_batch_are_gone_with_it(model, monkeypatch):
    """A cycle would keep them until Python looks for cycles: gigabytes, or a full accelerator."""
    alive, most = weakref.WeakSet(), []
    attribute = AttributionModule.attribute

    def watched(self, batch, **given):
        most.append(len(alive))
        attributed = attribute(self, batch, **given)
        alive.add(attributed)
        return attributed

    monkeypatch.setattr(AttributionModule, "attribute", watched)
    gc.collect()
    gc.disable()
    try:
        run(model, lambda: {"grid": GridPointingGame()}, batch_size=1)
    finally:
        gc.enable()
    assert len(most) == 7
    assert max(most) == 0


@pytest.mark.parametrize("maps_at_once", [1, 8, 10**6])
def test_many_competing_classes_take_fewer_images_at_once_and_change_nothing(
    model, monkeypatch, maps_at_once
):
    rule = TopK(k=4)  # and three random_classes
    _, expected, _ = run(model, lambda: {"grid": GridPointingGame()}, rule=rule)
    monkeypatch.setattr("var_exp.modules.attribution._MAP_BYTES", maps_at_once * 3 * 16 * 16 * 4)
    together = []
    step = AttributionModule._step
    monkeypatch.setattr(
        AttributionModule,
        "_step",
        lambda self, batch, rows: (together.append(len(rows)), step(self, batch, rows)),
    )
    _, scores, _ = run(model, lambda: {"grid": GridPointingGame()}, rule=rule)
    assert max(together) == (1 if maps_at_once < 14 else 3)
    assert scores == pytest.approx(expected, abs=1e-6, nan_ok=True)


class Greedy(GridPointingGame):
    """Runs out of memory with more than one image, after another metric has kept its scores."""

    def update(self, *, maps, regions, classes, ids):
        if len(set(ids)) > 1:
            raise torch.OutOfMemoryError("CUDA out of memory.")
        super().update(maps=maps, regions=regions, classes=classes, ids=ids)


def test_running_out_of_memory_anywhere_in_a_step_halves_it_and_changes_nothing(model, caplog):
    _, expected, _ = run(model, lambda: {"a": GridPointingGame(), "z": GridPointingGame()})
    with caplog.at_level(logging.WARNING):
        _, scores, _ = run(model, lambda: {"a": GridPointingGame(), "z": Greedy()})
    assert scores == pytest.approx(expected, abs=1e-6, nan_ok=True)
    assert "Setting batch_size=1 spares the first attempt" in caplog.text


class Watching(GridPointingGame):
    """Refuses to be measured in reduced precision."""

    def update(self, *, maps, regions, classes, ids):
        assert maps.dtype == torch.float32
        assert (torch.ones(2, 2) @ torch.ones(2, 2)).dtype == torch.float32
        super().update(maps=maps, regions=regions, classes=classes, ids=ids)


def test_in_mixed_precision_the_model_alone_computes_in_bfloat16(model):
    seen, mixed = set(), deepcopy(model)
    mixed[0].register_forward_hook(lambda _m, _i, output: seen.add(output.dtype))
    _, expected, _ = run(model, lambda: {"grid": GridPointingGame()})
    _, scores, _ = run(mixed, lambda: {"grid": Watching()}, precision="bf16-mixed")
    assert seen == {torch.bfloat16}
    base = {key: score for key, score in expected.items() if key[3] == "base"}
    assert {key: scores[key] for key in base} == pytest.approx(base, abs=0.02)
    assert any(scores[key] != score for key, score in base.items())


def test_in_mixed_precision_the_network_as_given_computes_so_too(model):
    seen, given = set(), deepcopy(model)
    given[0].register_forward_hook(lambda _m, _i, output: seen.add(output.dtype))
    run(model, lambda: {"grid": GridPointingGame()}, precision="bf16-mixed", as_given=given)
    assert not seen
    given(torch.rand(1, 3, 16, 16))
    assert seen == {torch.bfloat16}
