"""What every refiner in conf/refine promises."""

import math

import pytest
import torch

from var_exp.conf_files import aliases
from var_exp.registry import from_alias

ALIASES = aliases("refine")


@pytest.fixture(params=ALIASES)
def refine(request):
    return from_alias("refine", request.param)


@pytest.fixture
def scene():
    generator = torch.Generator().manual_seed(0)
    maps = torch.randn(3, 4, 3, 8, 8, generator=generator)
    return maps, torch.randn(3, 4, generator=generator)


def as_kept(refine, maps):
    """The maps as the refiner keeps them: a VAR that sums the channels keeps one."""
    return maps.sum(2, keepdim=True) if getattr(refine, "channels", "") == "sum" else maps


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64, torch.bfloat16])
def test_shape_and_dtype(refine, scene, dtype):
    maps, logits = scene
    refined = refine(maps.to(dtype), logits)
    assert refined.shape == as_kept(refine, maps).shape
    assert refined.dtype == dtype


def test_permuting_the_classes_permutes_the_maps(refine, scene):
    maps, logits = scene
    order = torch.tensor([2, 0, 3, 1])
    expected = refine(maps, logits)[:, order]
    torch.testing.assert_close(refine(maps[:, order], logits[:, order]), expected)


def test_images_do_not_see_each_other(refine, scene):
    maps, logits = scene
    scaled = maps * torch.tensor([1.0, 50.0, 0.001])[:, None, None, None, None]
    alone = [refine(scaled[b : b + 1], logits[b : b + 1]) for b in range(3)]
    assert torch.equal(torch.cat(alone), refine(scaled, logits))


def test_pixels_and_channels_do_not_move(refine, scene):
    maps, logits = scene
    torch.testing.assert_close(
        refine(maps.flip(2, 3, 4), logits).flip(2, 3, 4), refine(maps, logits)
    )


def test_zero_maps_stay_zero(refine, scene):
    maps, logits = scene
    assert torch.equal(refine(maps * 0, logits), torch.zeros_like(as_kept(refine, maps)))


def test_sign_law(refine, scene):
    """A refiner weighs or subtracts; it never adds evidence to a class that stands alone."""
    maps, logits = scene
    maps[:, 1:] = 0
    refined, alone = refine(maps, logits)[:, 0], as_kept(refine, maps)[:, 0]
    assert ((refined == 0) | (refined.sign() == alone.sign())).all()
    assert (refined.abs() <= alone.abs()).all()


def test_nothing_finite_is_made_of_what_is_not(refine, scene):
    maps, logits = scene
    maps[1, 2, 0, 3, 3] = math.nan
    refined = refine(maps, logits)
    assert refined[1, 2].isnan().any()
    assert refined[[0, 2]].isfinite().all()


def test_input_is_left_alone_inside_inference_mode(refine, scene):
    maps, logits = scene
    before = maps.clone()
    with torch.inference_mode():
        inside = refine(maps, logits)
    assert torch.equal(inside, refine(maps, logits))
    assert torch.equal(maps, before)


@pytest.mark.parametrize("alias", [alias for alias in ALIASES if alias != "none"])
def test_nothing_competes(alias):
    refine = from_alias("refine", alias)
    with pytest.raises(ValueError, match="at least two classes must compete, got K=1"):
        refine(torch.zeros(1, 1, 3, 4, 4), torch.zeros(1, 1))
    with pytest.raises(ValueError, match=r"maps must be a float tensor \[B, K, c, H, W\]"):
        refine(torch.zeros(2, 3, 4, 4), torch.zeros(2, 3))
