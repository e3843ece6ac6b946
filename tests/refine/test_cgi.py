import itertools
import math

import torch

from var_exp.refine.cgi import CGI


def test_equals_a_loop():
    maps = torch.randint(
        -3, 4, (2, 3, 2, 4, 4), generator=torch.Generator().manual_seed(0)
    ).double()
    expected = torch.zeros_like(maps)
    for b, c, y, x in itertools.product(range(2), range(2), range(4), range(4)):
        row = maps[b, :, c, y, x].tolist()
        for k, value in enumerate(row):
            wins = (value > 0 and value == max(row)) or (value < 0 and value == min(row))
            expected[b, k, c, y, x] = value if wins else 0.0
    assert torch.equal(CGI()(maps), expected)


def test_sign_decides_before_place():
    """All positive: the minimum is not negative and goes; all negative: the maximum goes."""
    maps = torch.tensor([[1.0, -1.0], [2.0, -2.0]]).view(1, 2, 1, 1, 2)
    assert CGI()(maps).flatten().tolist() == [0, 0, 2, -2]


def test_large_values_and_missing_ones():
    maps = torch.tensor([1e30, -1e30, 1.0]).view(1, 3, 1, 1, 1)
    assert torch.equal(CGI()(maps).flatten(), torch.tensor([1e30, -1e30, 0.0]))
    maps[0, 0] = math.nan
    assert CGI()(maps).isnan().all()
    maps = torch.tensor([0.0, -math.inf]).view(1, 2, 1, 1, 1)  # 0 is the highest, and no evidence
    assert CGI()(maps).isnan().flatten().tolist() == [True, False]
