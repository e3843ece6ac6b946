import io

import numpy as np
import pytest
import torch
from PIL import Image

from var_exp.report.panels import Panel, greyed, note, overlay, panel_picture, scale_of

IMAGE = torch.randint(0, 256, (3, 12, 16), dtype=torch.uint8, generator=torch.Generator())


def panel(**changes):
    regions = torch.zeros(2, 12, 16, dtype=torch.bool)
    regions[0, 2:8, 2:8] = True
    maps = {"base": torch.ones(2, 12, 16), "var": torch.zeros(2, 12, 16)}
    given = {"sample_id": "s", "image": IMAGE, "class_names": ["cat", "dog"], "regions": regions}
    return Panel(**{**given, "maps": maps, **changes})


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
    assert opacity[5] == 0


def test_scale_is_shared_symmetric_and_robust():
    maps = torch.zeros(2, 100, 100)
    maps[0].view(-1)[:1000] = torch.linspace(0.001, 1.0, 1000)
    assert scale_of(maps) == pytest.approx(0.995, abs=0.002)  # zeros do not move it
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


def test_picture_has_a_row_per_variant_and_a_column_per_class():
    picture = panel_picture(panel(predicted="a rather long prediction that cannot possibly fit"))
    assert picture.mode == "RGB"
    assert picture.width == 24 + 3 * (192 + 6)
    assert picture.height == 24 + 2 * (144 + 6)
    pixels = np.asarray(picture).astype(int)
    reddish = pixels[..., 0] - pixels[..., 2] > 60
    columns = slice(24 + 198, None)  # the maps stand right of the colour image
    assert reddish[24:168, columns].mean() > 0.7
    assert not reddish[174:, columns].any()


@pytest.mark.parametrize("size", [(40, 700), (700, 40), (7, 7)])
def test_picture_of_any_shape(size):
    maps = {"base": torch.randn(1, *size)}
    image = torch.zeros(3, *size, dtype=torch.uint8)
    picture = panel_picture(Panel("s", image, ["one class"], None, maps))
    assert max(picture.size) < 2 * 240


def test_inputs_are_left_alone():
    given = panel()
    copies = {name: maps.clone() for name, maps in given.maps.items()}
    panel_picture(given)
    assert all(torch.equal(copies[name], maps) for name, maps in given.maps.items())


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"maps": {}}, "at least one variant and one class"),
        (
            {"maps": {"var": torch.zeros(2, 3, 12, 16)}},
            r"'var' of panel s must have .*\(2, 12, 16\)",
        ),
        ({"regions": torch.zeros(1, 12, 16, dtype=torch.bool)}, r"'regions' .* got \(1, 12, 16\)"),
    ],
)
def test_shapes_that_do_not_fit_are_refused(changes, message):
    with pytest.raises(ValueError, match=message):
        panel(**changes)
