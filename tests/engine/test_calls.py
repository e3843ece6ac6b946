"""What a mode sees of a forward pass, and that written-out attention is the fused one."""

from collections import Counter

import pytest
import timm
import torch
import torch.nn.functional as F  # noqa: N812
import torchvision
from torch import nn

from var_exp.engine.calls import Call, Calls
from var_exp.types import UnsupportedModel


class Recorder(Calls):
    opens_attention = True

    def __init__(self):
        super().__init__()
        self.seen: list[Call] = []

    def answer(self, call):
        self.seen.append(call)
        return call.run()

    def names(self):
        return Counter(call.name for call in self.seen)


def test_every_form_of_a_call_has_one_name():
    x = torch.randn(3)
    with Recorder() as recorder:
        F.relu(x)
        F.relu(input=x)
        F.relu(x.clone(), inplace=True)
        torch.relu_(x.clone())
        x.clone().relu_()
        nn.ReLU(inplace=True)(x.clone())
        x + x
        x @ x
        y = x.clone()
        y += 1
    relus = [call for call in recorder.seen if call.name == "relu"]
    assert [call.in_place for call in relus] == [False, False, True, True, True, True]
    assert recorder.names()["add"] == 2
    assert recorder.names()["matmul"] == 1
    assert all(isinstance(call.input, torch.Tensor) for call in relus)
    assert torch.equal(relus[1].on(-x), (-x).relu())


def test_operators_and_attributes_have_names():
    x = torch.rand(2, 3)
    with Recorder() as recorder:
        1 - x
        x**2
        x[0] = x[1]
        x.shape  # noqa: B018 (reading it is the call)
        x.mT  # noqa: B018
        x.data  # noqa: B018
    names = ["__rsub__", "pow", "__getitem__", "__setitem__", "shape", "mT", "data"]
    assert [call.name for call in recorder.seen] == names
    assert not any(call.in_place for call in recorder.seen)


def test_a_call_of_other_tensors():
    a, b, c = torch.rand(3, 2, 2)
    with Recorder() as recorder:
        torch.cat([a, b], dim=1)
        F.linear(a, weight=b)
    cat, linear = recorder.seen
    assert [id(tensor) for tensor in cat.tensors] == [id(a), id(b)]
    assert torch.equal(cat.with_tensors([c, a]).run(), torch.cat([c, a], 1))
    assert torch.equal(linear.with_tensors([c, a]).run(), c @ a.T)


@pytest.mark.parametrize("mask", [None, "bool", "float"])
@pytest.mark.parametrize("scale", [None, 0.3])
def test_written_out_attention_is_the_fused_one(mask, scale):
    q, k, v = torch.randn(3, 2, 4, 5, 8, dtype=torch.float64).unbind(0)
    masks = {"bool": torch.rand(5, 5) < 0.7, "float": torch.randn(5, 5, dtype=torch.float64)}
    chosen = masks[mask] | torch.eye(5, dtype=torch.bool) if mask == "bool" else masks.get(mask)
    expected = F.scaled_dot_product_attention(q, k, v, attn_mask=chosen, scale=scale)
    with Recorder() as recorder:
        found = F.scaled_dot_product_attention(q, k, v, attn_mask=chosen, scale=scale)
    torch.testing.assert_close(found, expected, rtol=1e-12, atol=1e-12)
    assert recorder.names()["softmax"] == 1
    assert recorder.names()["matmul"] == 2


def test_unusual_attention_is_refused():
    q = torch.randn(1, 2, 3, 4)
    with Recorder(), pytest.raises(UnsupportedModel, match="causal"):
        F.scaled_dot_product_attention(q, q, q, is_causal=True)
    layer = nn.MultiheadAttention(8, 2)
    x, other = torch.randn(2, 3, 1, 8)
    with Recorder(), pytest.raises(UnsupportedModel, match="plain self-attention"):
        layer(x, other, other)


@pytest.mark.parametrize("need_weights", [True, False])
def test_written_out_multi_head_attention(need_weights):
    layer = nn.MultiheadAttention(8, 2, batch_first=True).double().eval()
    x = torch.randn(3, 5, 8, dtype=torch.float64, requires_grad=True)
    expected, weights = layer(x, x, x, need_weights=need_weights)
    with Recorder():
        found, found_weights = layer(x, x, x, need_weights=need_weights)
    torch.testing.assert_close(found, expected, rtol=1e-12, atol=1e-12)
    if need_weights:
        torch.testing.assert_close(found_weights, weights, rtol=1e-12, atol=1e-12)
    else:
        assert found_weights is None


def test_whole_transformers_keep_their_logits():
    torch.manual_seed(0)
    images = torch.randn(1, 3, 64, 64, dtype=torch.float64, requires_grad=True)
    models = [
        timm.create_model("vit_tiny_patch16_224", img_size=64, depth=2),
        timm.create_model("swin_tiny_patch4_window7_224", img_size=64, window_size=2),
        torchvision.models.VisionTransformer(64, 16, 2, 3, 48, 96),
    ]
    for model in models:
        model = model.double().eval()
        expected = model(images)
        with Recorder() as recorder:
            found = model(images)
        torch.testing.assert_close(found, expected, rtol=1e-9, atol=1e-9)
        assert recorder.names()["softmax"] >= 2
