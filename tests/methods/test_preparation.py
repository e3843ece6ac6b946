"""A network made ready is the same network, and the method's maps are the same maps."""

from typing import get_args

import pytest
import timm
import torch
from torch import nn

import var_exp
from var_exp.methods import get_method, list_methods
from var_exp.methods.lrp import CompositeName
from var_exp.methods.preparation import prepare

CLASSES = torch.tensor([[1, 4], [0, 7]])


def network(name="resnet18", **options):
    """A small network whose running statistics are not those of a new one."""
    torch.manual_seed(0)
    model = timm.create_model(name, num_classes=9, **options)
    for module in model.modules():
        if isinstance(module, nn.BatchNorm2d):
            nn.init.uniform_(module.weight, 0.5, 1.5)
            nn.init.normal_(module.bias, std=0.2)
            nn.init.normal_(module.running_mean, std=0.2)
            nn.init.uniform_(module.running_var, 0.5, 2.0)
    return model.eval().requires_grad_(False).double()


def norms(model):
    return sum(isinstance(module, nn.BatchNorm2d) for module in model.modules())


SMALL = {
    "resnet18": {"channels": [8, 8, 16, 16], "layers": [1, 1, 1, 1]},
    "tf_efficientnet_lite0": {},
    "regnety_002": {},
}
FAST = (
    "gradient",
    "input_x_gradient",
    "gbp",
    "deconvnet",
    "ig",
    "gradcam",
    "layercam",
    "refine_cam",
    "occlusion",
    "deeplift",
    "lrp",
    "clrp",
    "sglrp",
)


FEW = {"ig": {"steps": 3}, "occlusion": {"window": 32, "stride": 32}}


@pytest.mark.parametrize("name", SMALL)
def test_maps_are_those_of_the_network_as_it_was(name):
    model = network(name, **SMALL[name])
    images = torch.randn(2, 3, 96, 96, generator=torch.Generator().manual_seed(1)).double()
    state = {key: value.clone() for key, value in model.state_dict().items()}
    for alias in FAST:
        method = get_method(alias, **FEW.get(alias, {}))
        ready = prepare(model, method)
        assert ready is not model
        assert norms(ready) == 0 < norms(model)
        torch.testing.assert_close(ready(images), model(images), rtol=1e-9, atol=1e-9)
        before = method.attribute(model, images, CLASSES)
        after = method.attribute(ready, images, CLASSES)
        torch.testing.assert_close(after, before, rtol=1e-5, atol=1e-6 * float(before.abs().max()))
    assert all(torch.equal(state[key], value) for key, value in model.state_dict().items())


@pytest.mark.parametrize("composite", get_args(CompositeName))
def test_relevance_by_every_composite_is_that_of_the_network_as_it_was(composite):
    model = network(**SMALL["resnet18"])
    images = torch.rand(2, 3, 64, 64, generator=torch.Generator().manual_seed(1)).double()
    method = get_method("lrp", composite=composite, box=[0.0, 1.0])
    before = method.attribute(model, images, CLASSES)
    after = method.attribute(prepare(model, method), images, CLASSES)
    torch.testing.assert_close(after, before, rtol=1e-6, atol=1e-8 * float(before.abs().max()))


@pytest.mark.parametrize("alias", ["fullgrad", "attnlrp"])
def test_methods_that_give_each_layer_its_part_get_the_network_as_it_is(alias):
    model = network(**SMALL["resnet18"])
    assert prepare(model, get_method(alias)) is model
    assert prepare(model, get_method("gradcam", layer="layer1")) is model


def test_a_norm_whose_convolution_is_seen_elsewhere_stays():
    class Twice(nn.Module):
        def __init__(self):
            super().__init__()
            self.see, self.norm = nn.Conv2d(3, 4, 3), nn.BatchNorm2d(4)
            self.norm.running_mean += 0.3

        def forward(self, x):
            seen = self.see(x)
            return (self.norm(seen) + seen).mean((2, 3))

    model = Twice().eval()
    assert prepare(model, get_method("gradient")) is model


def test_what_has_nothing_to_fold_is_returned():
    vit = timm.create_model("test_vit", num_classes=9).eval()
    assert prepare(vit, get_method("gradient")) is vit
    assert var_exp.prepare is prepare
    assert {
        get_method(alias).invariant_to_folding for alias in list_methods() if alias != "captum"
    } == {
        True,
        False,
    }
