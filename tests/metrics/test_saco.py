"""SaCo against a plain loop over pairs of groups in float64."""

import pytest
import torch

from var_exp.metrics import SaCo
from var_exp.metrics.functional import saco


def by_hand(model, images, classes, maps, groups):
    scores = []
    for image, label, map_ in zip(images, classes.tolist(), maps.sum(1), strict=True):
        order = sorted(range(map_.numel()), key=lambda p: -map_.flatten()[p].item())
        cells = len(order)
        cuts = [round(g * cells / groups) for g in range(groups + 1)]
        whole = model(image[None]).softmax(1)[0, label].item()
        said, drops = [], []
        for g in range(groups):
            inside = order[cuts[g] : cuts[g + 1]]
            without = image.clone().flatten(1)
            for c in range(3):
                without[c, inside] = image[c].mean()
            drops.append(whole - model(without.view_as(image)[None]).softmax(1)[0, label].item())
            said.append(sum(map_.flatten()[p].item() for p in inside) / len(inside))
        score = total = 0.0
        for i in range(groups - 1):
            for j in range(i + 1, groups):
                weight = said[i] - said[j]
                score += weight if drops[i] >= drops[j] else -weight
                total += abs(weight)
        scores.append(score / total)
    return torch.tensor(scores, dtype=torch.float64)


@pytest.mark.parametrize("groups", [2, 5, 10])
def test_equals_a_plain_loop(small_model, small_scene, groups):
    images, classes, maps = small_scene
    expected = by_hand(small_model, images, classes, maps, groups)
    torch.testing.assert_close(saco(small_model, images, classes, maps, groups), expected)
    metric = SaCo(small_model, groups)
    metric.update(images=images, classes=classes, maps=maps)
    torch.testing.assert_close(metric.latest[0], expected)


def test_a_sum_of_pixels_is_ranked_rightly_by_what_each_is_worth():
    """Logit: the sum of w x. Without a group it loses the sum of w (x - mean) there."""
    generator = torch.Generator().manual_seed(0)
    images = torch.randn(4, 1, 8, 8, generator=generator, dtype=torch.float64)
    images -= images.mean((2, 3), keepdim=True)
    weights = torch.randn(1, 8, 8, generator=generator, dtype=torch.float64)

    def model(pictures):
        seen = (pictures * weights).sum((1, 2, 3))
        return torch.stack([seen, torch.zeros_like(seen)], 1)

    given = model, images, torch.zeros(4, dtype=torch.int64)
    ones = torch.ones(4, dtype=torch.float64)
    torch.testing.assert_close(saco(*given, images * weights, score="logit"), ones)
    torch.testing.assert_close(saco(*given, -images * weights, score="logit"), -ones)


def test_groups_that_are_said_to_be_alike_do_not_count(small_model, small_scene):
    images, classes, maps = small_scene
    constant = torch.ones_like(maps)
    assert (saco(small_model, images, classes, constant) == 0).all()
    sparse = torch.zeros(3, 1, 8, 6, dtype=torch.float64)
    sparse[:, :, 2:4, 1:3] = 1  # 4 of 48 pixels: one group of 4 or 5 that is not zero, and 9 alike
    assert saco(small_model, images, classes, sparse, 12).abs().max() <= 1


def test_one_group_is_refused(small_model):
    with pytest.raises(ValueError, match="groups must be at least 2, got 1; the paper takes 10"):
        SaCo(small_model, groups=1)


def test_the_scale_of_a_map_matters_neither_to_it_nor_to_its_neighbours(small_model, small_scene):
    images, classes, maps = small_scene
    scales = torch.tensor([1.0, 1e-14, 1e14]).double().view(3, 1, 1, 1)
    expected = saco(small_model, images, classes, maps, 5)
    torch.testing.assert_close(saco(small_model, images, classes, scales * maps, 5), expected)
