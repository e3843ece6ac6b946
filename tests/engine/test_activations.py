"""Backward rules against module hooks in float64, and across the ways to call one activation."""

import pytest
import torch
import torch.nn.functional as F  # noqa: N812
from torch import nn

from var_exp.engine.activations import activation_rule, check_activations, guided_calls
from var_exp.engine.gradients import class_gradients
from var_exp.types import UnsupportedModel

IMAGES = torch.randn(2, 3, 9, 9, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
CLASSES = torch.tensor([[0, 2], [1, 1]])


class Net(nn.Module):
    """Two convolutions with an activation given as a function, called twice, with a skip."""

    def __init__(self, activation):
        super().__init__()
        torch.manual_seed(1)
        self.first, self.second = nn.Conv2d(3, 4, 3), nn.Conv2d(4, 4, 3, padding=1)
        self.head = nn.Linear(4, 3)
        self.activation = activation
        self.double().eval()

    def forward(self, images):
        x = self.activation(self.first(images))
        x = x + self.activation(self.second(x))
        return self.head(x.mean((2, 3)))


def maps(net, backward, activations="all"):
    rule = activation_rule(net, backward, activations)
    return class_gradients(net, IMAGES, CLASSES, rule=rule).gradients


def hooked(net, backward):
    """The same by Captum's way, in a loop over classes: a full backward hook on every module."""
    rule = {
        "guided": lambda leaving, arriving: leaving.relu(),
        "deconvnet": lambda leaving, arriving: arriving.relu(),
    }[backward]
    handles = [
        module.register_full_backward_hook(lambda _, leaving, g: (rule(leaving[0], g[0]),))
        for module in net.modules()
        if module in net.activations
    ]
    columns = []
    for chosen in CLASSES.T:
        images = IMAGES.clone().requires_grad_()
        net(images)[range(len(images)), chosen].sum().backward()
        columns.append(images.grad)
    for handle in handles:
        handle.remove()
    return torch.stack(columns, 1)


ACTIVATIONS = {
    "relu": nn.ReLU,
    "relu6": nn.ReLU6,
    "hardtanh": nn.Hardtanh,
    "leaky_relu": nn.LeakyReLU,
    "prelu": lambda: nn.PReLU().double(),
    "rrelu": nn.RReLU,
    "elu": nn.ELU,
    "selu": nn.SELU,
    "celu": nn.CELU,
    "gelu": nn.GELU,
    "gelu_tanh": lambda: nn.GELU(approximate="tanh"),
    "silu": nn.SiLU,
    "mish": nn.Mish,
    "hardswish": nn.Hardswish,
    "softplus": nn.Softplus,
}


@pytest.mark.parametrize("backward", ["guided", "deconvnet"])
@pytest.mark.parametrize("name", ACTIVATIONS)
def test_equals_backward_hooks_on_modules(name, backward):
    modules = nn.ModuleList([ACTIVATIONS[name](), ACTIVATIONS[name]()]).eval()
    calls = iter(range(1000))
    net = Net(lambda x: modules[next(calls) % 2](x))
    net.activations = modules
    expected = hooked(net, backward)
    found = maps(net, backward)
    torch.testing.assert_close(found, expected, rtol=1e-12, atol=1e-15)
    plain = class_gradients(net, IMAGES, CLASSES).gradients
    assert not torch.allclose(found, plain, rtol=1e-2)


FORMS = {
    "relu": [
        F.relu,
        torch.relu,
        torch.Tensor.relu,
        nn.ReLU(),
        nn.ReLU(inplace=True),
        torch.relu_,
        F.relu_,
        torch.Tensor.relu_,
        lambda x: F.relu(x, True),
        lambda x: F.relu(input=x, inplace=True),
        lambda x: (x.relu_(), x)[1],  # the returned tensor is dropped
        lambda x: x.flatten(1).relu_().view_as(x),  # in place on a view
    ],
    "silu": [F.silu, nn.SiLU(inplace=True), lambda x: F.silu(x, inplace=True)],
    "gelu": [F.gelu, lambda x: F.gelu(x, approximate="none")],
    "leaky_relu": [F.leaky_relu, F.leaky_relu_, lambda x: F.leaky_relu(x, 0.01, True)],
    "elu": [F.elu, F.elu_, nn.ELU(inplace=True)],
    "relu6": [F.relu6, nn.ReLU6(inplace=True), lambda x: F.hardtanh(x, 0.0, 6.0)],
    "hardswish": [F.hardswish, nn.Hardswish(inplace=True)],
}


@pytest.mark.parametrize("backward", ["guided", "deconvnet"])
@pytest.mark.parametrize("name", FORMS)
def test_every_form_of_the_call_is_the_same(name, backward):
    module = ACTIVATIONS[name]()
    expected = maps(Net(module), backward)
    for form in FORMS[name]:
        net = Net(form)
        assert torch.equal(net(IMAGES), Net(module)(IMAGES))
        torch.testing.assert_close(maps(net, backward), expected, rtol=1e-12, atol=0)


def test_relu_modules_leaves_functional_relu_alone():
    functional = Net(F.relu)
    plain = class_gradients(functional, IMAGES, CLASSES).gradients
    assert not torch.allclose(maps(functional, "guided", "relu"), plain)
    with pytest.raises(UnsupportedModel, match=r"activations=relu_modules .* use activations=all"):
        maps(functional, "guided", "relu_modules")
    modular = Net(nn.ReLU())
    assert torch.equal(maps(modular, "guided", "relu_modules"), maps(functional, "guided", "all"))
    assert not modular.activation._forward_hooks
    assert not modular.activation._forward_pre_hooks


def test_relu_leaves_gelu_alone():
    with pytest.raises(UnsupportedModel, match=r"activations=relu acts on.*use activations=all"):
        maps(Net(F.gelu), "guided", "relu")


@pytest.mark.parametrize("activation", [torch.tanh, lambda x: x * torch.sigmoid(1.702 * x)])
def test_nothing_to_guide_is_refused(activation):
    with pytest.raises(UnsupportedModel, match=r"Net has no activation .* use method=gradient"):
        maps(Net(activation), "guided")


def test_an_error_of_the_model_is_not_replaced():
    def broken(x):
        raise RuntimeError("the model's own error")

    with pytest.raises(RuntimeError, match="the model's own error"):
        maps(Net(broken), "guided")


def test_a_misspelt_choice_is_refused():
    with pytest.raises(ValueError, match="all, relu, relu_modules, got 'gelu'"):
        check_activations("gelu")


def test_guided_calls_are_counted_across_rules_and_not_outside():
    net = Net(nn.functional.relu)
    with guided_calls() as counts:
        maps(net, "guided")
        maps(net, "deconvnet")
        assert counts == {"relu": 4}
    maps(net, "guided")
    assert counts == {"relu": 4}
