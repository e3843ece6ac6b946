import math

import pytest
import torch

from var_exp.metrics import Complexity
from var_exp.metrics.base import Flag
from var_exp.metrics.complexity import complexity


def loop(maps):
    scores = []
    for channels in maps.double().flatten(2).tolist():
        values = [abs(math.fsum(pixel)) for pixel in zip(*channels, strict=True)]
        shares = [value / math.fsum(values) for value in values]
        scores.append(-math.fsum(p * math.log(p) for p in shares if p))
    return torch.tensor(scores, dtype=torch.float64)


def quantus(maps):
    """Quantus 0.6.0 on the magnitudes of one-channel maps."""
    shares = maps.double().flatten(1).abs()
    shares = shares / shares.sum(1, keepdim=True)
    return -(shares * (shares + 1e-12).log()).sum(1)


def test_equals_a_loop():
    maps = torch.randn(4, 3, 6, 7)
    torch.testing.assert_close(complexity(maps), loop(maps), rtol=1e-12, atol=0)
    maps[:, :, 1:3] = 0
    torch.testing.assert_close(complexity(maps), loop(maps), rtol=1e-12, atol=0)


def test_equals_quantus():
    maps = torch.randn(5, 1, 12, 12)
    maps[0, 0, :6] = 0
    torch.testing.assert_close(complexity(maps), quantus(maps), rtol=0, atol=1e-6)


def test_closed_forms():
    for pixels in (2, 4, 25):
        maps = torch.zeros(1, 1, 5, 5)
        maps.view(-1)[:pixels] = 0.3
        assert complexity(maps).item() == pytest.approx(math.log(pixels))
        expected = math.log(pixels) / math.log(25)
        assert complexity(maps, normalise=True).item() == pytest.approx(expected)
        assert complexity(-1e-30 * maps).item() == pytest.approx(math.log(pixels))
    one = torch.zeros(1, 1, 5, 5)
    one[0, 0, 2, 3] = -4
    assert complexity(one).item() == 0


def test_edge_cases_are_flagged():
    maps = torch.tensor([[0.0, 0.0], [-2.0, 2.0], [math.nan, 1.0], [-math.inf, 1.0]])
    metric = Complexity()
    metric.update(maps=maps[:, None, None])
    scores, flags = metric.latest
    assert scores.isnan().tolist() == [True, False, True, True]
    assert flags.tolist() == [Flag.EMPTY_MAP, 0, Flag.NON_FINITE, Flag.NON_FINITE]
    assert metric.compute().item() == pytest.approx(math.log(2))


def test_mistakes():
    with pytest.raises(ValueError, match="maps must be a float tensor"):
        complexity(torch.zeros(2, 4, 4))
