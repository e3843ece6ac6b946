"""Where activations are read to lie, and that sums survive the way back to the pixels."""

import pytest
import torch
import torch.nn.functional as F  # noqa: N812

from var_exp.engine.calls import Calls
from var_exp.engine.full_gradients.positions import Place, Positions, spread


class Watch(Calls):
    """Places of the results of all calls, by the order of the calls; images along axis 0."""

    opens_attention = True

    def __init__(self, size):
        super().__init__()
        self.positions = Positions(size)
        self.places = []

    def answer(self, call):
        result = call.run()
        if isinstance(result, torch.Tensor):
            self.places.append(self.positions.place(call, result.shape, 0))
        return result


def places(size, forward):
    with Watch(size) as watch:
        forward()
    return watch.places


def test_channels_first_last_and_tokens():
    weight, x, prefix = torch.randn(6, 3, 4, 4), torch.randn(2, 3, 32, 16), torch.zeros(2, 3, 6)

    def network():
        features = F.conv2d(x, weight, stride=4)  # [2, 6, 8, 4]
        tokens = features.flatten(2).transpose(1, 2)  # [2, 32, 6]
        tokens = torch.cat([prefix, tokens], dim=1)  # three tokens in front
        F.scaled_dot_product_attention(*[tokens[:, None]] * 3)
        features.permute(0, 2, 3, 1).exp()
        tokens.mean(1)

    tokens = Place(0, (1,), (8, 4))
    prefixed = Place(0, (1,), (8, 4), first=3)
    by_heads = Place(0, (2,), (8, 4), first=3)
    found = places((32, 16), network)
    assert found[0] == Place(0, (2, 3), (8, 4))
    assert found[1] == Place(0, (2,), (8, 4))  # [2, 6, 32]
    assert found[2] == tokens
    assert found[3] == prefixed
    assert found.count(by_heads) >= 4  # scores, softmax and mixed values lie at their queries
    assert found[-3:] == [Place(0, (1, 2), (8, 4)), Place(0, (1, 2), (8, 4)), Place(0)]


def test_a_layer_over_channels_last_shows_a_grid_that_no_convolution_made():
    x = torch.randn(2, 8, 8, 3)
    last = Place(0, (1, 2), (4, 4))
    merged = x.unflatten(1, (4, 2)).unflatten(3, (4, 2)).permute(0, 1, 3, 2, 4, 5).flatten(3)
    weight = torch.randn(5, 12)
    assert places((16, 16), lambda: F.linear(merged, weight).exp()) == [last, last]
    windows = torch.randn(2, 3, 16, 5)  # not of the image's shape
    assert places((16, 16), lambda: F.layer_norm(windows, (5,))) == [Place(0)]


def test_later_grids_come_before_earlier_ones():
    """16 x 16 scores of 16 tokens are not taken for an earlier map of 16 x 16 positions."""
    x = torch.randn(2, 3, 16, 16)

    def network():
        tokens = F.max_pool2d(F.avg_pool2d(x, 1), 4).flatten(2).transpose(1, 2)
        tokens[:, None] @ tokens[:, None].transpose(2, 3)
        torch.cat([torch.cat([tokens[:, :3], tokens], 1), tokens[:, :2]], 1)

    found = places((32, 32), network)
    assert found[0] == Place(0, (2, 3), (16, 16))
    assert Place(0, (2,), (4, 4)) in found
    assert found[-1] == Place(0, (1,), (4, 4), first=3)
    assert places((32, 32), lambda: (network(), F.avg_pool2d(x, 1)))[-1] == found[0]


def test_prefixes_add_up():
    x = torch.randn(2, 3, 4, 4)

    def network():
        tokens = F.avg_pool2d(x, 1).flatten(2).transpose(1, 2)
        torch.cat([tokens[:, :2], torch.cat([tokens[:, :1], tokens], dim=1)], dim=1)

    assert places((8, 8), network)[-1] == Place(0, (1,), (4, 4), first=3)


