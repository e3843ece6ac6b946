"""What a refiner is handed."""

import pytest
import torch
from torch import nn

from var_exp.refine.base import refined_by, takes_logits
from var_exp.types import ConfigError


def test_a_refiner_gets_what_it_takes():
    maps, logits = torch.randn(2, 3, 1, 4, 4), torch.randn(2, 3)
    seen = []

    def both(maps, logits):
        seen.append((maps, logits))
        return -maps

    def alone(maps):
        seen.append((maps,))
        return 2 * maps

    assert torch.equal(refined_by(both, maps, logits), -maps)
    assert torch.equal(refined_by(alone, maps, logits), 2 * maps)
    assert [[id(each) for each in given] for given in seen] == [[id(maps), id(logits)], [id(maps)]]
    assert takes_logits(both)
    assert not takes_logits(alone)


def test_of_a_torch_module_its_forward_says_what_it_takes():
    class Alone(nn.Module):
        def forward(self, maps):
            return -maps

    class Both(nn.Module):
        def forward(self, maps, logits):
            return maps * logits[:, :, None, None, None]

    maps, logits = torch.randn(2, 3, 1, 4, 4), torch.full((2, 3), 2.0)
    assert torch.equal(refined_by(Alone(), maps, logits), -maps)
    assert torch.equal(refined_by(Both(), maps, logits), 2 * maps)


def test_one_that_needs_more_is_refused():
    with pytest.raises(ConfigError, match="must be called with maps, or with maps and logits"):
        takes_logits(lambda maps, logits, images: maps)
