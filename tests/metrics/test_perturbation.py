import copy
import itertools
import pickle

import pytest
import torch
from scipy import ndimage
from torch import nn

from var_exp.metrics import DeletionAUC, InsertionAUC
from var_exp.metrics.base import Flag
from var_exp.metrics.baselines import gaussian_blur
from var_exp.metrics.insertion_deletion import deletion_auc, insertion_auc
from var_exp.metrics.perturbation import area_under, perturbation_curves
from var_exp.seeds import sample_generator


@pytest.fixture
def model(small_model):
    return small_model


@pytest.fixture
def scene(small_scene):
    return small_scene


def blur(image):
    """The 11 x 11 kernel in two dimensions, zero padding."""
    y, x = torch.meshgrid(torch.arange(-5.0, 6.0), torch.arange(-5.0, 6.0), indexing="ij")
    kernel = torch.exp(-(y**2 + x**2) / 50).double()
    kernel /= kernel.sum()
    channels = [ndimage.convolve(c.numpy(), kernel.numpy(), mode="constant") for c in image]
    return torch.stack([torch.from_numpy(c) for c in channels])


def loop(model, images, classes, maps, mode, steps, baseline):
    """One image, one step and one pixel at a time; the maps must have no ties."""
    areas = []
    for image, label, saliency in zip(images, classes, maps.sum(1), strict=True):
        canvas = blur(image) if baseline == "blur" else torch.zeros_like(image)
        start, end = (image, canvas) if mode == "deletion" else (canvas, image)
        height, width = saliency.shape
        pixels = sorted(
            ((y, x) for y in range(height) for x in range(width)), key=lambda p: -saliency[p]
        )
        current, scores = start.clone(), []
        for step in range(steps + 1):
            for y, x in pixels[: round(step * len(pixels) / steps)]:
                current[:, y, x] = end[:, y, x]
            with torch.no_grad():
                scores.append(model(current[None]).softmax(1)[0, label].item())
        areas.append(sum((a + b) / 2 for a, b in itertools.pairwise(scores)) / steps)
    return torch.tensor(areas, dtype=torch.float64)


@pytest.mark.parametrize("baseline", ["zero", "blur"])
@pytest.mark.parametrize("steps", [1, 7, 12, 48, 100])
def test_equals_a_loop(model, scene, baseline, steps):
    for mode, auc in (("insertion", insertion_auc), ("deletion", deletion_auc)):
        expected = loop(model, *scene, mode, steps, baseline)
        torch.testing.assert_close(auc(model, *scene, steps, baseline), expected)


def test_defaults_are_those_of_rise(model, scene):
    assert torch.equal(insertion_auc(model, *scene), insertion_auc(model, *scene, 224, "blur"))
    assert torch.equal(deletion_auc(model, *scene), deletion_auc(model, *scene, 224, "zero"))


def test_linear_curve_has_a_closed_form():
    """Two classes, logit = number of ones: p is a logistic curve of the pixels deleted."""
    images = torch.ones(1, 1, 4, 4).double()

    def count(batch):
        total = batch.sum((1, 2, 3))
        return torch.stack([total, torch.full_like(total, 8)], 1)

    curves, _ = perturbation_curves(
        count,
        images,
        torch.tensor([0]),
        torch.arange(16.0).view(1, 1, 4, 4),
        "deletion",
        steps=16,
        baseline="zero",
    )
    expected = torch.sigmoid(8 - torch.arange(17.0).double())
    torch.testing.assert_close(curves[0], expected)
    assert area_under(curves).item() == pytest.approx(0.5)  # by symmetry


def test_ends_are_the_image_and_the_baseline(model, scene):
    images, classes, _ = scene
    with torch.no_grad():
        shares = [model(i).softmax(1) for i in (images, torch.zeros_like(images))]
    clean, empty = (s.gather(1, classes[:, None])[:, 0] for s in shares)
    for mode, first, last in (("deletion", clean, empty), ("insertion", empty, clean)):
        curves, _ = perturbation_curves(model, *scene, mode, steps=5, baseline="zero")
        torch.testing.assert_close(curves[:, 0], first)
        torch.testing.assert_close(curves[:, -1], last)


def test_blur_is_a_truncated_gaussian(scene):
    images = scene[0]
    torch.testing.assert_close(gaussian_blur(images), torch.stack([blur(i) for i in images]))
    with torch.autocast("cpu", dtype=torch.bfloat16):
        assert gaussian_blur(images.float()).dtype == torch.float32


@pytest.mark.parametrize("max_batch", [1, 7, 1000])
def test_batches_change_nothing(model, scene, max_batch):
    expected = insertion_auc(model, *scene, 10)
    torch.testing.assert_close(insertion_auc(model, *scene, 10, max_batch=max_batch), expected)


def test_small_maps_are_resized(model, scene):
    images, classes, maps = scene
    small = maps[:, :1, ::2, ::2].contiguous()
    large = nn.functional.interpolate(small, size=(8, 6), mode="bilinear")
    expected = deletion_auc(model, images, classes, large, 6)
    torch.testing.assert_close(deletion_auc(model, images, classes, small, 6), expected)


def test_ties_are_ranked_by_the_base_map(model, scene):
    images, classes, base = scene
    cut = base.sum(1, keepdim=True).median()
    sparse = torch.where(base.sum(1, keepdim=True) > cut, base.sum(1, keepdim=True), 0)
    sparse = sparse + 100 * (sparse != 0)  # the same order, all else tied at 0
    by_base = deletion_auc(model, images, classes, sparse, 12, base_maps=base)
    torch.testing.assert_close(by_base, deletion_auc(model, images, classes, base, 12))


