"""Whole networks against a replica that replaces torch's functions, and gradient x input.

The replica writes every rule as a surrogate whose plain gradient is the rule's (Achtibat et al.
2024, section "efficient"), in the formulas of the papers, and shares no code with the engine.
"""

from functools import partial

import pytest
import timm
import torch
import torch.nn.functional as F  # noqa: N812
import torchvision
from timm.models.deit import VisionTransformerDistilled
from timm.models.densenet import DenseNet
from timm.models.swin_transformer import SwinTransformer
from timm.models.vgg import VGG
from timm.models.vision_transformer import VisionTransformer
from torch import nn

from var_exp.methods import get_method

CLASSES = torch.tensor([[1, 7], [3, 3]])


def stable(x):
    return x + 1e-6 * torch.where(x < 0, -1, 1)


def with_value(surrogate, value):
    """The value, with the gradient of the surrogate."""
    return value.detach() + surrogate - surrogate.detach()


def redistributed(total, value):
    """g · value / total reaches the contributions that make up the total."""
    return with_value(total * (value / stable(total)).detach(), value)


def epsilon_total(layer, x, w, b):
    return layer(x, w, b)


def plus_total(layer, x, w, b):
    bias = None if b is None else b.clamp(min=0)
    return layer(x.clamp(min=0), w.clamp(min=0), bias) + layer(x.clamp(max=0), w.clamp(max=0), None)


def gamma_total(gamma, layer, x, w, b):
    up, down = w + gamma * w.clamp(min=0), w + gamma * w.clamp(max=0)
    b = torch.zeros(()).to(w).expand(len(w)) if b is None else b
    b_up, b_down = b + gamma * b.clamp(min=0), b + gamma * b.clamp(max=0)
    positive, negative = x.clamp(min=0), x.clamp(max=0)
    if_positive = layer(positive, up, b_up) + layer(negative, down, None)
    if_negative = layer(positive, down, b_down) + layer(negative, up, None)
    return torch.where(layer(x, w, b) > 0, if_positive, if_negative)


class Replica:
    """Relevance of one image and class at a time, by patched torch functions."""

    def __init__(self, monkeypatch, first, convolution, tokens, dense):
        self.first_total, self.convolution, self.tokens, self.dense = (
            *(first, convolution, tokens, dense),
        )
        self.patch = monkeypatch
        self.leaf = None

    def maps(self, model, images, classes):
        rows = []
        for image, chosen in zip(images, classes.tolist(), strict=True):
            rows.append(torch.stack([self.map(model, image[None], c) for c in chosen]))
        return torch.stack(rows)

    def map(self, model, image, chosen):
        self.leaf = None
        conv2d, linear, batch_norm = F.conv2d, F.linear, F.batch_norm
        matmul = torch.matmul

        def convolved(x, w, b=None, *args, **kwargs):
            layer = lambda x, w, b: conv2d(x, w, b, *args, **kwargs)  # noqa: E731
            if self.leaf is None:
                return self.begin(layer, x, w, b, layer(x, w, b))
            z = redistributed(self.convolution(layer, x, w, b), layer(x, w, b))
            z.origin = layer, x, w, b
            return z

        def normalised(x, mean, variance, weight, bias, training, momentum, eps):
            value = batch_norm(x, mean, variance, weight, bias, False, 0.0, eps)
            scale = weight / (variance + eps).sqrt()
            layer, before, w, b = x.origin
            w = w * scale.view(-1, 1, 1, 1)
            b = bias - mean * scale if b is None else (b - mean) * scale + bias
            if getattr(x, "is_first", False):
                return self.begin(layer, before, w, b, value)
            return redistributed(self.convolution(layer, before, w, b), value)

        def linear_(x, w, b=None):
            total = self.dense if x.ndim == 2 else self.tokens
            return redistributed(total(linear, x, w, b), linear(x, w, b))

        def layer_norm(x, shape, weight, bias, eps):
            axes = tuple(range(-len(shape), 0))
            deviation = (x.var(axes, correction=0, keepdim=True) + eps).sqrt().detach()
            return (x - x.mean(axes, keepdim=True)) / deviation * weight + bias

        def kept(f):
            return lambda x, inplace=False, **kwargs: x * (f(x, **kwargs) / x).detach()

        def shared(a, b):
            return (matmul(a, b.detach()) + matmul(a.detach(), b)) / 2

        def attention(q, k, v, attn_mask=None, dropout_p=0.0, is_causal=False, scale=None):
            scores = shared(q, k.transpose(-2, -1)) * (scale or q.shape[-1] ** -0.5)
            return shared((scores if attn_mask is None else scores + attn_mask).softmax(-1), v)

        with self.patch.context() as patch:
            gelu, silu = F.gelu, F.silu
            for name, function in {
                "conv2d": convolved,
                "linear": linear_,
                "batch_norm": normalised,
                "layer_norm": layer_norm,
                "gelu": kept(gelu),
                "silu": kept(silu),
                "scaled_dot_product_attention": attention,
            }.items():
                patch.setattr(F, name, function)
            gate = torch.Tensor.sigmoid
            patch.setattr(torch.Tensor, "sigmoid", lambda x: gate(x).detach())
            patch.setattr(torch, "sigmoid", lambda x: gate(x).detach())
            patch.setattr(torch.Tensor, "matmul", shared)
            patch.setattr(torch.Tensor, "__matmul__", shared)
            logit = model(image)[0, chosen]
        layer, x, w, b = self.first_layer
        relevance = self.leaf.detach() * torch.autograd.grad(logit, self.leaf)[0]
        if self.first_total is None:  # flat
            ones = torch.ones_like(x, requires_grad=True)
            total = layer(ones, torch.ones_like(w), None)
            return torch.autograd.grad(total, ones, relevance / stable(total))[0][0]
        x = x.detach().requires_grad_()
        total = self.first_total(layer, x, w, b)
        return (x * torch.autograd.grad(total, x, relevance / stable(total))[0])[0].detach()

    def begin(self, layer, x, w, b, value):
        """Let the graph start at the output of the first layer, which is returned."""
        self.leaf, self.first_layer = value.detach().requires_grad_(), (layer, x, w, b)
        output = self.leaf.clone()
        output.origin, output.is_first = self.first_layer, True
        return output


