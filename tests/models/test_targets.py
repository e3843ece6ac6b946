"""Target layers of the families of models that are in use, and what a target reads."""

import pytest
import timm
import torch
import torchvision
from torch import nn

from var_exp.models.targets import Target, find_target
from var_exp.types import ConfigError, UnsupportedModel


def timm_model(name, **options):
    return lambda: timm.create_model(name, pretrained=False, num_classes=10, **options)


def torchvision_model(name, **options):
    return lambda: torchvision.models.get_model(name, weights=None, num_classes=10, **options)


CHANNELS_FIRST = "channels_first"
SMALL = {"img_size": 64}
CASES = {
    "resnet18": (timm_model("resnet18"), 64, Target("layer4", CHANNELS_FIRST, (2, 2))),
    "resnet50": (timm_model("resnet50"), 64, Target("layer4", CHANNELS_FIRST, (2, 2))),
    "densenet121": (timm_model("densenet121"), 64, Target("features", CHANNELS_FIRST, (2, 2))),
    "convnext_atto": (timm_model("convnext_atto"), 64, Target("stages", CHANNELS_FIRST, (2, 2))),
    "convnext_tiny": (timm_model("convnext_tiny"), 64, Target("stages", CHANNELS_FIRST, (2, 2))),
    "efficientnet_b0": (timm_model("efficientnet_b0"), 64, Target("bn2", CHANNELS_FIRST, (2, 2))),
    "mixer": (
        timm_model("mixer_s32_224", img_size=64),
        64,
        Target("norm", "tokens", (2, 2)),
    ),
    "vit, class token": (
        timm_model("vit_tiny_patch16_224", **SMALL),
        64,
        Target("blocks.11.norm1", "tokens", (4, 4), prefix=1),
    ),
    "vit, average": (
        timm_model("vit_tiny_patch16_224", global_pool="avg", **SMALL),
        64,
        Target("blocks", "tokens", (4, 4), prefix=1),
    ),
    "vit, registers": (
        timm_model("vit_small_patch14_reg4_dinov2", img_size=56, depth=2),
        56,
        Target("blocks.1.norm1", "tokens", (4, 4), prefix=5),
    ),
    "deit, distilled": (
        timm_model("deit_tiny_distilled_patch16_224", **SMALL),
        64,
        Target("blocks.11.norm1", "tokens", (4, 4), prefix=2),
    ),
    "cait, class attention": (
        timm_model("cait_xxs24_224", **SMALL),
        64,
        Target("blocks_token_only.1.norm1", "tokens", (4, 4), prefix=1),
    ),
    "swin": (
        timm_model("swin_tiny_patch4_window7_224", **SMALL),
        64,
        Target("norm", "channels_last", (2, 2)),
    ),
    "torchvision resnet18": (
        torchvision_model("resnet18"),
        64,
        Target("layer4", CHANNELS_FIRST, (2, 2)),
    ),
    "torchvision densenet121": (
        torchvision_model("densenet121"),
        64,
        Target("features", CHANNELS_FIRST, (2, 2)),
    ),
    "torchvision vit": (
        torchvision_model("vit_b_16", image_size=64),
        64,
        Target("encoder.layers.encoder_layer_11.ln_1", "tokens", (4, 4), prefix=1),
    ),
    "torchvision swin": (torchvision_model("swin_t"), 64, Target("norm", "channels_last", (2, 2))),
    "torchvision convnext": (
        torchvision_model("convnext_tiny"),
        64,
        Target("features", CHANNELS_FIRST, (2, 2)),
    ),
}
HEAVY = {  # VGG's classifier alone has 120 million weights to initialise
    "vgg11": (timm_model("vgg11"), 64, Target("features", CHANNELS_FIRST, (2, 2))),
    "vgg16": (timm_model("vgg16"), 64, Target("features", CHANNELS_FIRST, (2, 2))),
    "torchvision vgg16": (
        torchvision_model("vgg16"),
        224,
        Target("features", CHANNELS_FIRST, (7, 7)),
    ),
}


