"""Reading a layer's output as a map, and bringing the map to the image."""

import torch
from torch.nn.functional import interpolate

from var_exp.models.spatial import Target


def test_reading_maps_from_every_layout():
    expected = torch.randn(2, 5, 3, 4)
    assert Target("x", "channels_first", (3, 4)).to_map(expected) is expected
    last = expected.permute(0, 2, 3, 1)
    assert torch.equal(Target("x", "channels_last", (3, 4)).to_map(last), expected)
    tokens = torch.cat([torch.randn(2, 2, 5), last.flatten(1, 2)], dim=1)
    assert torch.equal(Target("x", "tokens", (3, 4), prefix=2).to_map(tokens), expected)
    behind = torch.cat([last.flatten(1, 2), torch.randn(2, 1, 5)], dim=1)
    assert torch.equal(Target("x", "tokens", (3, 4)).to_map(behind), expected)


def test_a_map_covers_the_image():
    maps, images = torch.randn(2, 3, 4, 5), torch.zeros(2, 3, 20, 30)
    expected = interpolate(maps, (20, 30), mode="bilinear")[:, :, None]
    assert torch.equal(Target("x", "tokens", (4, 5)).to_pixels(maps, images), expected)


def test_a_padded_border_is_cut_off_on_every_side():
    maps, images = torch.randn(2, 3, 4, 5), torch.zeros(2, 3, 20, 30)
    fine = interpolate(maps, (26, 33), mode="bilinear")[:, :, None]
    behind = Target("x", "tokens", (4, 5), frame=(0, 0, 26, 33)).to_pixels(maps, images)
    assert torch.equal(behind, fine[..., :20, :30])
    around = Target("x", "tokens", (4, 5), frame=(-4, -1, 26, 33)).to_pixels(maps, images)
    assert torch.equal(around, fine[..., 4:24, 1:31])


def test_what_a_cropping_network_does_not_see_gets_nothing():
    maps, images = torch.rand(1, 1, 4, 5), torch.zeros(1, 3, 20, 30)
    found = Target("x", "tokens", (4, 5), frame=(2, 3, 16, 20)).to_pixels(maps, images)
    expected = torch.zeros(1, 1, 1, 20, 30)
    expected[0, 0, 0, 2:18, 3:23] = interpolate(maps, (16, 20), mode="bilinear")[0, 0]
    assert torch.equal(found, expected)
