"""GradCAM on attention against plain loops over hooked layers, in float64."""

import pytest
import timm
import torch
from torch import nn

import var_exp
from var_exp.methods import get_method
from var_exp.types import UnsupportedModel

CLASSES = torch.tensor([[1, 7, 4], [0, 0, 9]])


@pytest.fixture
def images():
    return torch.randn(2, 3, 64, 64, generator=torch.Generator().manual_seed(0)).double()


def transformer(name="vit_tiny_patch16_224"):
    torch.manual_seed(0)
    model = timm.create_model(name, img_size=64, depth=2, num_classes=10).double().eval()
    for layer in model.modules():  # away from their first values, which are close to 0
        if isinstance(layer, nn.Linear):
            nn.init.normal_(layer.weight, std=0.1)
    return model


def last_attention(model, image):
    """Logits and the last attention matrix [heads, N, N], as hooks see it."""
    seen = []
    attention = model.blocks[-1].attn
    attention.fused_attn = False
    handle = attention.attn_drop.register_forward_hook(lambda _m, _i, output: seen.append(output))
    logits = model(image)
    handle.remove()
    attention.fused_attn = True
    return logits, seen[0]


def expected_map(model, image, label, rows):
    """Head by head and patch by patch: mean gradient times attention, clamped, scaled."""
    logits, matrix = last_attention(model, image)
    (gradient,) = torch.autograd.grad(logits[0, label], matrix)
    cam = torch.zeros(16, dtype=torch.float64)
    for head in range(matrix.shape[1]):
        for row in rows:
            slopes = [float(gradient[0, head, row, column]) for column in range(-16, 0)]
            for patch in range(16):
                value = float(matrix.detach()[0, head, row, patch - 16])
                cam[patch] += value * sum(slopes) / 16 / matrix.shape[1] / len(rows)
    cam = cam.clamp_min(0)
    if cam.max() > 0:
        cam = (cam - cam.min()) / (cam.max() - cam.min())
    return nn.functional.interpolate(cam.view(1, 1, 4, 4), (64, 64), mode="bilinear")[0].float()


@pytest.mark.parametrize(
    ("name", "rows"),
    [
        ("vit_tiny_patch16_224", [0]),  # the published case: a class token
        ("deit_tiny_distilled_patch16_224", [0, 1]),
        ("vit_wee_patch16_reg1_gap_256", list(range(1, 17))),
    ],
)
def test_equals_loops(images, name, rows):
    model = transformer(name)
    maps = get_method("attention_gradcam").attribute(model, images, CLASSES)
    assert maps.shape == (2, 3, 1, 64, 64)
    for b in range(2):
        for k in range(3):
            expected = expected_map(model, images[b : b + 1], CLASSES[b, k], rows)
            torch.testing.assert_close(maps[b, k], expected, rtol=1e-5, atol=1e-6)
    assert (maps.flatten(2).amax(2) > 0).sum() >= 4
    assert (maps.flatten(2).std(1) > 0).any()  # classes differ


def test_every_class_has_the_range_of_the_unit_before_it_competes(images):
    model = transformer()
    weak = transformer()
    with torch.no_grad():
        weak.head.weight[7] *= 1e-3  # the scale of a logit is gone, whatever it was
    maps, weaker = (
        get_method("attention_gradcam").attribute(each, images, CLASSES) for each in (model, weak)
    )
    torch.testing.assert_close(maps, weaker, rtol=1e-4, atol=1e-5)
    assert maps.min() >= 0
    assert maps.max() <= 1


def test_a_class_without_positive_evidence_has_an_empty_map(images):
    model = transformer()
    with torch.no_grad():
        model.head.weight[7] = 0
    maps = get_method("attention_gradcam").attribute(model, images, CLASSES)
    assert maps.isfinite().all()
    assert maps[0, 1].count_nonzero() == 0
    assert maps[0, 0].max() > 0


def test_works_on_the_shipped_transformer_at_the_size_of_a_grid():
    model = var_exp.load_model("critters_vit")
    maps = get_method("attention_gradcam").attribute(model, torch.randn(2, 3, 128, 128), CLASSES)
    assert maps.shape == (2, 3, 1, 128, 128)


def test_half_precision(images):
    model = transformer().float()
    method = get_method("attention_gradcam")
    maps = method.attribute(model, images.float(), CLASSES)
    half = method.attribute(model.bfloat16(), images.to(torch.bfloat16), CLASSES)
    assert (half - maps).norm() < 0.2 * maps.norm()


def test_a_network_without_attention_is_refused(images):
    model = timm.create_model("test_resnet").double()
    with pytest.raises(UnsupportedModel, match="ResNet has no attention between tokens"):
        get_method("attention_gradcam").check(model, images[:1])
