"""Nothing is run twice, and what is remembered is never stale."""

import copy
import logging
import pickle

import pytest
import torch
from torchmetrics import MetricCollection

from var_exp.metrics import (
    ABPC,
    AOPC,
    ContrastiveDeletion,
    DeletionAUC,
    Infidelity,
    InsertionAUC,
    LerfAUC,
    Perturber,
    Road,
    RoadLerf,
    SensitivityN,
)
from var_exp.metrics.abpc import abpc
from var_exp.metrics.base import Flag
from var_exp.metrics.insertion_deletion import deletion_auc, insertion_auc
from var_exp.metrics.lerf import lerf_auc
from var_exp.metrics.perturber import read_scores
from var_exp.metrics.ranking import rank
from var_exp.types import OutOfMemory

IDS = ["a", "b", "c"]
STEPS = 12


class Counting:
    """A model that keeps what it was shown."""

    def __init__(self, model):
        self.model = model
        self.shown = []

    def __call__(self, images):
        self.shown += [image.numpy().tobytes() for image in images]
        return self.model(images)


@pytest.fixture
def counting(small_model):
    return Counting(small_model)


def curves(model):
    return {
        "insertion": InsertionAUC(model, STEPS),
        "insertion_zero": InsertionAUC(model, STEPS, "zero"),
        "deletion": DeletionAUC(model, STEPS),
        "deletion_logit": DeletionAUC(model, STEPS, score="logit"),
        "deletion_mean": DeletionAUC(model, STEPS, "mean"),
        "deletion_mean_logit": DeletionAUC(model, STEPS, "mean", score="logit"),
        "lerf_blur_accuracy": LerfAUC(model, STEPS, "blur", score="accuracy"),
        "deletion_base": DeletionAUC(model, STEPS, ties="base"),
        "lerf": LerfAUC(model, STEPS),
        "abpc": ABPC(model, STEPS),
        "contrast": ContrastiveDeletion(model, STEPS),
        "aopc": AOPC(model, regions=5, patch=2),
        "road": Road(model, 5, "mean"),
        "road_lerf": RoadLerf(model, 5, "mean"),
    }


def random_sets(model):
    return {
        "infidelity": Infidelity(model, samples=7),
        "sensitivity": SensitivityN(model, samples=6, sizes=2, patch=2),
        "infidelity_probability": Infidelity(model, samples=7, score="probability"),
    }


def scored(suite, model, variants, inputs):
    """Scores of every metric for every variant, in the order in which a run asks for them."""
    scores = {}
    for variant, maps in variants.items():
        metrics = MetricCollection(suite(model), compute_groups=False)
        metrics.update(maps=maps, **inputs)
        scores |= {(variant, name): metric.latest[0] for name, metric in metrics.items()}
    return scores


@pytest.fixture
def run(small_scene):
    """Two variants of the maps, and all else that a metric may ask for."""
    images, classes, maps = small_scene
    inputs = {
        "images": images,
        "classes": classes,
        "competitors": (classes + 1) % 5,
        "ids": IDS,
        "base_maps": maps,
    }
    # another map, which shares no set of first pixels or patches with the other
    refined = torch.randn(maps.shape, generator=torch.Generator().manual_seed(3))
    return {"base": maps, "refined": refined}, inputs


def agrees_with_separate_metrics(suite, counting, variants, inputs):
    together = scored(suite, Perturber(counting), variants, inputs)
    apart = scored(suite, counting.model, variants, inputs)
    assert together.keys() == apart.keys()
    for key, score in together.items():
        torch.testing.assert_close(score, apart[key], rtol=1e-12, atol=1e-12)


def test_no_picture_is_run_twice_for_all_curves_and_variants(counting, run):
    agrees_with_separate_metrics(curves, counting, *run)
    # three baselines and three scores are four curves of 11 pictures between their ends: blurred,
    # blank from either end, of the mean colour, on which road's five lie as well; of aopc and
    # road_lerf five pictures each; for two variants
    between = 3 * 2 * (4 * (STEPS - 1) + 5 + 5)
    ends = 3 * 4  # each picture as it is, blurred, blank, of its mean colour
    assert len(counting.shown) == between + ends
    assert len(set(counting.shown)) == len(counting.shown) - 2  # the blank ones look alike