def test_ties_are_broken_at_random_by_id(model, scene):
    images, classes, maps = scene
    flat = torch.zeros_like(maps)
    ids = ["a", "b", "a"]
    both = deletion_auc(model, images, classes, flat, 6, ids=ids)
    alone = deletion_auc(model, images[1:2], classes[1:2], flat[1:2], 6, ids=["b"])
    torch.testing.assert_close(both[1:2], alone)
    assert not torch.equal(both, deletion_auc(model, images, classes, flat, 6, ids=ids, seed=1))
    # The order is the sample's own permutation: a map that spells it out scores the same.
    place = torch.randperm(48, generator=sample_generator(0, "b"))
    spelt = torch.empty(48).double().index_copy_(0, place, -torch.arange(48.0).double())
    spelt = spelt.view(1, 1, 8, 6)
    torch.testing.assert_close(deletion_auc(model, images[1:2], classes[1:2], spelt, 6), both[1:2])


def test_only_ties_that_decide_are_flagged(model, scene):
    images, classes, _ = scene
    ranked = -torch.arange(48.0).view(1, 1, 8, 6).repeat(3, 1, 1, 1)
    ranked[1, 0, 0, 1] = 0.0  # pixels 0 and 1: both in the first of 6 steps of 8 pixels
    ranked[2].view(-1)[7:9] = -7.0  # pixels 7 and 8: the first step takes one of them
    flags = perturbation_curves(
        model, images, classes, ranked, "deletion", steps=6, baseline="zero"
    )[1]
    assert flags.tolist() == [0, 0, Flag.TIED]
    base = torch.arange(48.0).view(1, 1, 8, 6).repeat(3, 1, 1, 1)
    flags = perturbation_curves(
        model, images, classes, ranked, "deletion", steps=6, baseline="zero", base_maps=base
    )[1]
    assert flags.tolist() == [0, 0, 0]


def test_edge_cases_are_flagged(model, scene):
    images, classes, maps = scene
    maps[0], maps[1, 0, 0, 0] = 0, torch.nan
    metric = DeletionAUC(model, steps=6)
    metric.update(images=images, classes=classes, maps=maps)
    scores, flags = metric.latest
    assert flags.tolist() == [Flag.EMPTY_MAP | Flag.TIED, Flag.NON_FINITE, 0]
    assert scores.isnan().tolist() == [False, True, False]
    assert metric.ledger()["undefined"] == 1
    assert metric.curve().isfinite().all()


def test_value_is_the_area_of_the_mean_curve(model, scene):
    images, classes, maps = scene
    metric = InsertionAUC(model, steps=12)
    for _ in range(2):  # the repeats count once
        metric.update(images=images, classes=classes, maps=maps, ids=["a", "b", "c"])
    assert metric.curve().shape == (13,)
    assert area_under(metric.curve()[None]).item() == pytest.approx(metric.compute().item())


def test_model_is_borrowed(model, scene):
    images, classes, maps = scene
    metric = InsertionAUC(model, steps=4)
    metric.persistent(True)
    assert list(metric.children()) == []
    assert list(metric.parameters()) == []
    assert not any("model" in name for name in metric.state_dict())
    metric.to(torch.device("meta"))
    assert next(model.parameters()).device.type == "cpu"
    twin = copy.deepcopy(InsertionAUC(model, steps=4))
    assert twin.model.predict is model
    assert InsertionAUC(model, steps=4).clone().model.predict is model
    restored = pickle.loads(pickle.dumps(twin))
    for copied in (twin, restored):
        copied.update(images=images, classes=classes, maps=maps)
    assert restored.compute() == twin.compute()


def test_model_and_random_state_are_left_alone(model, scene):
    before = torch.get_rng_state()
    scores = insertion_auc(model, *scene, 4)
    assert torch.equal(before, torch.get_rng_state())
    assert all(p.requires_grad and p.grad is None for p in model.parameters())
    assert not scores.requires_grad
    assert not scores.is_inference()


def test_mistakes(model, scene):
    images, classes, maps = scene
    with pytest.raises(ValueError, match="must have one N"):
        insertion_auc(model, images, classes[:2], maps)
    with pytest.raises(ValueError, match="must have one N"):
        insertion_auc(model, images[:2], classes[:2], maps)
    with pytest.raises(ValueError, match="base_maps must be one per map, got 1 for 3"):
        insertion_auc(model, images, classes, maps, base_maps=maps[:1])
    with pytest.raises(ValueError, match="one id per map, got 1 ids for 3 maps"):
        insertion_auc(model, images, classes, maps, ids=["a"])
    with pytest.raises(ValueError, match="steps must be at least 1, got 0"):
        InsertionAUC(model, steps=0)
    with pytest.raises(
        ValueError, match="baseline must be zero, mean, blur or noisy_linear, got 'grey'"
    ):
        DeletionAUC(model, baseline="grey")
    with pytest.raises(ValueError, match="ties must be random or base, got 'first'"):
        DeletionAUC(model, ties="first")
    with pytest.raises(ValueError, match="ties='base' needs base_maps"):
        DeletionAUC(model, ties="base").update(images=images, classes=classes, maps=maps)
