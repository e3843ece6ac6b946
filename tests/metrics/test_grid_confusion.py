import math

import pytest
import torch

from var_exp.metrics import GridConfusion
from var_exp.metrics.base import Flag
from var_exp.metrics.grid_confusion import grid_confusion
from var_exp.metrics.grid_pointing_game import grid_pointing_game


def grid(count, side):
    """Cells of one n x n grid, [n², n side, n side], row by row."""
    cells = torch.eye(count**2, dtype=torch.bool).unflatten(1, (count, count))
    return cells.repeat_interleave(side, 1).repeat_interleave(side, 2)


def of_grids(grids, count, side):
    """Cells, own cell and id of every class of some grids."""
    cells = grid(count, side).expand(grids * count**2, -1, -1, -1)
    own = torch.arange(count**2).repeat(grids)
    ids = [f"grid {g}" for g in range(grids) for _ in range(count**2)]
    return {"cells": cells, "own": own, "classes": own + 10, "ids": ids}


def loop(maps, cells, magnitude):
    shares = []
    for channels, masks in zip(maps.double(), cells, strict=True):
        values = channels.sum(0)
        values = values.abs() if magnitude == "abs" else values.clamp(min=0)
        total = math.fsum(values.flatten().tolist())
        shares.append([math.fsum(values[mask].tolist()) / total for mask in masks])
    return torch.tensor(shares, dtype=torch.float64)


@pytest.mark.parametrize("magnitude", ["positive", "abs"])
@pytest.mark.parametrize("count", [2, 3])
def test_equals_a_loop(magnitude, count):
    given = of_grids(2, count, 5)
    maps = torch.randn(len(given["own"]), 3, count * 5, count * 5)
    expected = loop(maps, given["cells"], magnitude)
    shares = grid_confusion(maps, given["cells"], magnitude)
    torch.testing.assert_close(shares, expected, rtol=1e-12, atol=0)
    metric = GridConfusion(magnitude)
    metric.update(maps=maps, **given)
    torch.testing.assert_close(metric.matrix(), expected.unflatten(0, (2, count**2)).mean(0))
    leads = []
    for line, own in zip(expected.tolist(), given["own"].tolist(), strict=True):
        leads.append(line[own] - max(share for j, share in enumerate(line) if j != own))
    torch.testing.assert_close(metric.latest[0], torch.tensor(leads).double())
    assert metric.compute().item() == pytest.approx(math.fsum(leads) / len(leads))


def test_the_diagonal_is_the_grid_pointing_game():
    given = of_grids(6, 2, 4)
    maps = torch.randn(24, 3, 8, 8)
    metric = GridConfusion()
    metric.update(maps=maps, **given)
    regions = given["cells"][torch.arange(24), given["own"]]
    game = grid_pointing_game(maps, regions).unflatten(0, (6, 4)).mean(0)
    torch.testing.assert_close(metric.matrix().diagonal(), game)
    torch.testing.assert_close(metric.matrix().sum(1), torch.ones(4).double())


def test_closed_forms():
    given = of_grids(1, 2, 4)
    masks = grid(2, 4)[:, None].float()
    metric = GridConfusion()

    def lead_and_matrix(maps):
        metric.reset()
        metric.update(maps=maps, **given)
        return metric.latest[0].tolist(), metric.matrix()

    leads, matrix = lead_and_matrix(masks)
    assert leads == [1] * 4
    assert torch.equal(matrix, torch.eye(4).double())
    leads, matrix = lead_and_matrix(masks.roll(1, 0))  # every class points at the cell before
    assert leads == [-1] * 4
    assert torch.equal(matrix, torch.eye(4).double().roll(-1, 1))
    leads, matrix = lead_and_matrix(torch.ones(4, 1, 8, 8))
    assert leads == [0] * 4
    assert torch.equal(matrix, torch.full((4, 4), 0.25).double())
    leads, matrix = lead_and_matrix(1 - masks)
    assert leads == pytest.approx([-1 / 3] * 4)
    pixel = torch.zeros(4, 1, 8, 8)
    pixel[:, :, 0, 7] = 2  # the upper right cell draws everything
    leads, matrix = lead_and_matrix(pixel)
    assert leads == [-1, 1, -1, -1]
    assert matrix[:, 1].tolist() == [1] * 4


def test_places_are_kept_apart_whatever_the_order():
    given = of_grids(3, 2, 4)
    maps = torch.randn(12, 1, 8, 8)
    whole, parts = GridConfusion(), GridConfusion()
    whole.update(maps=maps, **given)
    order = torch.randperm(12, generator=torch.Generator().manual_seed(0)).tolist()
    for rows in (order[:5], order[5:], order[:7]):
        chosen = {k: [v[r] for r in rows] if k == "ids" else v[rows] for k, v in given.items()}
        parts.update(maps=maps[rows], **chosen)
    torch.testing.assert_close(parts.matrix(), whole.matrix())
    torch.testing.assert_close(parts.compute(), whole.compute())


def test_edge_cases_are_flagged():
    given = of_grids(1, 2, 2)
    maps = torch.rand(4, 1, 4, 4)
    maps[0], maps[1], maps[2, 0, 1, 1] = 0, -1, math.nan
    metric = GridConfusion()
    metric.update(maps=maps, **given)
    scores, flags = metric.latest
    assert scores[:2].tolist() == [0, 0]
    assert scores.isnan().tolist() == [False, False, True, False]
    assert flags.tolist() == [Flag.EMPTY_MAP, Flag.NOTHING_POSITIVE, Flag.NON_FINITE, 0]
    matrix = metric.matrix()
    assert matrix[:2].tolist() == [[0] * 4] * 2
    assert matrix[2].isnan().all()  # no map of the class there is defined
    assert matrix[3].sum() == pytest.approx(1)

    cells = grid(2, 2)[None].repeat(1, 1, 1, 1)
    cells[:, 3] = False
    metric.reset()
    metric.update(maps=torch.ones(1, 1, 4, 4), cells=cells, own=torch.tensor([0]))
    assert metric.latest[0].isnan().all()
    assert metric.latest[1].tolist() == [Flag.EMPTY_REGION]


def test_mistakes():
    maps = torch.ones(4, 1, 8, 8)
    cells = of_grids(1, 2, 4)["cells"]
    for wrong in (cells[:, 0], cells[:, :1], cells | cells.roll(1, 1)):
        with pytest.raises(ValueError, match="at least two cells without overlap"):
            grid_confusion(maps, wrong)
    with pytest.raises(ValueError, match="regions must be a bool tensor"):
        grid_confusion(maps, cells.float())
    with pytest.raises(ValueError, match="magnitude must be positive or abs, got 'signed'"):
        GridConfusion("signed")


def test_a_process_without_a_map_has_a_matrix_of_no_class():
    metric = GridConfusion()
    metric.sync()
    assert metric.row_shape(GridConfusion.matrix_state)[-1] == 0
