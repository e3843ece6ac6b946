import math

import pytest
import torch

from var_exp.metrics import EnergyPointingGame
from var_exp.metrics.base import Flag
from var_exp.metrics.energy_pointing_game import energy_pointing_game


def loop(maps, regions, magnitude="positive"):
    scores = []
    for saliency, region in zip(maps.double().tolist(), regions.tolist(), strict=True):
        inside = total = 0.0
        for y, row in enumerate(region):
            for x, is_inside in enumerate(row):
                value = math.fsum(channel[y][x] for channel in saliency)
                value = abs(value) if magnitude == "abs" else max(value, 0.0)
                total += value
                inside += value * is_inside
        scores.append(inside / total if total else 0.0)
    return torch.tensor(scores, dtype=torch.float64)


@pytest.mark.parametrize("magnitude", ["positive", "abs"])
def test_equals_a_loop(magnitude):
    maps, regions = torch.randn(5, 3, 9, 7), torch.rand(5, 9, 7) > 0.6
    scores = energy_pointing_game(maps, regions, magnitude)
    assert scores.dtype == torch.float64
    torch.testing.assert_close(scores, loop(maps, regions, magnitude), rtol=1e-12, atol=0)


def test_channels_are_summed_before_the_clamp():
    maps = torch.tensor([[[[2.0, 1.0]], [[-1.0, 0.0]]]])
    assert energy_pointing_game(maps, torch.tensor([[[True, False]]])).item() == 0.5


def test_uniform_map_scores_the_area():
    regions = torch.rand(4, 8, 8) > 0.5
    scores = energy_pointing_game(torch.full((4, 1, 8, 8), 0.1), regions)
    torch.testing.assert_close(scores, regions.double().mean((1, 2)))


def test_units_do_not_matter():
    maps, regions = torch.randn(3, 1, 8, 8), torch.rand(3, 8, 8) > 0.5
    for factor in (1e-30, 1e30):
        torch.testing.assert_close(
            energy_pointing_game(maps * factor, regions), energy_pointing_game(maps, regions)
        )


def test_small_maps_are_resized_to_the_regions():
    maps = torch.zeros(1, 1, 2, 2)
    maps[0, 0, 0, 0] = 1
    regions = torch.zeros(1, 4, 4, dtype=torch.bool)
    regions[0, :2, :2] = True
    # Half-pixel bilinear weights of the first source pixel on four targets: 1, 3/4, 1/4, 0.
    assert energy_pointing_game(maps, regions).item() == pytest.approx((1.75 / 2) ** 2)


def test_edge_cases_are_flagged():
    maps = torch.tensor([[0.0, 0.0], [-1.0, -2.0], [1.0, 1.0], [math.nan, 1.0], [-math.inf, 1.0]])
    regions = torch.tensor([[True, False]] * 2 + [[False, False]] + [[True, False]] * 2)
    metric = EnergyPointingGame()
    metric.update(maps=maps[:, None, None], regions=regions[:, None])
    scores, flags = metric.latest
    assert scores[:2].tolist() == [0, 0]
    assert scores[2:].isnan().all()
    assert flags.tolist() == [
        Flag.EMPTY_MAP,
        Flag.NOTHING_POSITIVE,
        Flag.EMPTY_REGION,
        *[Flag.NON_FINITE] * 2,
    ]
    assert metric.compute() == 0


def test_mistakes():
    maps, regions = torch.zeros(2, 1, 4, 4), torch.zeros(2, 4, 4, dtype=torch.bool)
    with pytest.raises(ValueError, match="maps must be a float tensor"):
        energy_pointing_game(maps[:, 0], regions)
    with pytest.raises(ValueError, match="regions must be a bool tensor"):
        energy_pointing_game(maps, regions.float())
    with pytest.raises(ValueError, match="with N=2 as the maps"):
        energy_pointing_game(maps, regions[:1])
    with pytest.raises(ValueError, match="magnitude must be positive or abs, got 'signed'"):
        EnergyPointingGame("signed")
