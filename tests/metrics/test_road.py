import itertools

import pytest
import torch

from var_exp.metrics import Perturber, Road, RoadLerf
from var_exp.metrics.base import Flag
from var_exp.metrics.road import road
from var_exp.seeds import sample_generator

IDS = ["a", "b", "c"]


def solve(image, missing):
    """The imputed picture, by one dense system of all pixels."""
    channels, height, width = image.shape
    pixels = list(itertools.product(range(height), range(width)))
    system = torch.eye(len(pixels), dtype=torch.float64)
    right = image.reshape(channels, -1).T.clone()
    for i, (y, x) in enumerate(pixels):
        if not missing[y, x]:
            continue
        system[i, i], right[i] = 0, 0
        for dy, dx in itertools.product((-1, 0, 1), repeat=2):
            if (dy, dx) != (0, 0) and 0 <= y + dy < height and 0 <= x + dx < width:
                weight = 1 / 6 if 0 in (dy, dx) else 1 / 12
                system[i, i] += weight
                system[i, pixels.index((y + dy, x + dx))] -= weight
    return torch.linalg.solve(system, right).T.view(channels, height, width)


def loop(model, images, classes, maps, steps, largest_first, std):
    """One image and one share at a time."""
    scores = []
    for image, label, saliency, name in zip(images, classes, maps.sum(1), IDS, strict=True):
        drawn = torch.randn(image.shape, generator=sample_generator(0, name))
        order = saliency.flatten().argsort(descending=largest_first)
        probabilities = []
        for step in range(1, steps + 1):
            missing = torch.zeros(48, dtype=torch.bool)
            missing[order[: round(step * 48 / (steps + 1))]] = True
            missing = missing.view(8, 6)
            filled = solve(image, missing) + 0.01 / std * drawn * missing
            with torch.no_grad():
                probabilities.append(model(filled[None]).softmax(1)[0, label].item())
        scores.append(sum(probabilities) / steps)
    return torch.tensor(scores, dtype=torch.float64)


@pytest.mark.parametrize("steps", [1, 4, 9])
def test_equals_a_loop(small_model, small_scene, steps):
    for order in ("most_first", "least_first"):
        for std in (1.0, 0.25):
            expected = loop(small_model, *small_scene, steps, order == "most_first", std)
            model = Perturber(small_model, (std,))
            got = road(model, *small_scene, steps, order=order, ids=IDS)
            torch.testing.assert_close(got, expected, rtol=0, atol=1e-6)


def test_a_hole_of_one_colour_gives_the_mask_away_and_imputation_does_not():
    """A model that counts black pixels sees every hole, but no imputed one in a smooth picture."""

    def counts_black(images):
        black = (images == 0).all(1).sum((1, 2)).double()
        return torch.stack([20 * black, 10 + 0 * black], 1)

    slope = torch.linspace(1, 2, 12).expand(1, 3, 12, 12)
    maps = torch.randn(1, 1, 12, 12, generator=torch.Generator().manual_seed(0))
    for baseline, share in (("zero", 1.0), ("noisy_linear", 0.0)):
        score = road(counts_black, slope, torch.tensor([0]), maps, baseline=baseline)
        assert score.item() == pytest.approx(share, abs=1e-3)


def test_accuracy_is_the_share_of_shares_where_the_class_stays_on_top(small_model, small_scene):
    images, _, maps = small_scene
    with torch.no_grad():
        top = small_model(images).argmax(1)
    scores = road(small_model, images, top, maps, 4, ids=IDS, score="accuracy")
    assert set((scores * 4).tolist()) <= {0, 1, 2, 3, 4}
    assert scores.max() > 0


def test_metrics_of_both_orders(small_model, small_scene):
    images, classes, maps = small_scene
    for cls, order, better in ((Road, "most_first", False), (RoadLerf, "least_first", True)):
        metric = cls(small_model, steps=4)
        metric.update(images=images, classes=classes, maps=maps, ids=IDS)
        expected = road(small_model, images, classes, maps, 4, order=order, ids=IDS)
        torch.testing.assert_close(metric.latest[0], expected)
        assert metric.higher_is_better is better
        assert metric.places() == [0.2, 0.4, 0.6, 0.8]
        assert metric.curve().mean().item() == pytest.approx(metric.compute().item())


def test_edge_cases_are_flagged(small_model, small_scene):
    images, classes, maps = small_scene
    maps[0], maps[1, 0, 0, 0] = 0, torch.nan
    metric = RoadLerf(small_model, steps=3)
    metric.update(images=images, classes=classes, maps=maps)
    scores, flags = metric.latest
    assert flags.tolist() == [Flag.EMPTY_MAP | Flag.TIED, Flag.NON_FINITE, 0]
    assert scores.isnan().tolist() == [False, True, False]


def test_ties_that_decide_are_those_at_the_end_that_goes_first():
    """Of three pixels, two go: the last two part the first two, the first two the last two."""
    images = torch.rand(2, 1, 1, 3)
    maps = torch.tensor([[1.0, 1.0, 0.0], [1.0, 0.0, 0.0]])[:, None, None]
    inputs = {"images": images, "classes": torch.tensor([0, 0]), "maps": maps}
    for cls, expected in ((Road, [0, Flag.TIED]), (RoadLerf, [Flag.TIED, 0])):
        metric = cls(lambda images: images.flatten(1), steps=1)
        metric.update(**inputs)
        assert metric.latest[1].tolist() == expected


def test_an_order_that_is_none_is_refused(small_model, small_scene):
    with pytest.raises(ValueError, match="order must be most_first or least_first, got 'first'"):
        road(small_model, *small_scene, 4, order="first")
