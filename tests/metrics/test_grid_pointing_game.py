import pytest
import torch

from var_exp.metrics import GridPointingGame
from var_exp.metrics.grid_pointing_game import grid_pointing_game


def cells(count, side):
    """Cells of one n x n grid, [n², n side, n side], row by row."""
    regions = torch.zeros(count * count, count * side, count * side, dtype=torch.bool)
    for index in range(count * count):
        y, x = divmod(index, count)
        regions[index, y * side : (y + 1) * side, x * side : (x + 1) * side] = True
    return regions


def loop(maps, regions, magnitude, smoothing):
    scores = []
    for saliency, region in zip(maps.double().sum(1), regions, strict=True):
        height, width = saliency.shape
        reach = smoothing // 2
        smooth = torch.zeros_like(saliency)
        for y in range(height):
            for x in range(width):
                window = saliency[
                    max(y - reach, 0) : y + reach + 1, max(x - reach, 0) : x + reach + 1
                ]
                smooth[y, x] = window.sum() / smoothing**2
        values = smooth.abs() if magnitude == "abs" else smooth.clamp(min=0)
        total = values.sum()
        scores.append((values[region].sum() / total).item() if total else 0.0)
    return torch.tensor(scores, dtype=torch.float64)


@pytest.mark.parametrize("magnitude", ["positive", "abs"])
@pytest.mark.parametrize("smoothing", [1, 3, 15])
def test_equals_a_loop(magnitude, smoothing):
    maps = torch.randn(9, 3, 18, 18)
    scores = grid_pointing_game(maps, cells(3, 6), magnitude, smoothing)
    expected = loop(maps, cells(3, 6), magnitude, smoothing)
    torch.testing.assert_close(scores, expected, rtol=1e-9, atol=0)


def test_closed_forms():
    regions = cells(2, 4)
    assert grid_pointing_game(regions[:, None].float(), regions).tolist() == [1] * 4
    assert grid_pointing_game((~regions)[:, None].float(), regions).tolist() == [0] * 4
    assert grid_pointing_game(torch.ones(4, 3, 8, 8), regions).tolist() == [0.25] * 4
    assert grid_pointing_game(torch.zeros(4, 3, 8, 8), regions).tolist() == [0] * 4


def test_cells_of_one_map_share_it_out():
    shared = torch.randn(1, 1, 12, 12).expand(4, 1, 12, 12)
    assert grid_pointing_game(shared, cells(2, 6)).sum().item() == pytest.approx(1)


def test_many_maps_are_scored_as_few():
    """The work is done in blocks; 70 maps of 64² are more than one."""
    maps, regions = torch.randn(70, 1, 64, 64), torch.rand(70, 64, 64) > 0.5
    alone = [grid_pointing_game(maps[i : i + 1], regions[i : i + 1]) for i in range(70)]
    torch.testing.assert_close(grid_pointing_game(maps, regions), torch.cat(alone))


@pytest.mark.parametrize("smoothing", [0, 2, -1])
def test_mistakes(smoothing):
    with pytest.raises(ValueError, match="smoothing must be an odd number of pixels"):
        GridPointingGame(smoothing=smoothing)
