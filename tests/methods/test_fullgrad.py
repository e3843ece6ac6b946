"""FullGrad: that maps sum to their logits, where biases are put, and what is refused."""

import pytest
import torch
from timm.models.vision_transformer import VisionTransformer
from torch import nn

from var_exp.engine.full_gradients.attribution import full_gradients
from var_exp.methods import get_method
from var_exp.types import UnsupportedModel

CLASSES = torch.tensor([[1, 3, 4], [0, 0, 2]])


@pytest.fixture
def images():
    return torch.randn(2, 3, 32, 32, generator=torch.Generator().manual_seed(0))


def test_maps_are_the_full_gradients_and_sum_to_the_logits(images):
    torch.manual_seed(0)
    model = VisionTransformer(32, 8, num_classes=5, embed_dim=24, depth=2, num_heads=2).eval()
    maps = get_method("fullgrad").attribute(model, images, CLASSES)
    assert torch.equal(maps, full_gradients(model, images, CLASSES))
    logits = model(images).detach().gather(1, CLASSES)
    torch.testing.assert_close(maps.sum((2, 3, 4)), logits, rtol=1e-4, atol=1e-5)
    assert maps.min() < 0 < maps.max()


def test_without_biases_it_is_input_x_gradient(images):
    torch.manual_seed(0)
    layers = [nn.Conv2d(3, 6, 3, bias=False), nn.ReLU(), nn.MaxPool2d(5), nn.Flatten()]
    model = nn.Sequential(*layers, nn.Linear(216, 5, bias=False))
    maps = get_method("fullgrad").attribute(model, images, CLASSES)
    expected = get_method("input_x_gradient").attribute(model, images, CLASSES)
    torch.testing.assert_close(maps, expected.sum(2, keepdim=True))


def test_bias_of_the_classifier_is_spread_evenly(images):
    model = nn.Sequential(nn.Flatten(), nn.Linear(3072, 5))
    nn.init.zeros_(model[1].weight)
    maps = get_method("fullgrad").attribute(model, images, CLASSES)
    expected = model[1].bias.detach()[CLASSES] / 1024
    torch.testing.assert_close(maps, expected.view(2, 3, 1, 1, 1).expand(-1, -1, 1, 32, 32))


@pytest.mark.parametrize("layout", ["channels_first", "channels_last", "tokens"])
def test_biases_lie_where_their_layer_is(images, layout):
    """Only the cell in row 1, column 2 is read: its biases stay within a cell around it."""

    class Reads(nn.Module):
        def __init__(self):
            super().__init__()
            self.patches = nn.Conv2d(3, 5, 8, stride=8)
            self.norm = nn.LayerNorm(5)
            self.prefix = nn.Parameter(torch.randn(1, 2, 5))

        def forward(self, images):
            x = self.patches(images)  # [B, 5, 4, 4]
            if layout == "channels_first":
                return nn.functional.gelu(x)[:, :, 1, 2]
            if layout == "channels_last":
                return self.norm(x.permute(0, 2, 3, 1))[:, 1, 2]
            prefix = self.prefix.expand(len(x), -1, -1)
            tokens = torch.cat([prefix, x.flatten(2).transpose(1, 2)], 1)
            return self.norm(tokens)[:, 2 + 4 * 1 + 2]

    torch.manual_seed(0)
    model = Reads()
    nn.init.normal_(model.norm.bias)
    maps = get_method("fullgrad").attribute(model, images, CLASSES)
    outside = maps.clone()
    outside[..., 4:20, 12:28] = 0
    assert outside.abs().max() < 1e-7
    logits = model(images).detach().gather(1, CLASSES)
    torch.testing.assert_close(maps.sum((2, 3, 4)), logits, rtol=1e-4, atol=1e-6)


def test_a_model_with_hidden_parts_is_refused_by_check(images):
    class Halved(torch.autograd.Function):
        @staticmethod
        def forward(ctx, x):
            return x / 2

        @staticmethod
        def backward(ctx, gradient):
            return gradient / 2

    class Hidden(nn.Sequential):
        def forward(self, images):
            return super().forward(Halved.apply(images))

    model = Hidden(nn.Flatten(), nn.Linear(3072, 5))
    given = (model, images[:1])
    for run, arguments in [("check", given), ("attribute", (*given, CLASSES[:1]))]:
        with pytest.raises(UnsupportedModel, match=r"not be complete; use another .* such as ig"):
            getattr(get_method("fullgrad"), run)(*arguments)


class Merged(nn.Module):
    """8 x 8 tokens, merged 2 x 2; the logits read what lies at row 1, column 2 of the 4 x 4."""

    def __init__(self, order):
        super().__init__()
        torch.manual_seed(0)
        self.patches, self.merge = nn.Conv2d(3, 6, 4, 4, bias=False), nn.Linear(24, 5, bias=False)
        self.norm, self.order, self.read = nn.LayerNorm(5), order, int(order.tolist().index(6))
        nn.init.normal_(self.norm.bias)

    def forward(self, images):
        tokens = (
            self.patches(images).unflatten(2, (4, 2)).unflatten(4, (4, 2))
        )  # [B, 6, 4, 2, 4, 2]
        tokens = self.merge(tokens.permute(0, 2, 4, 1, 3, 5).flatten(3).flatten(1, 2))
        return self.norm(tokens[:, self.order])[:, self.read]


def test_biases_of_merged_tokens_lie_where_these_are():
    model, image = Merged(torch.arange(16)).eval(), torch.zeros(1, 3, 32, 32)
    (maps,) = get_method("fullgrad").attribute(model, image, CLASSES[:1])[:, :, 0]
    for k, c in enumerate(CLASSES[0].tolist()):
        there = maps[k, 4:20, 12:28].sum()  # the cell, and half of one around it
        torch.testing.assert_close(there, model.norm.bias[c].detach())
        torch.testing.assert_close(maps[k].sum(), there)


def test_biases_of_tokens_in_an_unknown_order_belong_to_the_whole_image():
    order = torch.randperm(16, generator=torch.Generator().manual_seed(1))
    model, image = Merged(order).eval(), torch.zeros(1, 3, 32, 32)
    (maps,) = get_method("fullgrad").attribute(model, image, CLASSES[:1])[:, :, 0]
    evenly = (model.norm.bias.detach()[CLASSES[0]] / 1024)[:, None, None]
    torch.testing.assert_close(maps, evenly.expand_as(maps))
