import io
import re

import numpy as np
import pytest
import torch
from PIL import Image

from var_exp.report.overlays import (
    class_colours,
    decided,
    greyed,
    note,
    outline_path,
    overlay,
    rgb_of,
    scale_colours,
    scale_of,
    thinned,
    winners,
    won,
)

IMAGE = torch.randint(0, 256, (3, 12, 16), dtype=torch.uint8, generator=torch.Generator())


def over_grey(values, scale, region=None):
    grey = greyed(IMAGE).convert("RGBA")
    return np.asarray(
        Image.alpha_composite(grey, overlay(values, scale, region).convert("RGBA")).convert("RGB")
    ).astype(int)


def test_a_zero_map_leaves_the_greyed_image():
    grey = np.asarray(greyed(IMAGE).convert("RGB"))
    for scale in (0.0, 1.0):
        np.testing.assert_array_equal(over_grey(torch.zeros(12, 16), scale), grey)
    assert (grey[..., 0] == grey[..., 1]).all()
    assert len(np.unique(grey)) > 20  # still a picture


def test_red_for_blue_against_and_nothing_elsewhere():
    values = torch.zeros(12, 16)
    values[3, 5], values[9, 14] = 1.0, -1.0
    drawn, grey = over_grey(values, 1.0), np.asarray(greyed(IMAGE).convert("RGB")).astype(int)
    changed = (drawn != grey).any(-1)
    assert {tuple(place) for place in np.argwhere(changed)} == {(3, 5), (9, 14)}
    assert drawn[3, 5, 0] > drawn[3, 5, 2] + 80
    assert drawn[9, 14, 2] > drawn[9, 14, 0] + 80


def test_stronger_values_are_stronger_colours_up_to_the_scale():
    values = torch.zeros(12, 16)
    values[0, :5] = torch.tensor([0.05, 0.2, 0.5, 1.0, 40.0])
    opacity = np.asarray(overlay(values, 1.0).convert("RGBA"))[0, :6, 3].astype(int)
    assert (np.diff(opacity[:4]) > 0).all()
    assert opacity[3] == opacity[4] == 255
    assert opacity[:3] == pytest.approx(255 * np.array([0.05, 0.2, 0.5]) ** 0.6, abs=3)
    assert opacity[5] == 0


def test_scale_is_shared_symmetric_and_robust():
    maps = torch.zeros(2, 100, 100)
    maps[0].view(-1)[:1000] = torch.linspace(0.001, 1.0, 1000)
    assert scale_of(maps) == pytest.approx(0.98, abs=0.002)  # zeros do not move it
    assert scale_of(-maps) == scale_of(maps) == scale_of(maps.flip(0))
    maps[1, 50, 50] = 1e6
    assert scale_of(maps) < 1.01
    maps[1, :20, :20] = torch.tensor([torch.nan, torch.inf]).repeat(10)
    assert scale_of(maps) < 1.01
    assert scale_of(torch.zeros(2, 4, 4)) == 0.0


def test_region_is_outlined_inside_its_edge():
    region = torch.zeros(12, 16, dtype=torch.bool)
    region[2:8, 10:16] = True  # touches the right edge of the picture
    drawn, grey = over_grey(torch.zeros(12, 16), 1.0, region), np.asarray(greyed(IMAGE))
    dark = (drawn == 20).all(-1)
    expected = np.zeros((12, 16), dtype=bool)
    expected[2:8, 10:16] = True
    expected[3:7, 11:15] = False
    np.testing.assert_array_equal(dark, expected)
    np.testing.assert_array_equal(drawn[~expected][:, 0], grey[~expected])


def test_what_is_not_finite_is_not_drawn_but_said():
    values = torch.zeros(12, 16)
    values[0, :3] = torch.tensor([torch.nan, torch.inf, -torch.inf])
    assert (np.asarray(overlay(values, 1.0).convert("RGBA"))[..., 3] == 0).all()
    assert note(values) == "not finite in 3 pixels"
    assert note(torch.zeros(3, 3)) == "empty map"
    assert note(torch.eye(3)) == ""


def test_overlay_of_noise_stays_small():
    noise = torch.randn(224, 224, generator=torch.Generator().manual_seed(0))
    buffer = io.BytesIO()
    overlay(noise, 3.0).save(buffer, "PNG", optimize=True)
    assert buffer.tell() < 45_000
    assert Image.open(buffer).convert("RGBA").getextrema()[3] == (0, 255)


