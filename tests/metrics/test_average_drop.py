import pytest
import torch

from var_exp.metrics import AverageDrop, AverageIncrease, DeletionAUC, Perturber
from var_exp.metrics.average_drop import average_drop, average_increase
from var_exp.metrics.base import Flag


def loop(model, images, classes, maps):
    """Probabilities of every picture as it is and times its mask, one at a time."""
    pairs = []
    for image, label, channels in zip(images, classes.tolist(), maps, strict=True):
        size = channels.sum(0).abs()
        mask = (size - size.min()) / (size.max() - size.min())
        with torch.no_grad():
            shown = [model(x[None]).softmax(1)[0, label].item() for x in (image, image * mask)]
        pairs.append(shown)
    return pairs


def test_equals_a_loop(small_model, small_scene):
    images, classes, maps = (t.repeat(4, *[1] * (t.ndim - 1)) for t in small_scene)
    maps = torch.randn(maps.shape, generator=torch.Generator().manual_seed(2)).double()
    pairs = loop(small_model, images, classes, maps)
    drops = torch.tensor([max(0.0, y - o) / y for y, o in pairs]).double()
    rises = torch.tensor([float(o > y) for y, o in pairs]).double()
    assert 0 < rises.mean() < 1
    for max_batch in (1, 5, 64):
        given = (small_model, images, classes, maps)
        torch.testing.assert_close(
            average_drop(*given, max_batch=max_batch), drops, rtol=1e-6, atol=1e-7
        )
        assert torch.equal(average_increase(*given, max_batch=max_batch), rises)


def test_closed_forms():
    """The class is seen in the left half, its rival in the right one: p = σ(4 left - 4 right)."""

    def predict(images):
        halves = images.mean((1, 2)).unflatten(1, (2, 2)).mean(2)
        return 4 * halves

    image, classes = torch.ones(1, 1, 4, 4), torch.tensor([0])
    left = torch.zeros(1, 1, 4, 4)
    left[..., :2] = 3
    p = torch.sigmoid(torch.tensor([4.0, -4.0])).double()
    # both halves seen: p = 1/2; the left alone σ(4), the right alone σ(-4), nothing 1/2 again
    for maps, drop, rise in (
        (left, 0.0, 1),
        (-left, 0.0, 1),  # by magnitude
        (3 - left, 1 - 2 * p[1].item(), 0),
        (torch.zeros(1, 1, 4, 4), 0.0, 0),
    ):
        assert average_drop(predict, image, classes, maps).item() == pytest.approx(drop, abs=1e-6)
        assert average_increase(predict, image, classes, maps).item() == rise


def test_edge_cases_are_flagged(small_model, small_scene):
    images, classes, maps = small_scene
    images, classes = images[:1].expand(5, -1, -1, -1), classes[:1].expand(5)
    maps = maps[:1].repeat(5, 1, 1, 1)
    maps[1], maps[2] = 0, 0.1
    maps[3, 0, 0, 0], maps[4, 0, 0, 0] = torch.nan, torch.inf
    for metric in (AverageDrop(small_model), AverageIncrease(small_model)):
        metric.update(images=images, classes=classes, maps=maps)
        scores, flags = metric.latest
        assert scores.isnan().tolist() == [False, False, True, True, True]
        assert flags.tolist() == [
            0,
            Flag.EMPTY_MAP | Flag.TIED,
            Flag.TIED,
            Flag.NON_FINITE,
            Flag.NON_FINITE,
        ]


def test_the_whole_picture_is_shared_with_deletion(small_model, small_scene):
    images, classes, maps = small_scene
    shown = []

    def counting(pictures):
        shown.extend(pictures)
        return small_model(pictures)

    shared = Perturber(counting)
    metrics = [
        DeletionAUC(shared, steps=6, seed=3),
        AverageDrop(shared, seed=3),
        AverageIncrease(shared, seed=3),
        DeletionAUC(shared, steps=6, seed=3, score="logit"),
    ]
    for metric in metrics:
        metric.update(images=images, classes=classes, maps=maps, ids=["a", "b", "c"])
    assert len(shown) == 3 * (7 + 1 + 1)


def test_mistakes(small_model, small_scene):
    images, classes, maps = small_scene
    with pytest.raises(ValueError, match="must have one N"):
        average_drop(small_model, images, classes[:2], maps)
    with pytest.raises(ValueError, match="must be at least 1"):
        AverageDrop(small_model, max_batch=0)


@pytest.mark.parametrize("scale", [1e-9, 1e9])
def test_the_scale_of_a_map_does_not_matter_and_makes_no_ties(small_model, small_scene, scale):
    images, classes, maps = small_scene
    metric = AverageDrop(small_model)
    metric.update(images=images, classes=classes, maps=scale * maps)
    torch.testing.assert_close(metric.latest[0], average_drop(small_model, images, classes, maps))
    assert metric.latest[1].tolist() == [0, 0, 0]