def test_random_sets_are_run_once_for_all_maps(counting, run):
    agrees_with_separate_metrics(random_sets, counting, *run)
    assert len(counting.shown) == 3 * (1 + 7 + 6 * 2)


def test_rows_of_one_picture_share_its_ends(counting, small_scene):
    images, _, maps = small_scene
    rows = torch.tensor([0, 0, 0, 1])
    metric = DeletionAUC(Perturber(counting), STEPS)
    classes = torch.tensor([0, 1, 2, 3])
    different = torch.cat([maps, maps[:1]])
    metric.update(
        images=images[rows], classes=classes, maps=different, ids=["a", "a", "other", "b"]
    )
    assert len(counting.shown) == 4 * (STEPS - 1) + 2 * 3  # another id is another picture
    alone = deletion_auc(counting.model, images[rows], classes, different, STEPS)
    torch.testing.assert_close(metric.latest[0], alone)


def test_insertion_and_least_first_deletion_are_one_curve(small_model, small_scene):
    for steps in (1, 5, 12, 100):
        inserted = insertion_auc(small_model, *small_scene, steps, "zero")
        torch.testing.assert_close(lerf_auc(small_model, *small_scene, steps, "zero"), inserted)


def test_new_and_changed_tensors_are_looked_at_afresh(counting, small_scene):
    images, classes, maps = (t.clone() for t in small_scene)
    metric = DeletionAUC(Perturber(counting), STEPS)

    def score():
        metric.update(images=images, classes=classes, maps=maps, ids=IDS)
        return metric.latest[0]

    def expected():
        return deletion_auc(counting.model, images, classes, maps, STEPS, ids=IDS)

    first = score()
    seen = len(counting.shown)
    assert torch.equal(score(), first)
    assert len(counting.shown) == seen  # nothing new
    classes = (classes + 1) % 5
    assert not torch.equal(score(), first)
    assert len(counting.shown) == seen  # other classes are in the same logits
    torch.testing.assert_close(score(), expected())
    maps[0] = -maps[0]
    torch.testing.assert_close(score(), expected())
    images[1] += 1
    torch.testing.assert_close(score(), expected())
    maps = maps + 1.0  # another tensor
    torch.testing.assert_close(score(), expected())


def test_changed_base_maps_are_looked_at_afresh(small_model, small_scene):
    images, classes, maps = small_scene
    metric = DeletionAUC(Perturber(small_model), STEPS, ties="base")
    flat, base = torch.zeros_like(maps), maps.clone()
    for _ in range(2):
        metric.update(images=images, classes=classes, maps=flat, base_maps=base, ids=IDS)
        expected = deletion_auc(small_model, images, classes, base, STEPS, ids=IDS)
        torch.testing.assert_close(metric.latest[0], expected)
        base *= -1


def test_tensors_of_inference_mode_are_never_taken_for_known(small_model, small_scene):
    images, classes, maps = small_scene
    metric = DeletionAUC(Perturber(small_model), STEPS)
    with torch.inference_mode():
        own = maps.clone()
        metric.update(images=images, classes=classes, maps=own, ids=IDS)
        own *= -1  # torch does not count this
        metric.update(images=images, classes=classes, maps=own, ids=IDS)
    expected = deletion_auc(small_model, images, classes, -maps, STEPS, ids=IDS)
    torch.testing.assert_close(metric.latest[0], expected)


def test_a_metric_of_a_plain_model_sees_new_weights(small_model, small_scene):
    images, classes, maps = small_scene
    metric = DeletionAUC(small_model, STEPS)
    shared = DeletionAUC(Perturber(small_model), STEPS)
    inputs = {"images": images, "classes": classes, "maps": maps}
    for each in (metric, shared):
        each.update(**inputs)
    with torch.no_grad():
        small_model[0].weight.mul_(2)
    expected = deletion_auc(small_model, images, classes, maps, STEPS)
    metric.update(**inputs)
    torch.testing.assert_close(metric.latest[0], expected)
    shared.model.forget()
    shared.update(**inputs)
    torch.testing.assert_close(shared.latest[0], expected)


