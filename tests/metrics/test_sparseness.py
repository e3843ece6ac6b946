import math

import pytest
import torch

from var_exp.metrics import Sparseness
from var_exp.metrics.base import Flag
from var_exp.metrics.sparseness import sparseness


def mean_difference(maps):
    """The other definition of the Gini index: mean |a_i - a_j| over twice the mean."""
    scores = []
    for channels in maps.double().flatten(2).tolist():
        values = [abs(math.fsum(pixel)) for pixel in zip(*channels, strict=True)]
        apart = math.fsum(abs(a - b) for a in values for b in values) / len(values) ** 2
        mean = math.fsum(values) / len(values)
        scores.append(apart / (2 * mean))
    return torch.tensor(scores, dtype=torch.float64)


def quantus(maps, added=1e-7):
    """Quantus 0.6.0 on one-channel maps that are not normalised."""
    values = (maps.double().flatten(1).abs() + added).sort(1).values
    pixels = values.shape[1]
    place = torch.arange(1, pixels + 1)
    return ((2 * place - pixels - 1) * values).sum(1) / (pixels * values.sum(1))


def test_equals_the_mean_difference():
    maps = torch.randn(4, 3, 6, 7)
    torch.testing.assert_close(sparseness(maps), mean_difference(maps), rtol=1e-12, atol=0)


def test_equals_quantus_in_usual_units():
    maps = torch.randn(5, 1, 12, 12)
    torch.testing.assert_close(sparseness(maps), quantus(maps), rtol=0, atol=1e-6)


def test_where_quantus_is_wrong():
    """The Gini index has no units; adding 1e-7 to small gradients takes their sparseness away."""
    maps = torch.randn(5, 1, 12, 12)
    torch.testing.assert_close(sparseness(maps * 1e-9), sparseness(maps))
    assert (quantus(maps * 1e-9) < 0.01).all()
    assert (quantus(maps) > 0.3).all()


def test_closed_forms():
    for value in (1e-30, 0.1, -7.0):
        assert sparseness(torch.full((1, 1, 5, 5), value)).item() == pytest.approx(0, abs=1e-12)
    one = torch.zeros(1, 1, 5, 5)
    one[0, 0, 2, 3] = -4
    assert sparseness(one).item() == pytest.approx(1 - 1 / 25)
    mask = (torch.rand(1, 1, 8, 8) > 0.7).float()  # the share of the pixels it leaves out
    assert sparseness(mask).item() == pytest.approx(1 - mask.mean().item())
    # 0, 1, …, n - 1: (n + 1) / 3n
    assert sparseness(torch.arange(10.0).view(1, 1, 2, 5)).item() == pytest.approx(11 / 30)


def test_edge_cases_are_flagged():
    maps = torch.tensor([[0.0, 0.0], [-2.0, 0.0], [math.nan, 1.0], [math.inf, 1.0]])
    metric = Sparseness()
    metric.update(maps=maps[:, None, None])
    scores, flags = metric.latest
    assert scores[:2].tolist() == [0, 0.5]
    assert scores[2:].isnan().all()
    assert flags.tolist() == [Flag.EMPTY_MAP, 0, Flag.NON_FINITE, Flag.NON_FINITE]


def test_channels_that_cancel_are_an_empty_map():
    metric = Sparseness()
    metric.update(maps=torch.tensor([[[[1.0, 2.0]], [[-1.0, -2.0]]]]))
    assert metric.latest[1].tolist() == [Flag.EMPTY_MAP]


def test_mistakes():
    with pytest.raises(ValueError, match="maps must be a float tensor"):
        sparseness(torch.zeros(2, 4, 4))
