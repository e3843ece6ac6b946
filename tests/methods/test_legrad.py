"""LeGrad against loops over the layers of a network written by hand and of timm's, in float64."""

import pytest
import timm
import torch
from torch import nn
from torch.nn.functional import interpolate

from var_exp.methods import get_method
from var_exp.types import UnsupportedModel

CLASSES = torch.tensor([[1, 7, 4], [0, 0, 9]])


@pytest.fixture
def images():
    return torch.randn(2, 3, 64, 64, generator=torch.Generator().manual_seed(0)).double()


def vit(name="vit_tiny_patch16_224", **options):
    torch.manual_seed(0)
    model = timm.create_model(name, img_size=64, depth=3, num_classes=10, **options)
    for layer in model.modules():  # away from their first values, which are close to 0
        if isinstance(layer, nn.Linear):
            nn.init.normal_(layer.weight, std=0.1)
    return model.double().eval()


def layer_by_layer(model, image):
    """Attention [heads, N, N] of each layer and the logits [10] read after it, each a pass."""
    found = []
    for index, block in enumerate(model.blocks):
        block.attn.fused_attn = False
        seen = []
        handle = block.attn.attn_drop.register_forward_hook(
            lambda _module, _inputs, output, seen=seen: seen.append(output)
        )
        tokens = model._pos_embed(model.patch_embed(image[None]))
        tokens = model.norm_pre(tokens)
        for before in model.blocks[: index + 1]:
            tokens = before(tokens)
        logits = model.forward_head(model.norm(tokens))[0]
        handle.remove()
        block.attn.fused_attn = True
        found.append((seen[0], logits))
    return found


def by_loops(model, image, chosen, last):
    """Map [4, 4]: mean over layers, heads and rows of the positive gradient, number by number."""
    layers = layer_by_layer(model, image)[-last:]
    total = torch.zeros(layers[0][0].shape[-1], dtype=torch.float64)
    for matrix, logits in layers:
        (gradient,) = torch.autograd.grad(logits[chosen], matrix)
        heads, rows = gradient.shape[1:3]
        for head in range(heads):
            for row in range(rows):
                total += gradient[0, head, row].relu() / (heads * rows * len(layers))
    return total[-16:].view(4, 4)


@pytest.mark.parametrize(
    ("name", "layers"),
    [
        ("vit_tiny_patch16_224", None),
        ("vit_tiny_patch16_224", 2),
        ("vit_wee_patch16_reg1_gap_256", None),
    ],
)
def test_equals_loops_over_the_layers(images, name, layers):
    model = vit(name)
    maps = get_method("legrad", layers=layers).attribute(model, images, CLASSES)
    assert maps.shape == (2, 3, 1, 64, 64)
    for b in range(2):
        for k in range(3):
            coarse = by_loops(model, images[b], CLASSES[b, k], layers or 3)
            expected = interpolate(coarse[None, None], (64, 64), mode="bilinear")[0]
            assert coarse.max() > 0
            torch.testing.assert_close(
                maps[b, k], expected.float(), rtol=1e-5, atol=1e-6 * float(coarse.max())
            )
    assert maps.min() >= 0
    assert not torch.allclose(maps[0, 0], maps[0, 1], rtol=0.1)


def test_more_layers_than_there_are_take_all(images):
    model = vit()
    all_layers = get_method("legrad").attribute(model, images, CLASSES)
    assert torch.equal(
        get_method("legrad", layers=99).attribute(model, images, CLASSES), all_layers
    )
    assert not torch.allclose(
        get_method("legrad", layers=1).attribute(model, images, CLASSES), all_layers, rtol=0.1
    )


def test_a_network_that_reads_more_than_its_last_layer_is_refused(images):
    class Skips(nn.Module):
        """Adds the tokens of its first layer to those of its last."""

        def __init__(self):
            super().__init__()
            self.vit = vit()

        def forward(self, images):
            tokens = self.vit.norm_pre(self.vit._pos_embed(self.vit.patch_embed(images)))
            first = tokens = self.vit.blocks[0](tokens)
            for block in self.vit.blocks[1:]:
                tokens = block(tokens)
            return self.vit.forward_head(self.vit.norm(tokens + first))

    with pytest.raises(UnsupportedModel, match="from more than the tokens of its last layer"):
        get_method("legrad").check(Skips(), images[:1])


def test_a_network_without_attention_is_refused(images):
    model = timm.create_model("test_resnet").double()
    with pytest.raises(UnsupportedModel, match="ResNet has no attention between tokens"):
        get_method("legrad").check(model, images[:1])


def test_layers_must_be_at_least_one():
    with pytest.raises(Exception, match="layers must be at least 1, got 0"):
        get_method("legrad", layers=0)