def test_seeds_and_ids_have_rankings_of_their_own(small_model, small_scene):
    images, classes, maps = small_scene
    shared = Perturber(small_model)
    flat = torch.zeros_like(maps)
    for seed, ids in ((0, IDS), (1, IDS), (1, ["d", "e", "f"]), (0, None)):
        expected = abpc(small_model, images, classes, flat, STEPS, seed=seed, ids=ids)
        got = abpc(shared, images, classes, flat, STEPS, seed=seed, ids=ids)
        torch.testing.assert_close(got, expected)


def test_copies_share_it_and_a_pickle_holds_no_pictures(small_model, small_scene):
    images, classes, maps = small_scene
    shared = Perturber(small_model)
    assert copy.deepcopy(shared) is shared
    before = len(pickle.dumps(shared))
    metrics = [DeletionAUC(shared, STEPS), InsertionAUC(shared, STEPS).clone()]
    for metric in metrics:
        metric.update(images=images, classes=classes, maps=maps, ids=IDS)
        assert metric.model is shared
    assert len(pickle.dumps(shared)) < before + 200
    restored = pickle.loads(pickle.dumps(metrics[0]))
    restored.reset()
    restored.update(images=images, classes=classes, maps=maps, ids=IDS)
    torch.testing.assert_close(restored.latest[0], metrics[0].latest[0])


def test_out_of_memory_halves_for_all_metrics(small_model, small_scene, caplog):
    sizes = []

    def short_of_memory(images):
        sizes.append(len(images))
        if len(images) > 10:
            raise torch.OutOfMemoryError("out of memory")
        return small_model(images)

    images, classes, maps = small_scene
    shared = Perturber(short_of_memory)
    with caplog.at_level(logging.WARNING):
        for metric in (DeletionAUC(shared, STEPS), InsertionAUC(shared, STEPS)):
            metric.update(images=images, classes=classes, maps=maps)
    assert [size for size in sizes if size > 10] == [39, 19]
    assert len(caplog.records) == 2
    expected = insertion_auc(small_model, *small_scene, STEPS)
    torch.testing.assert_close(metric.latest[0], expected)

    def full(images):
        raise torch.OutOfMemoryError("out of memory")

    with pytest.raises(OutOfMemory, match="a single image does not fit"):
        DeletionAUC(full, STEPS).update(images=images, classes=classes, maps=maps)


def test_scores_are_read_from_the_logits():
    logits = torch.tensor([[[1.0, 3.0, 2.0], [5.0, 0.0, 0.0], [0.0, 1.0, 9.0]]])
    classes = torch.tensor([1])
    assert read_scores(logits, classes, "logit").tolist() == [[3.0, 0.0, 1.0]]
    assert read_scores(logits, classes, "accuracy").tolist() == [[1.0, 0.0, 0.0]]
    independent = read_scores(logits - 1, classes, "accuracy", "sigmoid")
    assert independent.tolist() == [[1.0, 0.0, 0.0]]  # a probability of 1/2 is not above it
    expected = logits.double().softmax(2)[:, :, 1]
    torch.testing.assert_close(read_scores(logits, classes, "probability"), expected)


def test_patches_are_ranked_by_their_sums():
    maps = torch.tensor([[[[1.0, 1, 9], [1, 1, 0], [7, 0, 10]]]])
    ranking = rank([maps], torch.arange(4)[None], (3, 3), 2)
    assert ranking.values[0].tolist() == [[4, 9, 7, 10]]
    assert ranking.order.tolist() == [[3, 1, 2, 0]]
    assert ranking.places.tolist() == [[[3, 3, 1], [3, 3, 1], [2, 2, 0]]]


def test_maps_of_one_picture_share_its_random_sets(counting, small_scene):
    """Three maps of one picture: its whole and its 4 x 2 sets are run once."""
    images, _, maps = small_scene
    classes, ids = torch.tensor([4, 0, 2]), ["a"] * 3
    metric = SensitivityN(Perturber(counting), samples=4, sizes=2, patch=2)
    metric.update(images=images[:1].expand(3, -1, -1, -1), classes=classes, maps=maps, ids=ids)
    assert len(counting.shown) == 1 + 4 * 2


def test_nothing_is_tied_where_a_map_is_not_cut():
    ranking = rank([torch.ones(1, 1, 2, 2)], torch.arange(4)[None], (2, 2), 1)
    assert ranking.flags([0, 4]).tolist() == [0]
    assert ranking.flags([0, 1, 4]).tolist() == [Flag.TIED]