@pytest.mark.parametrize(
    "case",
    [
        *(pytest.param(case, id=name) for name, case in CASES.items()),
        *(pytest.param(case, id=name, marks=pytest.mark.slow) for name, case in HEAVY.items()),
    ],
)
def test_target_of_a_known_family(case):
    build, size, expected = case
    model = build().eval()
    assert find_target(model, torch.randn(1, 3, size, size)) == expected
    assert not any(module._forward_hooks for module in model.modules())
    assert all(p.grad is None and p.requires_grad for p in model.parameters())


def test_oblong_images():
    model = timm.create_model("resnet18", pretrained=False).eval()
    assert find_target(model, torch.randn(1, 3, 64, 90)).grid == (2, 3)


def test_a_plain_sequence_ends_at_its_last_activation():
    model = nn.Sequential(
        nn.Conv2d(3, 4, 3),
        nn.ReLU(inplace=True),
        nn.Dropout(),
        nn.AdaptiveAvgPool2d(3),
        nn.Flatten(),
        nn.Linear(36, 5),
    )
    assert find_target(model, torch.randn(1, 3, 16, 16)) == Target("1", CHANNELS_FIRST, (14, 14))


def test_a_head_of_zeros_hides_nothing():
    model = timm.create_model("resnet18", pretrained=False).eval()
    nn.init.zeros_(model.fc.weight)
    assert find_target(model, torch.randn(1, 3, 64, 64)).name == "layer4"


def test_a_map_that_the_logits_ignore_is_passed_over():
    class SideBranch(nn.Module):
        def __init__(self):
            super().__init__()
            self.used, self.unused = nn.Conv2d(3, 4, 3), nn.Conv2d(4, 4, 3)
            self.head = nn.Linear(4, 5)

        def forward(self, images):
            x = self.used(images)
            self.unused(x)
            return self.head(x.mean((2, 3)))

    assert find_target(SideBranch(), torch.randn(1, 3, 8, 8)).name == "used"


def test_another_layer_by_name():
    model = timm.create_model("resnet18", pretrained=False).eval()
    image = torch.randn(1, 3, 64, 64)
    assert find_target(model, image, "layer3") == Target("layer3", CHANNELS_FIRST, (4, 4))
    vit = timm_model("vit_tiny_patch16_224", **SMALL)().eval()
    assert find_target(vit, image, "blocks.5") == Target("blocks.5", "tokens", (4, 4), prefix=1)
    with pytest.raises(ConfigError, match="ResNet has no module 'layer5'"):
        find_target(model, image, "layer5")
    with pytest.raises(UnsupportedModel, match="at layer 'fc'; leave layer out"):
        find_target(model, image, "fc")
    with pytest.raises(UnsupportedModel, match=r"at layer 'blocks.11'"):
        find_target(vit, image, "blocks.11")  # its patch tokens are thrown away


def test_a_model_without_feature_map_is_refused():
    model = nn.Sequential(nn.Flatten(), nn.Linear(48, 5))
    with pytest.raises(UnsupportedModel, match="name one with layer=…"):
        find_target(model, torch.randn(1, 3, 4, 4))


def test_reading_maps_from_every_layout():
    expected = torch.randn(2, 5, 3, 4)
    assert Target("x", CHANNELS_FIRST, (3, 4)).to_map(expected) is expected
    last = expected.permute(0, 2, 3, 1)
    assert torch.equal(Target("x", "channels_last", (3, 4)).to_map(last), expected)
    tokens = torch.cat([torch.randn(2, 2, 5), last.flatten(1, 2)], dim=1)
    assert torch.equal(Target("x", "tokens", (3, 4), prefix=2).to_map(tokens), expected)


def test_works_in_inference_mode():
    model = timm.create_model("resnet18", pretrained=False).eval()
    with torch.inference_mode():
        assert find_target(model, torch.randn(1, 3, 64, 64)).name == "layer4"