def test_winners_wear_the_colour_of_their_class_and_ties_are_clear():
    shares = torch.tensor([[1.0, 0.0, 0.0, 0.4], [0.0, 1.0, 0.5, 0.3], [0.0, 0.0, 0.5, 0.3]])
    values = torch.full((3, 1, 4), 2.0)
    pixels = np.asarray(winners(shares.view(3, 1, 4), values, 2.0))
    for place, label in ((0, 0), (1, 1), (3, 0)):
        assert pixels[0, place, :3].tolist() == list(rgb_of(class_colours(3)[label]))
    assert pixels[0, :, 3].tolist()[:3] == [255, 255, 0]
    above = [0.4 - 1 / 3, 2 / 3]  # of the last pixel, and of the clearest
    assert pixels[0, 3, 3] == pytest.approx(255 * (above[0] / above[1]) ** 0.6, abs=4)


def test_who_wins_by_losing_least_or_with_little_is_not_painted_as_one_that_has_evidence():
    shares = torch.tensor([0.8, 0.2]).view(2, 1, 1).expand(2, 1, 5)
    values = torch.tensor([[3.0, 1.0, 0.5, 0.0, -1.0], [-2.0] * 5]).view(2, 1, 5)
    opacity = np.asarray(winners(shares, values, 1.0))[0, :, 3]
    assert opacity.tolist() == [255, 255, pytest.approx(255 * 0.5**0.6, abs=4), 0, 0]
    by_class = won(shares, values, 1.0)
    assert by_class.tolist() == [[[1.0, 1.0, 0.5, 0.0, 0.0]], [[0.0] * 5]]
    assert not won(shares, values, 0.0).any()


def test_strength_fades_to_nothing_where_a_class_stops_winning():
    heat = torch.linspace(-3, 3, 61)
    shares = torch.stack([heat, -heat]).softmax(0).view(2, 1, 61)
    found = won(shares, torch.ones(2, 1, 61), 1.0)
    assert found[0, 0, 30] == pytest.approx(0, abs=1e-6)
    assert found.diff(dim=-1).abs().max() < 0.11  # no hard edge
    assert torch.allclose(found[0], found[1].flip(-1), atol=1e-6)


def test_thinned_keeps_pixels_as_they_are():
    values = torch.arange(2 * 9 * 13).view(2, 9, 13)
    assert torch.equal(thinned(values, 1), values)
    assert torch.equal(thinned(values[:, :, :12], 3), values[:, 1::3, 1:12:3])
    ragged = thinned(values, 4)  # 9 x 13 in 3 x 4, from the middles of the blocks
    assert torch.equal(ragged, values[:, [1, 4, 7]][:, :, [1, 4, 8, 11]])


def test_decided_pixels_are_opaque_and_level_ones_clear():
    shares = torch.tensor([[1.0, 0.25, 0.5], [0.0, 0.25, 0.5], [0.0, 0.25, 0.0], [0.0, 0.25, 0.0]])
    opacity = np.asarray(decided(shares.view(4, 1, 3)).convert("RGBA"))[0, :, 3]
    assert opacity.tolist() == [255, 0, pytest.approx(255 * 0.5**0.6, abs=4)]  # ln 2 of ln 4


@pytest.mark.parametrize("count", [2, 8, 30])
def test_class_colours_differ(count):
    colours = class_colours(count)
    assert len(set(colours)) == len(colours) == count
    assert colours[:2] == class_colours(2)


def test_an_outline_encloses_exactly_its_region():
    region = torch.rand(9, 13, generator=torch.Generator().manual_seed(0)) > 0.6
    lines = re.findall(r"M(\d+) (\d+)([HV])(\d+)", path := outline_path(region))
    assert "".join(f"M{x} {y}{way}{end}" for x, y, way, end in lines) == path
    walls = set()  # (x, y): the unit step between pixel (x - 1, y) and pixel (x, y)
    for x, y, way, end in lines:
        if way == "V":
            walls |= {(int(x), place) for place in range(int(y), int(end))}
    for y in range(9):
        inside = False
        for x in range(13):
            inside ^= (x, y) in walls
            assert inside == bool(region[y, x])
    turned = [f"M{y} {x}{'H' if way == 'V' else 'V'}{end}" for x, y, way, end in lines]
    assert sorted(turned) == sorted(re.findall(r"M[^M]+", outline_path(region.T)))


def test_a_square_is_four_lines():
    region = torch.zeros(8, 8, dtype=torch.bool)
    region[2:5, 3:8] = True
    assert outline_path(region) == "M3 2H8M3 5H8M3 2V5M8 2V5"


def test_a_scale_is_even_in_the_values_and_matches_what_is_drawn():
    colours = np.array(scale_colours(5))  # of -1, -0.5, 0, 0.5, 1
    values = torch.linspace(-1, 1, 5).view(1, 5)
    drawn = np.asarray(overlay(values, 1.0).convert("RGBA"))[0]
    np.testing.assert_allclose(colours[:, 3] * 255, drawn[:, 3], atol=1)
    seen = drawn[:, 3] > 0
    np.testing.assert_array_equal(colours[seen, :3], drawn[seen, :3])
