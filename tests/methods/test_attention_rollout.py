"""Attention rollout against a loop over hooked layers, a closed form, and torchvision."""

import pytest
import timm
import torch
import torchvision
from torch import nn

import var_exp
from var_exp.methods import get_method
from var_exp.types import UnsupportedModel

CLASSES = torch.tensor([[1, 7, 4], [0, 0, 9]])


@pytest.fixture
def images():
    return torch.randn(2, 3, 64, 64, generator=torch.Generator().manual_seed(0)).double()


def hooked_matrices(model, image):
    """Softmax outputs [heads, N, N] of the layers of a timm model, as reference code gets them."""
    seen, handles = [], []
    for block in model.blocks:
        block.attn.fused_attn = False
        keep = lambda _module, _inputs, output: seen.append(output[0])  # noqa: E731
        handles.append(block.attn.attn_drop.register_forward_hook(keep))
    model(image)
    for handle in handles:
        handle.remove()
    for block in model.blocks:
        block.attn.fused_attn = True
    return seen


def rollout(matrices, rows):
    """Map [4, 4] of one image: product of the layers, mean of the read-out rows, patches."""
    count = matrices[0].shape[-1]
    product = torch.eye(count, dtype=torch.float64)
    for matrix in matrices:
        layer = torch.zeros_like(product)
        for head in matrix:
            layer += head / len(matrix)
        layer = 0.5 * layer + 0.5 * torch.eye(count)
        layer = layer / layer.sum(1, keepdim=True)
        product = layer @ product
    return product[rows].mean(0)[-16:].view(4, 4)


def upsampled(coarse):
    return nn.functional.interpolate(coarse[None, None], (64, 64), mode="bilinear")[0].float()


@pytest.mark.parametrize(
    ("name", "rows"),
    [
        ("vit_tiny_patch16_224", [0]),
        ("deit_tiny_distilled_patch16_224", [0, 1]),
        ("vit_wee_patch16_reg1_gap_256", list(range(1, 17))),
        ("vit_relpos_small_patch16_224", list(range(16))),
    ],
)
def test_equals_a_loop_over_hooked_layers(images, name, rows):
    torch.manual_seed(0)
    model = timm.create_model(name, img_size=64, depth=3, num_classes=10).double().eval()
    maps = get_method("attention_rollout").attribute(model, images, CLASSES)
    assert maps.shape == (2, 3, 1, 64, 64)
    for b in range(2):
        expected = rollout(hooked_matrices(model, images[b : b + 1]), rows)
        for k in range(3):  # the same map for every class
            torch.testing.assert_close(maps[b, k], upsampled(expected), rtol=1e-5, atol=0)
    assert not torch.allclose(maps[0], maps[1], rtol=1e-3)
    assert maps.min() >= 0


def test_layers_that_look_everywhere_alike_have_a_closed_form(images):
    """With A = 1/N everywhere, R = 2^-L I + (1 - 2^-L)/N."""
    model = timm.create_model("test_vit", img_size=64, depth=3).double().eval()
    for block in model.blocks:
        nn.init.zeros_(block.attn.qkv.weight)
        nn.init.zeros_(block.attn.qkv.bias)
    maps = get_method("attention_rollout").attribute(model, images, CLASSES)
    torch.testing.assert_close(maps, torch.full_like(maps, (1 - 2**-3) / 17))


def test_torchvision_transformer_equals_its_own_attention_weights(images):
    torch.manual_seed(0)
    model = torchvision.models.VisionTransformer(64, 16, 2, 3, 48, 96, num_classes=10)
    model = model.double().eval()
    for layer in model.encoder.layers:  # at their first values all weights would be much the same
        nn.init.normal_(layer.self_attention.in_proj_weight, std=0.5)
    maps = get_method("attention_rollout").attribute(model, images, CLASSES)
    seen = []
    for layer in model.encoder.layers:
        layer.ln_1.register_forward_hook(lambda _module, _inputs, output: seen.append(output))
    model(images)
    matrices = [
        layer.self_attention(x, x, x, average_attn_weights=False)[1]
        for layer, x in zip(model.encoder.layers, seen, strict=True)
    ]
    assert matrices[0].std() > 0.02
    for b in range(2):
        expected = upsampled(rollout([matrix[b] for matrix in matrices], [0]))
        torch.testing.assert_close(maps[b, 0], expected, rtol=1e-5, atol=1e-8)


def test_works_on_the_shipped_transformer_at_the_size_of_a_grid():
    model = var_exp.load_model("critters_vit")
    images = torch.randn(2, 3, 128, 128)
    maps = get_method("attention_rollout").attribute(model, images, CLASSES)
    assert maps.shape == (2, 3, 1, 128, 128)
    # the rows of R sum to 1, and so do their mean and, up to the border, 64 pixels a token
    torch.testing.assert_close(maps.sum((3, 4)), torch.full((2, 3, 1), 64.0), rtol=0.05, atol=0)


def test_a_model_may_work_in_place_on_its_input(images):
    model = timm.create_model("test_vit", img_size=64).double().eval()

    class Double(nn.Module):
        def forward(self, images):
            return images.mul_(2.0)

    before = images.clone()
    twice = nn.Sequential(Double(), model)
    maps = get_method("attention_rollout").attribute(twice, images, CLASSES)
    assert torch.equal(images, before)
    expected = get_method("attention_rollout").attribute(model, 2 * images, CLASSES)
    torch.testing.assert_close(maps, expected)


def test_half_precision(images):
    torch.manual_seed(0)
    model = timm.create_model("test_vit", img_size=64).eval()
    maps = get_method("attention_rollout").attribute(model, images.float(), CLASSES)
    half = get_method("attention_rollout").attribute(
        model.bfloat16(), images.to(torch.bfloat16), CLASSES
    )
    assert (half - maps).norm() < 0.02 * maps.norm()


def test_a_network_without_attention_is_refused(images):
    model = timm.create_model("test_resnet").double()
    for act in (
        lambda method: method.check(model, images[:1]),
        lambda method: method.attribute(model, images, CLASSES),
    ):
        with pytest.raises(UnsupportedModel, match="ResNet has no attention between tokens"):
            act(get_method("attention_rollout"))
