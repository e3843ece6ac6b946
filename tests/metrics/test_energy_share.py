"""Energy share: closed forms and a float64 loop."""

import pytest
import torch

from var_exp.metrics import EnergyShare, IrrelevantEnergyShare
from var_exp.metrics.base import Flag
from var_exp.metrics.energy_pointing_game import energy_pointing_game
from var_exp.metrics.energy_share import energy_share

SCOPE = torch.zeros(1, 6, 6, dtype=torch.bool)
SCOPE[:, 1:5, 1:5] = True
REGION = torch.zeros(1, 6, 6, dtype=torch.bool)
REGION[:, 1:3, 1:5] = True


def test_equals_a_float64_loop():
    generator = torch.Generator().manual_seed(0)
    maps = torch.randn(4, 3, 9, 7, generator=generator)
    regions = torch.rand(4, 9, 7, generator=generator) < 0.4
    scope = torch.rand(4, 9, 7, generator=generator) < 0.6
    scores = energy_share(maps, regions, scope)
    for n in range(4):
        inside = total = 0.0
        for y in range(9):
            for x in range(7):
                energy = max(sum(float(maps[n, c, y, x]) for c in range(3)), 0.0)
                if scope[n, y, x]:
                    total += energy
                    inside += energy if regions[n, y, x] else 0.0
        assert scores[n].item() == pytest.approx(inside / total, rel=1e-12)


def test_known_maps():
    uniform, outside = torch.ones(1, 1, 6, 6), (~SCOPE).float()[:, None]
    assert energy_share(REGION.float()[:, None], REGION, SCOPE).item() == 1
    assert energy_share(uniform, REGION, SCOPE).item() == 0.5  # the region's share of the reference
    assert energy_share((SCOPE & ~REGION).float()[:, None], REGION, SCOPE).item() == 0
    # what lies outside the reference does not count, however much it is
    mixed = REGION.float()[:, None] + 100 * outside
    assert energy_share(mixed, REGION, SCOPE).item() == 1
    assert energy_share(-uniform, REGION, SCOPE).item() == 0


def test_the_whole_picture_as_reference_is_the_energy_pointing_game():
    maps = torch.randn(1, 3, 6, 6, generator=torch.Generator().manual_seed(1))
    everywhere = torch.ones_like(SCOPE)
    expected = energy_pointing_game(maps, REGION)
    assert torch.equal(energy_share(maps, REGION, everywhere), expected)


def test_ledger():
    metric = EnergyShare()
    maps = torch.stack([torch.zeros(1, 6, 6), (~SCOPE).float(), torch.ones(1, 6, 6)])
    regions = torch.cat([REGION, REGION, ~SCOPE])  # the last lies outside the reference
    metric.update(maps=maps, regions=regions, scope=SCOPE.expand(3, -1, -1))
    scores, flags = metric.latest
    assert scores[:2].tolist() == [0, 0]
    assert scores[2].isnan()
    assert flags.tolist() == [Flag.EMPTY_MAP, Flag.NOTHING_POSITIVE, Flag.EMPTY_REGION]


def test_direction_of_the_irrelevant_part():
    assert EnergyShare.higher_is_better
    assert not IrrelevantEnergyShare.higher_is_better


def test_masks_that_do_not_fit():
    with pytest.raises(ValueError, match=r"scope must be a bool tensor \[1, 6, 6\]"):
        energy_share(torch.ones(1, 1, 6, 6), REGION, SCOPE[:, :5])


def test_rows_are_told_apart_by_sample_and_class():
    metric, whole, outside = EnergyShare(), REGION.float()[:, None], (~REGION).float()[:, None]
    for maps, label, id in ((whole, 0, "a"), (outside, 0, "a"), (outside, 1, "a"), (whole, 0, "b")):
        metric.update(
            maps=maps, regions=REGION, scope=SCOPE, classes=torch.tensor([label]), ids=[id]
        )
    assert metric.compute().item() == pytest.approx(2 / 3)  # the second has been seen
