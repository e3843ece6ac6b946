"""Every check lets right maps pass and stops wrong ones."""

from dataclasses import replace

import pytest
import torch
from architectures import ARCHITECTURES, subject

from var_exp.methods import get_method
from var_exp.support.checks import CHECKS
from var_exp.support.checks.case import Case
from var_exp.support.networks import Subject
from var_exp.types import UnsupportedModel

WRONG = {
    "a share too large": lambda maps: 1.01 * maps,
    "other signs": lambda maps: -maps,
    "classes in another order": lambda maps: maps.roll(1, 0),
    "moved by a pixel": lambda maps: maps.roll(1, 3),
    "one half empty": lambda maps: maps * (torch.arange(maps.shape[3]) < maps.shape[3] // 2),
}


@pytest.fixture(scope="module")
def subjects() -> list[Subject]:
    names = ("torchvision/resnet18", "timm/vit_base_patch16_224")
    return [subject(each, small=True) for each in ARCHITECTURES if each.name in names]


def case_of(alias: str, subjects: list[Subject]) -> Case:
    """A case on the first network that the method supports."""
    method = get_method(alias, **CHECKS[alias].options)
    for on in subjects:
        try:
            maps = method.attribute(on.model, on.images[:1], on.classes[:1], ids=["a"])
        except UnsupportedModel:
            continue
        return Case(method, on.model, on.images[:1], on.classes[:1], "a", maps[0].double())
    raise AssertionError(f"{alias} supports neither network")


@pytest.mark.parametrize("alias", CHECKS)
def test_a_check_passes_right_maps_and_no_wrong_ones(alias, subjects):
    check, case = CHECKS[alias], case_of(alias, subjects)
    assert check.error(case) <= check.limit
    for name, wrong in WRONG.items():
        if name == "classes in another order" and not case.method.class_specific:
            continue
        assert check.error(replace(case, maps=wrong(case.maps))) > 10 * check.limit, name


@pytest.mark.parametrize("alias", CHECKS)
def test_what_is_recomputed_is_said_in_a_sentence_of_one_line(alias):
    says = CHECKS[alias].error.__doc__
    assert says is not None
    assert says.endswith(".")
    assert "\n" not in says
