"""Stand-ins answer for torch's functions, and say so when a network calls what they do not know."""

import pytest
import torch
from torch import nn
from torch.nn import functional

from var_exp.support.checks.case import Case, Unchecked
from var_exp.support.checks.stand_ins import StandIns, logits_through, valued


class Net(nn.Module):
    """Logits of an image by some function of its pixels."""

    def __init__(self, function):
        super().__init__()
        self.function = function

    def forward(self, images):
        return self.function(images.flatten(1).clone())[:, 4:8]


def case(function):
    image = torch.linspace(-2, 2, 12, dtype=torch.float64).view(1, 3, 2, 2)
    return Case(None, Net(function), image, torch.tensor([[0, 1]]), "a", torch.ones(2, 3, 2, 2))


@pytest.mark.parametrize(
    "relu",
    [functional.relu, torch.relu, torch.Tensor.relu, nn.ReLU(inplace=True), lambda x: x.relu_()],
    ids=["functional", "torch", "method", "module", "in place"],
)
def test_a_function_is_met_however_it_is_called(relu):
    some, met = case(relu), []

    def stand_in(x, **_):
        met.append(x)
        return valued(x.clamp(min=0), 3 * x)

    leaf = some.image.clone().requires_grad_()
    logits = logits_through(StandIns({"relu": stand_in}), some, leaf)
    assert torch.equal(logits, some.image.flatten(1)[:, 4:8].relu())
    (gradient,) = torch.autograd.grad(logits.sum(), leaf)
    assert gradient.flatten().tolist() == [0] * 4 + [3] * 4 + [0] * 4
    assert len(met) == 1
    assert functional.relu(torch.tensor(-1.0)) == 0  # nothing stays behind


def test_a_function_of_one_tensor_gets_its_other_arguments():
    some = case(lambda x: functional.leaky_relu(x, 0.25, inplace=True))

    def slope_two(function, x):
        return valued(function(x.detach()), 2 * x)

    mode = StandIns({}, (), slope_two, {"leaky_relu"})
    leaf = some.image.clone().requires_grad_()
    logits = logits_through(mode, some, leaf)
    pixels = some.image.flatten()[4:8]
    torch.testing.assert_close(logits[0], torch.where(pixels < 0, pixels / 4, pixels))
    (gradient,) = torch.autograd.grad(logits.sum(), leaf)
    assert gradient.flatten().tolist() == [0] * 4 + [2] * 4 + [0] * 4


def test_attention_of_a_layer_is_seen_in_its_parts():
    torch.manual_seed(0)
    layer = nn.MultiheadAttention(8, 2, batch_first=True).double().eval()
    tokens = torch.randn(1, 5, 8, dtype=torch.float64, requires_grad=True)
    seen = []

    def noted(query, key, value):
        seen.append(query.shape)
        return functional.scaled_dot_product_attention(query, key, value)

    with StandIns({"scaled_dot_product_attention": noted}):
        output, _ = layer(tokens, tokens, tokens, need_weights=False)
    expected, _ = layer(tokens, tokens, tokens, need_weights=False)
    torch.testing.assert_close(output, expected)
    assert seen == [(1, 2, 5, 4)]


def test_a_call_without_stand_in_is_not_taken_for_its_plain_gradient():
    some = case(lambda x: torch.tanh(x) + x.flip(1))
    leaf = some.image.clone().requires_grad_()
    with pytest.raises(Unchecked, match="no stand-in for tanh"):
        logits_through(StandIns({}, plain=("relu",)), some, leaf)
    logits_through(StandIns({}, plain=("tanh",)), some, leaf)
    logits_through(StandIns({}), some, leaf)  # every call may keep its gradient
    logits_through(StandIns({}, plain=()), some, some.image)  # nothing here depends on the image


def test_stand_ins_that_change_the_logits_are_no_check():
    some = case(torch.tanh)
    leaf = some.image.clone().requires_grad_()
    with pytest.raises(Unchecked, match="own logits"):
        logits_through(StandIns({"tanh": lambda x: 1.001 * torch.tanh(x)}), some, leaf)