def test_pooled_features_belong_to_the_whole_image():
    x = torch.randn(2, 3, 8, 8)
    assert places((8, 8), lambda: F.adaptive_avg_pool2d(x, 1).exp()) == [Place(0)] * 2


def test_sums_at_positions():
    values = torch.randn(2, 5, 7, 3, dtype=torch.float64)
    (whole,) = Place(0).sums(values, 2)
    torch.testing.assert_close(whole, values.sum((1, 2, 3)).view(2, 1, 1))
    (grid,) = Place(0, (2, 3), (7, 3)).sums(values, 2)
    torch.testing.assert_close(grid, values.sum(1))
    rest, grid = Place(0, (2,), (2, 3), first=1).sums(values, 2)  # a token behind, too
    torch.testing.assert_close(grid, values.sum((1, 3))[:, 1:].view(2, 2, 3))
    torch.testing.assert_close(rest, values.sum((1, 3))[:, :1].view(2, 1, 1))
    (moved,) = Place(2, (2, 3), (7, 3)).sums(values.movedim(0, 2), 2)  # images along axis 2
    torch.testing.assert_close(moved, values.sum(1))
    (merged,) = Place(0).sums(values.flatten(0, 1), 2)  # five windows of each image
    torch.testing.assert_close(merged, whole)
    half = torch.ones(1, 4097, dtype=torch.bfloat16)
    assert float(Place(0).sums(half, 1)[0]) == 4097


@pytest.mark.parametrize(("grid", "size"), [((7, 5), (32, 32)), ((1, 1), (6, 4)), ((9, 8), (4, 8))])
def test_spreading_keeps_sums_and_is_the_adjoint_of_a_resize(grid, size):
    sums = torch.randn(2, *grid, dtype=torch.float64)
    found = spread(sums, size)
    assert found.shape == (2, *size)
    torch.testing.assert_close(found.sum((1, 2)), sums.sum((1, 2)))
    if grid == (1, 1):
        torch.testing.assert_close(found, sums.expand(2, *size) / 24)
        return
    pixels = torch.zeros(1, 2, *size, dtype=torch.float64, requires_grad=True)
    resized = F.interpolate(pixels, grid, mode="bilinear", antialias=True)
    (expected,) = torch.autograd.grad((resized[0] * sums).sum(), pixels)
    torch.testing.assert_close(found, expected[0])


def test_spreading_to_the_same_size_changes_nothing():
    sums = torch.randn(2, 6, 4)
    assert torch.equal(spread(sums, (6, 4)), sums)


def test_what_lies_over_a_padded_border_goes_to_the_pixels_beside_it():
    sums = torch.randn(2, 4, 5, dtype=torch.float64)
    for frame in ((0, 0, 40, 50), (-5, -4, 40, 50)):
        found = spread(sums, (32, 42), frame)
        assert found.shape == (2, 32, 42)
        torch.testing.assert_close(found.sum((1, 2)), sums.sum((1, 2)))
        top, left = -frame[0], -frame[1]
        for i in range(4):
            for j in range(5):
                one = torch.zeros(1, 4, 5, dtype=torch.float64)
                one[0, i, j] = 1
                # within the cell and half of one around it, of 10 x 10 pixels
                rows = slice(max(10 * i - 5 - top, 0), max(10 * i + 15 - top, 0))
                columns = slice(max(10 * j - 5 - left, 0), max(10 * j + 15 - left, 0))
                inside = spread(one, (32, 42), frame)[0, rows, columns].sum()
                torch.testing.assert_close(inside, torch.ones((), dtype=torch.float64))
    assert torch.equal(spread(sums, (4, 5), (0, 0, 6, 6)), sums)
    pixels = torch.randn(1, 40, 50, dtype=torch.float64)  # of the padded image
    found = spread(pixels, (32, 42), (-5, -4, 40, 50))
    border = pixels.sum() - pixels[:, 5:37, 4:46].sum()
    torch.testing.assert_close(found.sum() - pixels[:, 5:37, 4:46].sum(), border)
