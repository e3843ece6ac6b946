import numpy as np
import pytest
import torch

from var_exp.refine.var import VAR
from var_exp.report.overlays import scale_of
from var_exp.report.panels import Panel, panel_picture

IMAGE = torch.randint(0, 256, (3, 12, 16), dtype=torch.uint8, generator=torch.Generator())


def panel(**changes):
    regions = torch.zeros(2, 12, 16, dtype=torch.bool)
    regions[0, 2:8, 2:8] = True
    maps = {"base": torch.ones(2, 3, 12, 16), "var": torch.zeros(2, 1, 12, 16)}
    given = {"sample_id": "s", "image": IMAGE, "class_names": ["cat", "dog"], "asked": 2}
    given["regions"] = regions
    return Panel(**{**given, "maps": maps, **changes})


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
    maps = {"base": torch.randn(1, 1, *size)}
    image = torch.zeros(3, *size, dtype=torch.uint8)
    picture = panel_picture(Panel("s", image, ["one class"], 1, maps))
    assert max(picture.size) < 2 * 240


def test_inputs_are_left_alone():
    given = panel()
    copies = {name: maps.clone() for name, maps in given.maps.items()}
    panel_picture(given)
    assert all(torch.equal(copies[name], maps) for name, maps in given.maps.items())


def test_one_scale_for_all_maps_from_the_summed_base_maps():
    generator = torch.Generator().manual_seed(0)
    base = torch.randn(2, 3, 12, 16, generator=generator)
    given = panel(maps={"base": base, "var": 100 * base})
    assert given.scale == scale_of(base.sum(1))
    assert torch.equal(given.flat("base"), base.sum(1))


def test_what_keeps_a_share_of_the_map_is_drawn_as_many_times_stronger_as_classes_compete():
    base = torch.randn(2, 3, 12, 16, generator=torch.Generator().manual_seed(0))
    even = panel(maps={"base": base, "var": base / 2}, sharing=["var"])
    assert even.strength("var") == 2
    assert even.strength("base") == 1
    picture = np.asarray(panel_picture(even))
    height = (picture.shape[0] - 24) // 2  # of a row; even shares look like the base maps
    rows = [picture[24 + row * height :][: height - 6, 260:] for row in range(2)]
    assert np.array_equal(*rows)
    assert (rows[0] != rows[0][..., :1]).any()


def test_competitors_nobody_asked_about_have_no_region():
    three = torch.zeros(3, 1, 12, 16)
    given = panel(class_names=["cat", "dog", "fox"], maps={"base": three})
    assert torch.equal(given.region(1), given.regions[1])
    assert given.region(2) is None
    assert panel_picture(given).width == 24 + 4 * (192 + 6)


def test_shares_are_those_of_the_competition_averaged_over_channels():
    base = torch.zeros(2, 2, 12, 16)
    base[0, 0, 3, 4] = 1.0  # of two channels, one is decided and the other is level
    shares = panel(maps={"base": base}, competition=VAR(temperature=50.0)).shares()
    assert shares.shape == (2, 12, 16)
    assert shares[:, 3, 4].tolist() == pytest.approx([0.75, 0.25])
    assert shares[:, 0, 0].tolist() == pytest.approx([0.5, 0.5])
    with pytest.raises(ValueError, match="do not compete"):
        panel().shares()


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"maps": {"var": torch.zeros(2, 1, 12, 16)}}, "must have a base map"),
        ({"class_names": []}, "and a class"),
        ({"maps": {"base": torch.zeros(2, 3, 12, 9)}}, r"'base' of panel s .*\(2, 12, 16\)"),
        ({"regions": torch.zeros(1, 12, 16, dtype=torch.bool)}, r"regions .* got \(1, 12, 16\)"),
    ],
)
def test_what_does_not_fit_is_refused(changes, message):
    with pytest.raises(ValueError, match=message):
        panel(**changes)
