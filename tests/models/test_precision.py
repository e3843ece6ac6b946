"""Only the model's forward pass runs in the context, also a copy's, and also one that fails."""

from copy import deepcopy
from functools import partial

import pytest
import torch
from torch import nn

from var_exp.engine.gradients import class_gradients
from var_exp.models.precision import run_forward_in

BF16 = partial(torch.autocast, "cpu", torch.bfloat16)


@pytest.fixture
def model():
    torch.manual_seed(0)
    return nn.Sequential(nn.Conv2d(3, 4, 3), nn.ReLU(), nn.Flatten(), nn.Linear(144, 5)).eval()


def types(model, images):
    """Types of what the layers return."""
    seen = []
    for layer in model:
        layer.register_forward_hook(lambda _m, _i, output: seen.append(output.dtype))
    model(images)
    return seen


def test_the_layers_compute_in_bfloat16_and_the_logits_are_float32(model):
    images = torch.randn(2, 3, 8, 8)
    expected = model(images)
    run_forward_in(model, BF16)
    logits = model(images)
    assert logits.dtype == torch.float32
    assert (logits - expected).abs().max() < 0.02 * expected.abs().max()
    assert not torch.equal(logits, expected)
    assert types(deepcopy(model), images) == [torch.bfloat16] * 4
    assert not torch.is_autocast_enabled("cpu")
    assert (images @ images).dtype == torch.float32


def test_gradients_are_those_of_autocast_and_come_out_in_float32(model):
    images, classes = torch.randn(2, 3, 8, 8), torch.tensor([[0, 1], [2, 3]])
    leaf = images.clone().requires_grad_()
    with BF16():
        logits = model(leaf)
    (expected,) = torch.autograd.grad(logits[0, 0] + logits[1, 2], leaf)
    run_forward_in(model, BF16)
    found = class_gradients(model, images, classes).gradients[:, 0]
    assert found.dtype == torch.float32
    torch.testing.assert_close(found, expected, rtol=0.02, atol=1e-4)


def test_a_pass_that_fails_leaves_the_context(model):
    run_forward_in(model, BF16)
    with pytest.raises(RuntimeError):
        model(torch.randn(2, 7, 8, 8))
    assert not torch.is_autocast_enabled("cpu")
    assert model(torch.randn(2, 3, 8, 8)).dtype == torch.float32
