import pytest
import torch

from var_exp.metrics import ABPC, DeletionAUC, LerfAUC
from var_exp.metrics.abpc import abpc
from var_exp.metrics.base import Flag
from var_exp.metrics.insertion_deletion import deletion_auc
from var_exp.metrics.lerf import lerf_auc
from var_exp.metrics.perturbation import area_under


def test_is_the_difference_of_both_areas(small_model, small_scene):
    for steps, baseline in ((12, "zero"), (7, "blur"), (48, "mean")):
        least = lerf_auc(small_model, *small_scene, steps, baseline)
        most = deletion_auc(small_model, *small_scene, steps, baseline)
        expected = least - most
        torch.testing.assert_close(abpc(small_model, *small_scene, steps, baseline), expected)


def test_a_map_upside_down_scores_the_negative(small_model, small_scene):
    images, classes, maps = small_scene
    up = abpc(small_model, images, classes, maps, 12)
    torch.testing.assert_close(abpc(small_model, images, classes, -maps, 12), -up)


def test_bounds_are_reached_by_the_best_and_the_worst_order():
    """The class hangs on one pixel of 100: deleted last or first, the areas are 1 and 0."""

    def predict(images):
        seen = images[:, 0, 0, 0] > 0
        return torch.stack([100.0 * seen, 50.0 + 0 * seen], 1)

    images, classes = torch.ones(1, 1, 10, 10), torch.tensor([0])
    maps = torch.zeros(1, 1, 10, 10)
    maps[0, 0, 0, 0] = 1
    best = abpc(predict, images, classes, maps, 100)
    assert best.item() == pytest.approx(0.99, abs=1e-9)  # half a step lost at either end
    assert abpc(predict, images, classes, -maps, 100).item() == pytest.approx(-0.99, abs=1e-9)


def test_a_random_order_scores_zero_in_the_mean(small_model, small_scene):
    images, classes = (t[:1] for t in small_scene[:2])
    count = 200
    images, classes = images.expand(count, -1, -1, -1), classes.expand(count)
    flat = torch.zeros(count, 1, 8, 6)
    scores = abpc(small_model, images, classes, flat, 6, ids=[str(i) for i in range(count)])
    assert abs(scores.mean()) < 4 * scores.std() / count**0.5
    assert scores.std() > 0.01


def test_ties_that_decide_in_either_order_are_flagged():
    """Three pixels in two steps: two from the front, or the last two, which parts the first two."""
    images = torch.rand(2, 1, 1, 3)
    maps = torch.tensor([[1.0, 1.0, 0.0], [1.0, 0.0, 0.0]])[:, None, None]
    inputs = {"images": images, "classes": torch.tensor([0, 0]), "maps": maps}
    flags = {}
    for cls in (LerfAUC, DeletionAUC, ABPC):
        metric = cls(lambda images: images.flatten(1), steps=2)
        metric.update(**inputs)
        flags[cls] = metric.latest[1].tolist()
    assert flags[LerfAUC] == [Flag.TIED, 0]
    assert flags[DeletionAUC] == [0, Flag.TIED]
    assert flags[ABPC] == [Flag.TIED, Flag.TIED]


def test_curve_is_the_difference(small_model, small_scene):
    images, classes, maps = small_scene
    metric = ABPC(small_model, steps=5)
    metric.update(images=images, classes=classes, maps=maps)
    scores, _ = metric.latest
    assert metric.curve()[0] == metric.curve()[-1] == 0
    assert area_under(metric.curve()[None]).item() == pytest.approx(scores.mean().item())
