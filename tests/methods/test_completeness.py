"""What methods promise their maps to sum to, and how far they are from it."""

import pytest
import torch
from torch import nn

from var_exp.methods import get_method
from var_exp.methods.completeness import change_from_zero, completeness_error

CLASSES = torch.tensor([[1, 4, 0], [2, 2, 3]])


def images():
    return torch.randn(2, 3, 8, 8, generator=torch.Generator().manual_seed(0)).double()


def net(bias=True):
    torch.manual_seed(0)
    layers = nn.Conv2d(3, 6, 3, bias=bias), nn.ReLU(), nn.MaxPool2d(2), nn.Flatten()
    return nn.Sequential(*layers, nn.Linear(54, 5, bias=bias)).double()


def test_error_is_the_signed_share():
    sums = torch.tensor([[2.0, -4.0], [1.0, 0.0]])
    maps = torch.tensor([[2.2, -4.4], [0.5, 1.0]]).view(2, 2, 1, 1, 1).expand(-1, -1, 1, 2, 2) / 4
    found = completeness_error(maps, torch.tensor([[0, 1], [0, 1]]), sums)
    torch.testing.assert_close(found, torch.tensor([[0.1, -0.1], [-0.5, torch.inf]]))


def test_change_from_zero():
    model = net().train()
    change = change_from_zero(model, images(), model(images()))
    expected = model(images()) - model(torch.zeros(2, 3, 8, 8).double())
    torch.testing.assert_close(change, expected)
    assert model.training


@pytest.mark.parametrize(
    ("alias", "options", "bias"),
    [
        ("deeplift", {}, True),
        ("fullgrad", {}, True),
        ("ig", {"steps": 256}, True),
        ("lrp", {"composite": "epsilon", "epsilon": 1e-12}, False),
    ],
)
def test_methods_keep_their_promise(alias, options, bias):
    method, model = get_method(alias, **options), net(bias)
    with torch.no_grad():
        sums = method.sums(model, images(), model(images()))
    maps = method.attribute(model, images(), CLASSES).double()
    error = completeness_error(maps, CLASSES, sums).abs().max()
    assert error < (2e-2 if alias == "ig" else 1e-5)  # quadrature over kinks; float32 maps


@pytest.mark.parametrize("alias", ["gradient", "gbp", "gradcam", "lrp", "rise", "kernel_shap"])
def test_others_promise_nothing(alias):
    assert get_method(alias).sums(net(), images(), torch.zeros(2, 5)) is None
