"""Interventions against a plain loop: mask the pixels, ask the model, subtract."""

import math

import pytest
import torch

from var_exp.metrics import Intervention
from var_exp.metrics.intervention import intervention

SIDE, CLASSES = 6, 5
IDS = ["one"] * 3 + ["two"] * 3
ASKED = torch.tensor([[4, 0, 2]] * 3 + [[1, 3, 0]] * 3)
OWN = torch.tensor([0, 1, 2] * 2)


@pytest.fixture
def scene():
    generator = torch.Generator().manual_seed(0)
    images = torch.randn(2, 3, SIDE, SIDE, generator=generator).double().repeat_interleave(3, 0)
    maps = torch.randn(6, 2, SIDE, SIDE, generator=generator)
    weights = torch.randn(3 * SIDE * SIDE, CLASSES, generator=generator).double()
    classes = ASKED.gather(1, OWN[:, None])[:, 0]
    return lambda pictures: pictures.double().flatten(1) @ weights * 0.1, images, classes, maps


def by_loop(model, image, asked, maps, mode, marked, filling):
    """Probabilities of the classes before and after, of one map."""
    strength = maps.sum(0).flatten().tolist()
    first = sorted(range(SIDE**2), key=lambda place: -strength[place])[:marked]
    changed = image.clone().flatten(1)
    for place in range(SIDE**2):
        if (place in first) == (mode == "deleted"):
            changed[:, place] = filling.flatten(1)[:, place]
    before, after = (
        model(picture[None])[0].softmax(0)[asked] for picture in (image, changed.view_as(image))
    )
    return before, after


@pytest.mark.parametrize("mode", ["deleted", "kept"])
@pytest.mark.parametrize("baseline", ["zero", "mean"])
def test_scores_and_matrix_are_those_of_a_plain_loop(scene, mode, baseline):
    model, images, classes, maps = scene
    metric = Intervention(model, mode, share=0.25, baseline=baseline)
    metric.update(images=images, classes=classes, asked=ASKED, own=OWN, maps=maps, ids=IDS)
    lines, leads = torch.zeros(3, 3).double(), []
    for n, own in enumerate(OWN.tolist()):
        filling = torch.zeros_like(images[n])
        if baseline == "mean":
            filling = images[n].mean((1, 2), keepdim=True).expand(-1, SIDE, SIDE)
        before, after = by_loop(model, images[n], ASKED[n], maps[n], mode, 9, filling)
        lines[own] += (after - before) / 2
        gain = (after if mode == "kept" else before - after).tolist()
        leads.append(gain[own] - max(gain[:own] + gain[own + 1 :]))
    assert metric.latest[0].tolist() == pytest.approx(leads, abs=1e-9)
    torch.testing.assert_close(metric.matrix(), lines)
    assert metric.compute().item() == pytest.approx(math.fsum(leads) / 6)


def test_probabilities_of_the_function(scene):
    model, images, classes, maps = scene
    before, after = intervention(model, images, classes, ASKED, maps, "kept", 0.5, ids=IDS)
    zero = torch.zeros_like(images[0])
    for n in range(6):
        expected = by_loop(model, images[n], ASKED[n], maps[n], "kept", 18, zero)
        torch.testing.assert_close(before[n], expected[0])
        torch.testing.assert_close(after[n], expected[1])


def test_of_a_model_that_reads_one_quarter_for_each_class_the_quarters_score_best():
    """The class's own pixels gone, it alone falls; they alone kept, it alone stays."""
    quarters = torch.eye(4).view(4, 2, 2).repeat_interleave(4, 1).repeat_interleave(4, 2)

    def model(pictures):
        return 8 * (pictures.mean(1)[:, None] * quarters).mean((2, 3)) * 4

    given = {
        "images": torch.ones(4, 3, 8, 8),
        "classes": torch.arange(4),
        "asked": torch.arange(4).expand(4, 4),
        "own": torch.arange(4),
        "ids": ["one"] * 4,
    }
    without, alone = math.exp(-8), math.exp(8)
    for mode, score in (
        ("deleted", 0.25 - without / (3 + without) + (1 / (3 + without) - 0.25)),
        ("kept", (alone - 1) / (alone + 3)),
    ):
        metric = Intervention(model, mode)
        metric.update(maps=quarters[:, None], **given)
        assert metric.compute().item() == pytest.approx(score, abs=1e-6)
        metric.reset()
        metric.update(maps=quarters[:, None].roll(1, 0), **given)  # the pixels of another class
        assert metric.compute().item() < 0
    metric.reset()
    metric.update(maps=torch.ones(4, 1, 8, 8), **given)  # for every class the same random pixels
    assert metric.compute().item() < 0.5


def test_a_map_that_is_not_finite_is_undefined(scene):
    model, images, classes, maps = scene
    maps[1, 0, 0, 0] = math.nan
    metric = Intervention(model)
    metric.update(images=images, classes=classes, asked=ASKED, own=OWN, maps=maps, ids=IDS)
    assert metric.latest[0].isnan().tolist() == [n == 1 for n in range(6)]
    assert metric.matrix().isfinite().all()


def test_refusals(scene):
    model, images, classes, maps = scene
    with pytest.raises(ValueError, match="share must be above 0 and below 1, got 1"):
        Intervention(model, share=1)
    with pytest.raises(ValueError, match="mode must be deleted or kept, got 'gone'"):
        Intervention(model, "gone")
    with pytest.raises(ValueError, match="two classes or more, got one"):
        Intervention(model).update(
            images=images, classes=classes, asked=ASKED[:, :1], own=OWN, maps=maps
        )


def test_a_score_is_the_difference_of_two_changes_where_the_map_is_deleted(small_model):
    assert Intervention(small_model, "deleted").bounds == (-2, 2)
    assert Intervention(small_model, "kept").bounds == (-1, 1)
