"""What depends on the image is followed, constants are not, and nothing passes unseen."""

import pytest
import torch
from torch import nn

from var_exp.engine.signals import Signals, signals_of
from var_exp.types import UnsupportedModel


class Names(Signals):
    """Names of the calls of signals, with how many of their tensors are some."""

    def __init__(self):
        super().__init__()
        self.names = []

    def follow(self, call, signals):
        assert [id(t) for t in signals_of(call)] == [id(t) for t in signals]
        self.names.append((call.name, len(signals)))
        result = call.run()
        self.note([result])
        return result

    def unseen(self):
        return UnsupportedModel("unseen.")


def watched(function):
    image, watch = torch.randn(2, 3).requires_grad_(), Names()
    with watch.watch(image):
        function(image)
    return watch.names


def test_calls_of_signals_are_followed_and_those_of_constants_are_not():
    weight = nn.Linear(3, 3).requires_grad_(False).weight

    def network(image):
        scale = weight.abs() + 1  # of constants
        hidden = image @ scale
        assert hidden.shape == (2, 3)  # asks nothing of the values
        return (hidden * hidden).sum()

    assert watched(network) == [("matmul", 1), ("mul", 2), ("sum", 1)]


def test_a_detached_tensor_is_a_constant():
    assert watched(lambda image: image.detach() * 2) == [("detach", 1)]


def test_fused_attention_is_opened():
    def network(image):
        tokens = image[None, None]
        return nn.functional.scaled_dot_product_attention(tokens, tokens, tokens)

    assert ("softmax", 1) in watched(network)


def test_a_signal_that_nothing_made_is_refused():
    hidden = torch.randn(2, 3).requires_grad_() * 2
    with pytest.raises(UnsupportedModel, match="unseen"):
        watched(lambda image: image + hidden)