def in_general_position(model: nn.Module) -> nn.Module:
    """Statistics for batch norms; no scale, bias or position that is constant or tiny."""
    generator = torch.Generator().manual_seed(0)
    for module in model.modules():
        if isinstance(module, nn.BatchNorm2d):
            module.running_mean.normal_(0, 0.3, generator=generator)
            module.running_var.uniform_(0.3, 2, generator=generator)
    for parameter in model.parameters():
        if parameter.ndim == 1 or parameter.abs().max() < 0.1:
            parameter.data.normal_(0.2, 0.5, generator=generator)
    return model.double().eval().requires_grad_(False)


SMALL_VIT = {"img_size": 32, "patch_size": 8, "embed_dim": 24, "depth": 2, "num_heads": 2}
WINDOWS = {
    "patch_size": 4,
    "window_size": 4,
    "embed_dim": 12,
    "depths": (2, 2),
    "num_heads": (2, 3),
}
TV_VIT = {"image_size": 32, "patch_size": 8, "num_layers": 2, "num_heads": 2, "hidden_dim": 24}
TV_WINDOWS = {"patch_size": [4, 4], "embed_dim": 12, "depths": [2, 2], "num_heads": [2, 3]}
LRP = {
    "resnet": partial(timm.create_model, "test_resnet", num_classes=10),
    "vgg": partial(VGG, [8, "M", 12, "M"], 10, norm_layer=nn.BatchNorm2d, mlp_ratio=0.01),
    "efficientnet": partial(timm.create_model, "test_efficientnet", num_classes=10),
    "convnext": partial(timm.create_model, "test_convnext", num_classes=10),
}
ATTNLRP = {
    "vit": partial(VisionTransformer, **SMALL_VIT, num_classes=10),
    "vit_average": partial(VisionTransformer, **SMALL_VIT, num_classes=10, global_pool="avg"),
    "vit_registers": partial(
        VisionTransformer, **SMALL_VIT, num_classes=10, reg_tokens=2, init_values=0.1, qk_norm=True
    ),
    "deit": partial(VisionTransformerDistilled, **SMALL_VIT, num_classes=10),
    "swin": partial(SwinTransformer, img_size=32, **WINDOWS, num_classes=10),
    "torchvision_vit": partial(
        torchvision.models.VisionTransformer, **TV_VIT, mlp_dim=32, dropout=0.0, num_classes=10
    ),
    "torchvision_swin": partial(
        torchvision.models.SwinTransformer, **TV_WINDOWS, window_size=[4, 4], num_classes=10
    ),
}


@pytest.fixture
def images():
    return torch.randn(2, 3, 32, 32, generator=torch.Generator().manual_seed(0)).double()


def assert_same(maps, expected):
    assert (maps - expected).abs().max() < 1e-5 * expected.abs().max()


@pytest.mark.parametrize("name", LRP)
def test_lrp_equals_the_replica(name, images, monkeypatch):
    torch.manual_seed(0)
    model = in_general_position(LRP[name]())
    replica = Replica(monkeypatch, None, plus_total, plus_total, epsilon_total)
    maps = get_method("lrp").attribute(model, images, CLASSES)
    assert_same(maps, replica.maps(model, images, CLASSES))


@pytest.mark.parametrize("name", ATTNLRP)
def test_attnlrp_equals_the_replica(name, images, monkeypatch):
    torch.manual_seed(0)
    model = in_general_position(ATTNLRP[name]())
    linear, convolution = partial(gamma_total, 0.05), partial(gamma_total, 0.25)
    replica = Replica(monkeypatch, convolution, convolution, linear, linear)
    maps = get_method("attnlrp").attribute(model, images, CLASSES)
    assert_same(maps, replica.maps(model, images, CLASSES))


def test_timms_densenet_is_torchvisions(images):
    shape = {"growth_rate": 4, "block_config": (2, 2), "num_classes": 10}
    torch.manual_seed(0)
    first = in_general_position(DenseNet(**shape))
    second = torchvision.models.DenseNet(**shape, num_init_features=8).double()
    second.load_state_dict(first.state_dict())
    maps = [get_method("lrp").attribute(model, images, CLASSES) for model in (first, second)]
    assert_same(*maps)
