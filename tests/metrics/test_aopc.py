import pytest
import torch

from var_exp.metrics import AOPC
from var_exp.metrics.aopc import aopc
from var_exp.metrics.base import Flag


def loop(model, images, classes, maps, regions, patch):
    """One image and one patch at a time, strongest first, blanked."""
    scores = []
    height, width = images.shape[2:]
    for image, label, saliency in zip(images, classes, maps.sum(1), strict=True):
        corners = [(y, x) for y in range(0, height, patch) for x in range(0, width, patch)]

        def patch_at(corner):
            return slice(corner[0], corner[0] + patch), slice(corner[1], corner[1] + patch)

        corners.sort(key=lambda c, s=saliency: -s[patch_at(c)].sum())
        current, drops = image.clone(), []
        with torch.no_grad():
            whole = model(image[None]).softmax(1)[0, label].item()
            for gone in range(min(regions, len(corners)) + 1):
                if gone:
                    rows, columns = patch_at(corners[gone - 1])
                    current[:, rows, columns] = 0
                drops.append(whole - model(current[None]).softmax(1)[0, label].item())
        scores.append(sum(drops) / len(drops))
    return torch.tensor(scores, dtype=torch.float64)


@pytest.mark.parametrize("patch", [1, 2, 3, 5])  # 5 leaves smaller patches at two edges
@pytest.mark.parametrize("regions", [1, 4, 1000])
def test_equals_a_loop(small_model, small_scene, patch, regions):
    expected = loop(small_model, *small_scene, regions, patch)
    torch.testing.assert_close(aopc(small_model, *small_scene, regions, patch), expected)


def test_a_hundred_regions_of_eight_pixels_unless_asked_otherwise(small_model):
    """A picture of 121 such regions, of which the last 21 stay."""
    generator = torch.Generator().manual_seed(0)
    images, maps = (torch.randn(1, 3, 88, 88, generator=generator) for _ in range(2))
    images, maps, classes = images.double(), maps.double(), torch.tensor([1])

    def predict(inputs):
        return small_model(inputs[:, :, ::11, ::11][..., :6])

    expected = loop(predict, images, classes, maps, 100, 8)
    torch.testing.assert_close(aopc(predict, images, classes, maps), expected)
    metric = AOPC(predict)
    metric.update(images=images, classes=classes, maps=maps)
    torch.testing.assert_close(metric.latest[0], expected)


def test_linear_score_has_a_closed_form():
    """Each patch is worth its rank, so k patches take L + (L - 1) + …; ranked backwards less."""
    worth = torch.tensor([[4.0, 3.0], [2.0, 1.0]])
    weights = worth.repeat_interleave(2, 0).repeat_interleave(2, 1)[None, None] / 4

    def predict(images):
        value = (images * weights).sum((1, 2, 3))
        return torch.stack([value, -value], 1)

    inputs = (torch.ones(1, 1, 4, 4), torch.tensor([0]))
    best = aopc(predict, *inputs, weights, 4, 2, score="logit")
    assert best.item() == pytest.approx((0 + 4 + 7 + 9 + 10) / 5)
    worst = aopc(predict, *inputs, -weights, 4, 2, score="logit")
    assert worst.item() == pytest.approx((0 + 1 + 3 + 6 + 10) / 5)


def test_edge_cases_are_flagged(small_model, small_scene):
    images, classes, maps = small_scene
    maps[0], maps[1, 0, 0, 0] = 0, torch.nan
    metric = AOPC(small_model, regions=4, patch=2)
    metric.update(images=images, classes=classes, maps=maps)
    scores, flags = metric.latest
    assert flags.tolist() == [Flag.EMPTY_MAP | Flag.TIED, Flag.NON_FINITE, 0]
    assert scores.isnan().tolist() == [False, True, False]


def test_mistakes(small_model, small_scene):
    with pytest.raises(ValueError, match="patch must be at least 1, got 0; set patch=1 or more"):
        aopc(small_model, *small_scene, patch=0)
    with pytest.raises(ValueError, match="regions must be at least 1, got 0"):
        AOPC(small_model, regions=0)
