"""F-Fidelity against a plain loop in float64, and a closed form."""

import pytest
import torch

from var_exp.metrics import FFidelity
from var_exp.metrics.functional import f_fidelity
from var_exp.seeds import sample_generator

IDS = ["a", "b", "c"]


def by_hand(model, images, classes, maps, marked, most, samples, patch):
    """Patches of 8 x 6 pictures, the last of a row or column smaller."""
    scores = []
    for image, label, map_, id in zip(images, classes.tolist(), maps.sum(1), IDS, strict=True):
        height, width = map_.shape
        cells = [
            [(y, x) for y in range(top, min(top + patch, height))
             for x in range(left, min(left + patch, width))]
            for top in range(0, height, patch)
            for left in range(0, width, patch)
        ]  # fmt: skip
        sums = [sum(map_[y, x].item() for y, x in cell) for cell in cells]
        order = sorted(range(len(cells)), key=lambda c: -sums[c])
        count = min(round(marked * len(cells)), len(cells) - 1)  # at least one is not marked
        removed = max(1, min(int(most * len(cells)), count, len(cells) - count))
        chance = torch.rand(samples, len(cells), generator=sample_generator(4, id)).tolist()
        means = []
        for some in (order[:count], order[count:]):
            total = 0.0
            for keys in chance:
                picture = image.clone()
                for cell in sorted(some, key=lambda c: keys[c])[:removed]:
                    for y, x in cells[cell]:
                        picture[:, y, x] = 0
                total += model(picture[None]).softmax(1)[0, label].item()
            means.append(total / samples)
        scores.append(means[1] - means[0])
    return torch.tensor(scores, dtype=torch.float64)


@pytest.mark.parametrize(
    ("marked", "most", "patch"), [(0.3, 0.2, 2), (0.5, 0.9, 3), (0.1, 0.1, 1), (0.99, 0.1, 2)]
)
def test_equals_a_plain_loop(small_model, small_scene, marked, most, patch):
    images, classes, maps = small_scene
    expected = by_hand(small_model, images, classes, maps, marked, most, 7, patch)
    options = {"marked": marked, "most": most, "samples": 7, "patch": patch}
    found = f_fidelity(small_model, images, classes, maps, **options, ids=IDS, seed=4)
    torch.testing.assert_close(found, expected)
    metric = FFidelity(small_model, **options, seed=4)
    metric.update(images=images, classes=classes, maps=maps, ids=IDS)
    torch.testing.assert_close(metric.latest[0], expected)


def test_a_sum_over_a_part_of_the_picture_has_a_closed_form():
    """The logit counts the pixels of the upper half: each patch there costs its size."""
    images = torch.ones(1, 1, 8, 8, dtype=torch.float64)

    def model(pictures):
        seen = pictures[:, 0, :4].sum((1, 2))
        return torch.stack([seen, torch.zeros_like(seen)], 1)

    region = torch.zeros_like(images)
    region[:, :, :4] = 1
    given = model, images, torch.tensor([0])
    options = {"marked": 0.5, "most": 0.2, "patch": 2, "score": "logit"}
    three = 3 * 4.0  # patches of 4 pixels: a fifth of 16 patches
    assert f_fidelity(*given, region, **options).item() == three
    assert f_fidelity(*given, -region, **options).item() == -three
    many = images.expand(300, -1, -1, -1), torch.zeros(300, dtype=torch.int64)
    nothing = torch.ones(300, 1, 8, 8, dtype=torch.float64)  # each marks patches by chance
    ids = [str(n) for n in range(300)]
    by_chance = f_fidelity(model, *many, nothing, **options, ids=ids)
    assert by_chance.mean().abs() < 4 * by_chance.std() / 300**0.5
    assert by_chance.std() < three / 2


def test_maps_of_a_picture_meet_the_same_chance(small_model, small_scene):
    images, classes, maps = small_scene
    both = torch.cat([images[:1], images[:1]]), classes[:1].repeat(2), maps[:1].repeat(2, 1, 1, 1)
    first, second = f_fidelity(small_model, *both, ids=["a", "a"], patch=2)
    other = f_fidelity(small_model, *both, ids=["a", "b"], patch=2)
    assert first == second == other[0] != other[1]


def test_options_out_of_range(small_model):
    for name in ("marked", "most"):
        with pytest.raises(ValueError, match=f"{name} must be a share above 0 and below 1, got 1"):
            FFidelity(small_model, **{name: 1.0})
    with pytest.raises(ValueError, match="samples must be at least 1"):
        FFidelity(small_model, samples=0)
