import itertools

import torch

from var_exp.metrics import LerfAUC
from var_exp.metrics.insertion_deletion import deletion_auc, insertion_auc
from var_exp.metrics.lerf import lerf_auc


def loop(model, images, classes, maps, steps):
    """One image and one pixel at a time, weakest first, blanked."""
    areas = []
    for image, label, saliency in zip(images, classes, maps.sum(1), strict=True):
        pixels = sorted(itertools.product(range(8), range(6)), key=lambda p: saliency[p])
        current, scores = image.clone(), []
        for step in range(steps + 1):
            for y, x in pixels[: round(step * len(pixels) / steps)]:
                current[:, y, x] = 0
            with torch.no_grad():
                scores.append(model(current[None]).softmax(1)[0, label].item())
        areas.append(sum((a + b) / 2 for a, b in itertools.pairwise(scores)) / steps)
    return torch.tensor(areas, dtype=torch.float64)


def test_equals_a_loop(small_model, small_scene):
    for steps in (1, 7, 12, 48):
        expected = loop(small_model, *small_scene, steps)
        torch.testing.assert_close(lerf_auc(small_model, *small_scene, steps), expected)


def test_is_the_deletion_of_the_map_turned_upside_down(small_model, small_scene):
    images, classes, maps = small_scene
    expected = deletion_auc(small_model, images, classes, -maps, 12, "blur")
    got = lerf_auc(small_model, images, classes, maps, 12, "blur")
    torch.testing.assert_close(got, expected)


def test_is_the_insertion_into_the_same_baseline(small_model, small_scene):
    """The same pictures, backwards; with ties too, since the order is one and the same."""
    images, classes, maps = small_scene
    for each in (maps, maps.relu(), torch.zeros_like(maps)):
        inserted = insertion_auc(small_model, images, classes, each, 12, "mean")
        lerf = lerf_auc(small_model, images, classes, each, 12, "mean")
        torch.testing.assert_close(lerf, inserted)


def test_metric_draws_its_curve(small_model, small_scene):
    images, classes, maps = small_scene
    metric = LerfAUC(small_model, steps=4, score="logit")
    metric.update(images=images, classes=classes, maps=maps)
    with torch.no_grad():
        logits = [small_model(i).gather(1, classes[:, None]).mean() for i in (images, images * 0)]
    curve = metric.curve()
    torch.testing.assert_close(curve[[0, -1]], torch.stack(logits), rtol=1e-6, atol=1e-6)
    assert metric.places() == [0, 0.25, 0.5, 0.75, 1]
    assert metric.y_label() == "mean logit of the class"
