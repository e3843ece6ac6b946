"""A frozen model gets all its flags back."""

import pytest
import torch
from torch import nn

from var_exp.models.frozen import frozen


def test_flags_are_off_inside_and_back_afterwards():
    model = nn.Sequential(nn.Linear(2, 2), nn.Dropout(), nn.Linear(2, 2))
    model[0].requires_grad_(False)
    model[2].eval()
    with frozen(model):
        assert not any(parameter.requires_grad for parameter in model.parameters())
        assert not any(module.training for module in model.modules())
    with pytest.raises(ZeroDivisionError), frozen(model):
        1 / 0  # noqa: B018
    assert [p.requires_grad for p in model.parameters()] == [False, False, True, True]
    assert [module.training for module in model] == [True, True, False]
    assert model.training


def test_batch_norm_does_not_learn():
    norm = nn.BatchNorm2d(3)
    model = nn.Sequential(norm, nn.Flatten())
    with frozen(model):
        model(torch.randn(4, 3, 2, 2))
    assert norm.num_batches_tracked == 0
