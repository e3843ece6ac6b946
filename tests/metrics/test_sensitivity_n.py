import numpy as np
import pytest
import torch

from var_exp.metrics import SensitivityN
from var_exp.metrics.base import Flag
from var_exp.metrics.sensitivity_n import sensitivity_n
from var_exp.seeds import sample_generator


def loop(model, image, label, saliency, name, samples, shares, patch):
    """One size, one random set and one patch at a time; correlations by NumPy."""
    cells = [
        (slice(y, y + patch), slice(x, x + patch))
        for y in range(0, 8, patch)
        for x in range(0, 6, patch)
    ]
    generator = sample_generator(0, name)
    places = [torch.randperm(len(cells), generator=generator) for _ in range(samples)]
    correlations = []
    for share in shares:
        count = max(1, round(share * len(cells)))
        sums, drops = [], []
        for place in places:
            current, total = image.clone(), 0.0
            for cell, at in zip(cells, place.tolist(), strict=True):
                if at < count:
                    current[:, *cell] = 0
                    total += saliency[cell].sum().item()
            with torch.no_grad():
                drops.append((model(image[None]) - model(current[None]))[0, label].item())
            sums.append(total)
        correlations.append(np.corrcoef(sums, drops)[0, 1])
    return float(np.mean(correlations))


@pytest.mark.parametrize("patch", [1, 2, 4])
def test_equals_a_loop(small_model, small_scene, patch):
    ids = ["a", "b", "c"]
    shares = [0.008, 0.08, 0.8]
    got = sensitivity_n(small_model, *small_scene, 10, 3, patch, ids=ids)
    for i, (image, label, saliency) in enumerate(zip(*small_scene, strict=True)):
        expected = loop(small_model, image, label, saliency.sum(0), ids[i], 10, shares, patch)
        assert got[i].item() == pytest.approx(expected, rel=1e-9)


def test_the_truth_about_a_linear_score_correlates_perfectly():
    weights = torch.randn(1, 8, 8, generator=torch.Generator().manual_seed(0)).double()

    def linear(images):
        value = (images * weights).sum((1, 2, 3))
        return torch.stack([value, 1 - value], 1)

    images = torch.ones(1, 1, 8, 8).double()
    for factor, label, expected in ((1, 0, 1), (5, 0, 1), (-1, 0, -1), (1, 1, -1)):
        # sets of one size: what a map adds to every pixel does not matter
        maps = factor * weights[None] + 3
        score = sensitivity_n(linear, images, torch.tensor([label]), maps, 20, 4, 2)
        assert score.item() == pytest.approx(expected)


def test_maps_that_foretell_nothing_score_zero(small_model, small_scene):
    images, classes, maps = small_scene
    maps[0], maps[1] = 0.0, 0.1
    metric = SensitivityN(small_model, samples=8, patch=2)
    metric.update(images=images, classes=classes, maps=maps)
    scores, flags = metric.latest
    assert scores[:2].tolist() == [0, 0]
    assert flags.tolist() == [Flag.EMPTY_MAP, Flag.TIED, 0]


def test_undefined_where_the_model_does_not_react(small_scene):
    images, classes, maps = small_scene
    maps[0], maps[1, 0, 0, 0] = 0.0, torch.inf

    def dull(images):
        return torch.zeros(len(images), 5).double()

    metric = SensitivityN(dull, samples=8, patch=2)
    metric.update(images=images, classes=classes, maps=maps)
    scores, flags = metric.latest
    assert scores.isnan().all()
    assert flags.tolist() == [Flag.EMPTY_MAP, Flag.NON_FINITE, 0]


def test_random_maps_score_zero_in_the_mean(small_model, small_scene):
    images, classes = (t[:1] for t in small_scene[:2])
    count = 100
    maps = torch.randn(count, 1, 8, 6, generator=torch.Generator().manual_seed(0))
    images, classes = images.expand(count, -1, -1, -1), classes.expand(count)
    scores = sensitivity_n(small_model, images, classes, maps, 12, 3, 2, ids=["one"] * count)
    assert abs(scores.mean()) < 4 * scores.std() / count**0.5


def test_metric_draws_the_correlation_by_size(small_model, small_scene):
    images, classes, maps = small_scene
    metric = SensitivityN(small_model, samples=8, sizes=3, patch=2, score="probability")
    metric.update(images=images, classes=classes, maps=maps)
    assert metric.places() == pytest.approx([0.008, 0.08, 0.8])
    assert metric.curve().shape == (3,)
    assert metric.curve().mean().item() == pytest.approx(metric.compute().item(), rel=1e-5)
    assert SensitivityN(small_model, sizes=1).places() == [0.8]


def test_mistakes(small_model, small_scene):
    with pytest.raises(ValueError, match="samples must be at least 2, got 1"):
        sensitivity_n(small_model, *small_scene, samples=1)
    with pytest.raises(ValueError, match="sizes must be at least 1, got 0"):
        SensitivityN(small_model, sizes=0)


@pytest.mark.parametrize("scale", [1e-6, 1e6])
def test_the_scale_of_a_map_does_not_matter(small_model, small_scene, scale):
    images, classes, maps = small_scene
    expected = sensitivity_n(small_model, images, classes, maps, 10, 3, 2)
    found = sensitivity_n(small_model, images, classes, scale * maps, 10, 3, 2)
    torch.testing.assert_close(found, expected)
