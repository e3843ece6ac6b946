"""LibraGrad against a transformer of constant gates, and against the sum that it promises."""

import pytest
import timm
import torch
from timm.layers import SwiGLUPacked
from timm.models.vision_transformer import VisionTransformer
from torch import nn

from var_exp.methods import get_method
from var_exp.types import UnsupportedModel

CLASSES = torch.tensor([[1, 7], [3, 3]])
SHAPE = {"img_size": 32, "patch_size": 8, "embed_dim": 24, "num_classes": 10, "num_heads": 2}
METHOD = get_method("libragrad")


@pytest.fixture
def images():
    return torch.randn(2, 3, 32, 32, generator=torch.Generator().manual_seed(0)).double()


def vit(**options):
    torch.manual_seed(0)
    model = VisionTransformer(**SHAPE, depth=2, **options)
    for parameter in model.parameters():
        nn.init.normal_(parameter, std=0.3)
    return model.double().eval()


class ConstantNorm(nn.Module):
    def __init__(self, norm):
        super().__init__()
        self.norm = norm

    def forward(self, x):
        deviation = (x.var(-1, correction=0, keepdim=True) + self.norm.eps).sqrt().detach()
        normalised = (x - x.mean(-1, keepdim=True)) / deviation
        return normalised * self.norm.weight + self.norm.bias


class ConstantGate(nn.Module):
    """GELU as x Φ(x), Φ a constant."""

    def forward(self, x):
        return x * (0.5 * (1 + torch.erf(x / 2**0.5))).detach()


class ConstantAttention(nn.Module):
    def __init__(self, attention):
        super().__init__()
        self.qkv, self.proj, self.heads = attention.qkv, attention.proj, attention.num_heads

    def forward(self, x, *_, **__):
        query, key, value = (
            part.unflatten(2, (self.heads, -1)).transpose(1, 2)
            for part in self.qkv(x).chunk(3, dim=2)
        )
        weights = (query @ key.mT / query.shape[-1] ** 0.5).softmax(-1).detach()
        return self.proj((weights @ value).transpose(1, 2).flatten(2))


def with_constants(model):
    """The same network, as the paper's code has it: its gates, deviations, attention detached."""
    for block in model.blocks:
        block.norm1, block.norm2 = ConstantNorm(block.norm1), ConstantNorm(block.norm2)
        block.attn, block.mlp.act = ConstantAttention(block.attn), ConstantGate()
    model.norm = ConstantNorm(model.norm)
    return model


def test_equals_input_times_gradient_with_constants(images):
    maps = METHOD.attribute(vit(), images, CLASSES)
    model = with_constants(vit())
    torch.testing.assert_close(model(images), vit()(images))
    for b in range(2):
        for k in range(2):
            leaf = images[b : b + 1].clone().requires_grad_()
            (gradient,) = torch.autograd.grad(model(leaf)[0, CLASSES[b, k]], leaf)
            torch.testing.assert_close(maps[b, k], (leaf * gradient)[0].float())
    plain = get_method("input_x_gradient").attribute(vit(), images, CLASSES)
    assert not torch.allclose(plain, maps, rtol=0.1)


def without_biases(model):
    for name, parameter in model.named_parameters():
        if name.endswith("bias") or name in ("pos_embed", "cls_token"):
            nn.init.zeros_(parameter)
    return model


@pytest.mark.parametrize("options", [{}, {"mlp_layer": SwiGLUPacked}], ids=["gelu", "gated"])
def test_without_biases_a_map_sums_to_its_logit(images, options):
    model = without_biases(vit(**options))
    maps = METHOD.attribute(model, images, CLASSES)
    logits = model(images).gather(1, CLASSES).detach()
    torch.testing.assert_close(maps.double().sum((2, 3, 4)), logits, rtol=1e-5, atol=1e-6)
    plain = get_method("input_x_gradient").attribute(model, images, CLASSES)
    assert (plain.double().sum((2, 3, 4)) - logits).abs().min() > 0.01 * logits.abs().max()


def test_a_scaled_image_keeps_its_gradient(images):
    """Multiplying the image by a constant is linear: the map is that of the scaled image."""

    class Scaled(nn.Module):
        def __init__(self):
            super().__init__()
            self.vit = vit()

        def forward(self, images):
            return self.vit(images * 3.0 / 2.0)

    maps = METHOD.attribute(Scaled(), images, CLASSES)
    torch.testing.assert_close(maps, METHOD.attribute(vit(), 1.5 * images, CLASSES))


def test_a_network_with_nothing_to_balance_is_refused(images):
    model = timm.create_model("test_resnet").double()
    with pytest.raises(UnsupportedModel, match="would be the plain gradient; use method=input_x_g"):
        METHOD.check(model, images[:1])


def test_what_has_no_rule_is_refused(images):
    class Waves(nn.Module):
        def __init__(self):
            super().__init__()
            self.vit = vit()

        def forward(self, images):
            return self.vit(images.sin())

    with pytest.raises(UnsupportedModel, match="computes 'Sin', for which there is no"):
        METHOD.check(Waves(), images[:1])
