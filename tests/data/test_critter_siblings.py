"""Sibling pairs: the truth by construction, checked by drawing the pictures again."""

import numpy as np
import pytest
import torch

from var_exp.data.critter_drawing import REMOVABLE
from var_exp.data.critter_siblings import CritterSiblings
from var_exp.data.critters import Critters, part_indices
from var_exp.types import ConfigError


def shared_parts(sample):
    return sum(
        a == b
        for a, b in zip(
            part_indices(int(sample.classes)), part_indices(int(sample.competitors)), strict=True
        )
    )


COMMON = {"differing": 1, "kept": 0, "tail": 1, "shared": 1}


@pytest.mark.parametrize(("asked", "shared"), COMMON.items())
def test_rivals_share_as_many_parts_as_the_question_needs(asked, shared):
    data = CritterSiblings(40, asked=asked)
    samples = [data[i] for i in range(40)]
    assert {shared_parts(sample) for sample in samples} == {shared}
    assert len({sample.id for sample in samples}) == 40
    for index, sample in enumerate(samples):
        assert data.label(index) == int(sample.classes)
        assert sample.regions.shape == sample.scope.shape == (1, 64, 64)
        assert not (sample.regions & ~sample.scope).any()


def test_the_two_pictures_of_a_scene_differ_where_the_regions_are():
    data = CritterSiblings(60)
    for i in range(0, 60, 2):
        first, second = data[i], data[i + 1]
        assert torch.equal(first.classes, second.competitors)
        assert torch.equal(first.competitors, second.classes)
        changed = (first.image - second.image).abs().amax(0) > 1e-6
        regions = first.regions | second.regions
        # a pixel of the rim belongs to what covers more than half of it, not to a thin feeler
        reach = torch.nn.functional.max_pool2d(regions.float(), 5, stride=1, padding=2)[0] > 0
        assert not (changed & ~reach).any()
        assert (changed & regions[0]).sum() > 10


def test_region_is_the_part_that_differs():
    data, scenes = CritterSiblings(30), Critters(15)
    seen = set()
    for i in range(0, 30, 2):  # the first picture of a scene is the scene of Critters
        sample = data[i]
        assert torch.equal(sample.image, scenes[i // 2].image)
        parts = scenes.parts(i // 2)[0]
        here, there = (part_indices(int(c)) for c in (sample.classes, sample.competitors))
        place = 1 if here[0] != there[0] else 2
        assert torch.equal(sample.regions[0], parts[place])
        assert torch.equal(sample.scope[0], parts.any(0))
        seen.add(place)
    assert seen == {1, 2}  # both kinds occur


def test_kept_and_tail_regions():
    scenes = Critters(5)
    for i in range(0, 10, 2):
        parts = scenes.parts(i // 2)[0]
        kept, tail = CritterSiblings(10, asked="kept")[i], CritterSiblings(10, asked="tail")[i]
        assert torch.equal(kept.regions[0], parts[1] | parts[2])
        assert torch.equal(tail.regions[0], parts[3])
        shared = CritterSiblings(10, asked="shared")
        both = shared[i].scope[0] & ~parts[3]
        assert torch.equal(shared[i].regions[0], both & ~CritterSiblings(10)[i].regions[0])


def test_a_picture_without_a_part_is_the_same_elsewhere():
    data = CritterSiblings(30, parts=True)
    for i in range(30):
        sample, plain = data[i], CritterSiblings(30)[i]
        assert torch.equal(sample.image, plain.image)
        assert plain.without is None
        # what is painted over leaves its rounding behind
        changed = ((sample.without - sample.image).abs() > 1e-6).any(1)
        assert changed.shape == (len(REMOVABLE), 64, 64)
        assert changed.any((1, 2)).all()
        part = sample.regions[0]  # the first is the one that differs
        reach = torch.nn.functional.max_pool2d(part[None].float(), 5, 1, 2)[0] > 0
        assert not (changed[0] & ~reach).any()
        assert (changed[0] & part).sum() >= 0.9 * part.sum()


def test_a_picture_does_not_depend_on_the_count():
    assert torch.equal(CritterSiblings(4)[3].image, CritterSiblings(41)[3].image)
    assert len(CritterSiblings(41)) == 41
    assert np.unique([CritterSiblings(400).classes(i)[1] for i in range(400)]).size == 16


def test_impossible_options():
    with pytest.raises(
        ConfigError, match="asked must be one of differing, kept, tail, shared, got"
    ):
        CritterSiblings(asked="x")
    with pytest.raises(ConfigError, match="parts=true goes with asked=differing, got tail"):
        CritterSiblings(asked="tail", parts=True)
    with pytest.raises(ConfigError, match="count must be between"):
        CritterSiblings(count=0)
    with pytest.raises(IndexError):
        CritterSiblings(4)[4]
