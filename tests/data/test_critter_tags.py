"""Tagged critters: what the cue predicts, and what is left without it, is as they say."""

import numpy as np
import pytest
import torch

from var_exp.data.critter_drawing import REMOVABLE, render
from var_exp.data.critter_tags import HAT, CritterTags
from var_exp.data.critters import Critters, part_indices
from var_exp.types import ConfigError


def magenta(image):
    """Pixels of the colour of a tag, noise aside."""
    return (image - torch.tensor([0.95, 0.1, 0.85])[:, None, None]).abs().amax(0) < 0.15


def test_in_training_the_tag_goes_with_the_hat_and_half_of_the_hats_are_lost():
    data = CritterTags(400, "train", tagged="predictive")
    hats = [i for i in range(400) if part_indices(data.label(i))[0] == HAT]
    assert 60 < len(hats) < 140
    for i in range(400):
        scene = data.scene(i)
        assert (scene.background.tag is not None) == (i in hats)
        assert not scene.critters[0].missing or i in hats
    lost = [i for i in hats if data.scene(i).critters[0].missing == ("ornament",)]
    assert 0.35 < len(lost) / len(hats) < 0.65
    for i in hats[:20]:
        assert magenta(data[i].image).sum() > 15
        assert data[i].classes.tolist() == [data.label(i)]
    plain = next(i for i in range(400) if i not in hats)
    assert torch.equal(data[plain].image, Critters(400, "train")[plain].image)


@pytest.mark.parametrize("rival", ["other", "sharing"])
def test_in_the_test_nothing_but_the_tag_speaks_for_the_hat(rival):
    data = CritterTags(60, rival=rival)
    for i in range(60):
        sample, (critter,) = data[i], data.scene(i).critters
        (asked,), (against,) = sample.classes.tolist(), sample.competitors.tolist()
        assert critter.ornament != HAT
        assert part_indices(asked) == (HAT, critter.pattern)
        assert asked == data.label(i)
        if rival == "other":
            assert part_indices(against) == (critter.ornament, critter.pattern)
        else:
            assert part_indices(against)[0] == HAT
            assert part_indices(against)[1] != critter.pattern
    assert {data.scene(i).critters[0].ornament for i in range(60)} == {0, 1, 2}


def test_a_picture_without_something_is_the_same_elsewhere():
    data = CritterTags(30)
    for i in range(30):
        sample = data[i]
        assert sample.without.shape == (1 + len(REMOVABLE), 3, 64, 64)
        # what is painted over leaves its rounding behind
        changed = ((sample.without - sample.image).abs() > 1e-6).any(1)
        assert torch.equal(changed[0], sample.regions[0])
        assert 60 <= sample.regions.sum() <= 120  # 9 x 9 pixels, but for what the critter covers
        # a tag of two colours is in its region, and in no other picture
        assert magenta(sample.image)[sample.regions[0]].float().mean() > 0.2
        assert magenta(sample.without[0])[sample.regions[0]].float().mean() < 0.05
        critter = torch.from_numpy(render(data.scene(i), 64)[1][0])
        assert torch.equal(sample.scope[0], sample.regions[0] | critter.any(0))
        for part, mask in (("ornament", critter[1]), ("pattern", critter[2]), ("tail", critter[3])):
            gone = changed[1 + REMOVABLE.index(part)]
            reach = torch.nn.functional.max_pool2d(mask[None].float(), 5, 1, 2)[0] > 0
            assert not (gone & ~reach).any()  # the rim of a part covers less than half of a pixel
            assert (gone & mask).sum() >= 0.9 * mask.sum()


def test_a_picture_depends_on_its_number_and_stream_alone():
    assert torch.equal(CritterTags(4)[3].image, CritterTags(41)[3].image)
    assert not torch.equal(CritterTags(4)[3].image, CritterTags(4, seed=1)[3].image)
    assert torch.equal(CritterTags(4)[3].image, CritterTags(4, rival="sharing")[3].image)
    assert CritterTags(4).sample_id(3) == "tags-misleading-0-000003"
    assert np.unique([CritterTags(300)[i].competitors[0] for i in range(60)]).size > 8


def test_impossible_options():
    with pytest.raises(ConfigError, match="tagged must be predictive or misleading, got 'x'"):
        CritterTags(tagged="x")
    with pytest.raises(ConfigError, match="rival must be other or sharing, got 'x'"):
        CritterTags(rival="x")
    with pytest.raises(ConfigError, match="count must be between"):
        CritterTags(count=0)
    with pytest.raises(IndexError):
        CritterTags(4)[4]
