import math

import pytest
import torch

from var_exp.metrics import PointingGame
from var_exp.metrics.base import Flag
from var_exp.metrics.functional import pointing_game


def loop(maps, regions, tolerance):
    """Every strongest pixel against every pixel of the region."""
    scores = []
    for saliency, region in zip(maps.double().sum(1), regions, strict=True):
        peaks = (saliency == saliency.max()).nonzero().tolist()
        inside = region.nonzero().tolist()
        hits = [
            any((y - v) ** 2 + (x - u) ** 2 < tolerance**2 for v, u in inside) for y, x in peaks
        ]
        scores.append(sum(hits) / len(hits))
    return torch.tensor(scores, dtype=torch.float64)


@pytest.mark.parametrize("tolerance", [0.5, 1, 2.5, 5, 15, 100])
@pytest.mark.parametrize("levels", [2, 1000])
def test_equals_a_loop_with_and_without_ties(tolerance, levels):
    generator = torch.Generator().manual_seed(int(10 * tolerance) + levels)
    maps = torch.randint(0, levels, (12, 1, 17, 23), generator=generator).double()
    regions = torch.rand(12, 17, 23, generator=generator) > 0.99
    regions[:, 8, 2] = True
    scores = pointing_game(maps, regions, tolerance)
    torch.testing.assert_close(scores, loop(maps, regions, tolerance), rtol=1e-12, atol=0)


def point(y, x, side=40):
    result = torch.zeros(1, side, side)
    result[0, y, x] = 1
    return result


@pytest.mark.parametrize(
    ("peak", "hit"), [((20, 34), 1), ((20, 35), 0), ((29, 31), 1), ((29, 32), 0), ((20, 20), 1)]
)
def test_tolerance_is_strict(peak, hit):
    """15 px: (0, 14) and (9, 11) are nearer; (0, 15) and (9, 12) lie exactly on the circle."""
    assert pointing_game(point(*peak)[None], point(20, 20).bool()).item() == hit


def test_constant_map_scores_the_share_of_accepted_pixels():
    regions = point(20, 20).bool()
    accepted = sum((y - 20) ** 2 + (x - 20) ** 2 < 225 for y in range(40) for x in range(40))
    for value in (0.0, 0.3, -2.0):
        maps = torch.full((1, 3, 40, 40), value)
        assert pointing_game(maps, regions).item() == pytest.approx(accepted / 1600)


def test_resizing_a_constant_map_keeps_its_ties():
    maps = torch.full((1, 1, 7, 7), 0.1)
    regions = point(0, 0).bool()
    expected = pointing_game(torch.ones(1, 1, 40, 40), regions)
    torch.testing.assert_close(pointing_game(maps, regions), expected)


def test_edge_cases_are_flagged():
    maps = torch.stack([point(0, 0), torch.zeros(1, 40, 40), point(0, 0), point(0, 0)])
    maps[3, 0, 5, 5] = math.nan
    regions = point(0, 0).bool().repeat(4, 1, 1)
    regions[2] = False
    metric = PointingGame()
    metric.update(maps=maps, regions=regions)
    scores, flags = metric.latest
    assert flags.tolist() == [
        0,
        Flag.EMPTY_MAP | Flag.TIED,
        Flag.EMPTY_REGION,
        Flag.NON_FINITE,
    ]
    assert scores.isnan().tolist() == [False, False, True, True]


@pytest.mark.parametrize("tolerance", [0, -1, math.nan])
def test_mistakes(tolerance):
    with pytest.raises(ValueError, match="tolerance must be a positive number of pixels"):
        PointingGame(tolerance)
