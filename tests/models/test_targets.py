"""Target layers of the families of models that are in use, and what a target reads."""

import pytest
import timm
import torch
import torchvision
from architectures import ARCHITECTURES, build
from torch import nn
from torchvision.models.swin_transformer import (
    PatchMergingV2,
    SwinTransformer,
    SwinTransformerBlockV2,
)

from var_exp.engine.gradients import layer_output
from var_exp.models.targets import Target, find_target
from var_exp.types import ConfigError, UnsupportedModel


def timm_model(name, **options):
    return lambda: timm.create_model(name, pretrained=False, num_classes=10, **options)


def torchvision_model(name, **options):
    return lambda: torchvision.models.get_model(name, weights=None, num_classes=10, **options)


CHANNELS_FIRST, CHANNELS_LAST, TOKENS = "channels_first", "channels_last", "tokens"
PUBLISHED = {
    "timm resnet50": (timm_model("resnet50"), "layer4", CHANNELS_FIRST),
    "timm densenet121": (timm_model("densenet121"), "features", CHANNELS_FIRST),
    "timm convnext_tiny": (timm_model("convnext_tiny"), "stages", CHANNELS_FIRST),
    "timm efficientnet_b0": (timm_model("efficientnet_b0"), "bn2", CHANNELS_FIRST),
    "timm vgg16": (timm_model("vgg16"), "features", CHANNELS_FIRST),
    "timm swin": (
        timm_model("swin_tiny_patch4_window7_224", img_size=64),
        "norm",
        CHANNELS_LAST,
    ),
    "torchvision resnet18": (torchvision_model("resnet18"), "layer4", CHANNELS_FIRST),
    "torchvision densenet121": (torchvision_model("densenet121"), "features", CHANNELS_FIRST),
    "torchvision convnext": (torchvision_model("convnext_tiny"), "features", CHANNELS_FIRST),
    "torchvision vgg16": (torchvision_model("vgg16"), "features", CHANNELS_FIRST),
    "torchvision swin": (torchvision_model("swin_t"), "norm", CHANNELS_LAST),
}


@pytest.mark.slow
@pytest.mark.parametrize("name", PUBLISHED)
def test_target_of_a_published_size(name):
    build_model, layer, layout = PUBLISHED[name]
    target = find_target(build_model().eval(), torch.randn(1, 3, 64, 64))
    assert target == Target(layer, layout, (2, 2))


SMALL_VIT = {"img_size": 64, "embed_dim": 32, "depth": 2, "num_heads": 2}
SMALL_SWIN = {"img_size": 64, "embed_dim": 16, "depths": (1, 1), "num_heads": (2, 2)}
OF_SMALL = {
    "timm/resnet18": Target("layer4", CHANNELS_FIRST, (2, 2)),
    "timm/resnet50": Target("layer4", CHANNELS_FIRST, (2, 2)),
    "torchvision/resnet18": Target("layer4", CHANNELS_FIRST, (2, 2)),
    "timm/wide_resnet50_2": Target("layer4", CHANNELS_FIRST, (2, 2)),
    "timm/resnext50_32x4d": Target("layer4", CHANNELS_FIRST, (2, 2)),
    "timm/densenet121": Target("features", CHANNELS_FIRST, (2, 2)),
    "torchvision/densenet121": Target("features", CHANNELS_FIRST, (2, 2)),
    "timm/vgg16": Target("features", CHANNELS_FIRST, (2, 2)),
    "torchvision/vgg11": Target("features", CHANNELS_FIRST, (2, 2)),
    "torchvision/vgg11_bn": Target("features", CHANNELS_FIRST, (2, 2)),
    "timm/convnext_base": Target("stages", CHANNELS_FIRST, (2, 2)),
    "torchvision/convnext_tiny": Target("features", CHANNELS_FIRST, (6, 6)),
    "timm/efficientnet_b0": Target("bn2", CHANNELS_FIRST, (2, 2)),
    "timm/vit_base_patch16_224": Target("blocks.1.norm1", TOKENS, (4, 4), prefix=1),
    "timm/vit_small_patch14_reg4_dinov2": Target("blocks.1.norm1", TOKENS, (4, 4), prefix=5),
    "timm/vit_little_patch16_reg4_gap_256": Target("blocks", TOKENS, (4, 4), prefix=4),
    "timm/vit_base_patch16_gap_224": Target("norm", TOKENS, (4, 4)),
    "torchvision/vit_b_16": Target("encoder.layers.encoder_layer_1.ln_1", TOKENS, (4, 4), 1),
    "timm/deit_small_patch16_224": Target("blocks.1.norm1", TOKENS, (4, 4), prefix=1),
    "timm/deit_small_distilled_patch16_224": Target("blocks.1.norm1", TOKENS, (4, 4), prefix=2),
    "timm/swin_base_patch4_window7_224": Target("norm", CHANNELS_LAST, (8, 8)),
    "torchvision/swin_t": Target("norm", CHANNELS_LAST, (8, 8)),
    "transformers/ViT": Target("vit.layers.1.layernorm_before", TOKENS, (4, 4), prefix=1),
    "transformers/Swin": Target("swin.layernorm", TOKENS, (8, 8)),
    "transformers/ConvNext": Target("convnext.encoder.stages.3", CHANNELS_FIRST, (2, 2)),
    "transformers/Dinov2": Target("dinov2.layernorm", TOKENS, (4, 4), prefix=1),
    "timm/hiera_tiny_224": Target("blocks.3", TOKENS, (4, 4)),
    "timm/mvitv2_tiny": Target("norm", TOKENS, (4, 4)),
    "timm/crossvit_tiny_240": Target("blocks.0.fusion.1.norm1", TOKENS, (8, 8), prefix=1),
    "timm/maxvit_rmlp_pico_rw_256": Target("norm", CHANNELS_FIRST, (8, 8)),
    "timm/eva02_tiny_patch14_224": Target("blocks.1", TOKENS, (4, 4), prefix=1),
    "timm/vit_base_patch16_siglip_224": Target("norm", TOKENS, (4, 4)),
    "timm/regnety_002": Target("s4", CHANNELS_FIRST, (2, 2)),
    "torchvision/regnet_y_400mf": Target("trunk_output", CHANNELS_FIRST, (8, 8)),
    "timm/mobilenetv3_small_100": Target("blocks", CHANNELS_FIRST, (4, 4)),
    "torchvision/mobilenet_v3_small": Target("features", CHANNELS_FIRST, (4, 4)),
    "timm/efficientnet_lite0": Target("bn2", CHANNELS_FIRST, (4, 4)),
    "var_exp/critters_cnn": Target("layer4", CHANNELS_FIRST, (4, 4)),
    "var_exp/critters_vit": Target("blocks", TOKENS, (4, 4)),
}
BY_NAME = {architecture.name: architecture for architecture in ARCHITECTURES}
PLACELESS = "timm/levit_128s"
"""Its subsampling attention mixes all places of so small a picture."""


def test_features_without_places_of_their_own_are_refused():
    model, size = build(BY_NAME[PLACELESS], small=True)
    with pytest.raises(UnsupportedModel, match=r"at layer 'stages' .* places could not be establ"):
        find_target(model, torch.randn(1, 3, size, size, dtype=torch.float64))


@pytest.mark.parametrize("name", sorted(set(BY_NAME) - {PLACELESS}))
def test_target_of_the_small_relative_of_every_architecture_of_the_matrix(name):
    model, size = build(BY_NAME[name], small=True)
    image = torch.randn(1, 3, size, size, dtype=torch.float64)
    model(image)  # on which transformers hangs hooks of its own
    hooks = [list(module._forward_hooks) for module in model.modules()]
    assert find_target(model, image) == OF_SMALL[name]
    assert [list(module._forward_hooks) for module in model.modules()] == hooks


def torchvision_swin_v2():
    blocks = {"block": SwinTransformerBlockV2, "downsample_layer": PatchMergingV2}
    return SwinTransformer([4, 4], 16, [1, 1], [2, 2], [8, 8], num_classes=10, **blocks)


FURTHER = {
    "vit, average beside a class token": (
        timm_model("vit_tiny_patch16_224", global_pool="avg", **SMALL_VIT),
        Target("blocks", TOKENS, (4, 4), prefix=1),
    ),
    "vit, maximum over all tokens": (
        timm_model("vit_tiny_patch16_224", global_pool="max", **SMALL_VIT),
        Target("blocks", TOKENS, (4, 4), prefix=1),
    ),
    "vit, average after the norm": (
        timm_model("vit_tiny_patch16_224", global_pool="avg", fc_norm=False, **SMALL_VIT),
        Target("norm", TOKENS, (4, 4), prefix=1),
    ),
    "vit, pooled by attention": (
        timm_model("vit_base_patch16_siglip_224", **SMALL_VIT),
        Target("norm", TOKENS, (4, 4)),
    ),
    "vit, rotary positions": (
        timm_model("vit_small_patch16_dinov3", **SMALL_VIT),
        Target("norm", TOKENS, (4, 4), prefix=5),
    ),
    "deit 3": (
        timm_model("deit3_small_patch16_224", **SMALL_VIT),
        Target("blocks.1.norm1", TOKENS, (4, 4), prefix=1),
    ),
    "swin 2": (
        timm_model("swinv2_tiny_window8_256", window_size=8, **SMALL_SWIN),
        Target("norm", CHANNELS_LAST, (8, 8)),
    ),
    "torchvision swin 2": (torchvision_swin_v2, Target("norm", CHANNELS_LAST, (8, 8))),
    "cait, class attention": (
        timm_model("cait_xxs24_224", img_size=64, depth=2),
        Target("blocks_token_only.1.norm1", TOKENS, (4, 4), prefix=1),
    ),
    "mixer": (
        timm_model("mixer_s32_224", img_size=64),
        Target("norm", TOKENS, (2, 2)),
    ),
    "convnext 2": (
        timm_model("convnextv2_atto", depths=(1, 1, 1, 1)),
        Target("stages", CHANNELS_FIRST, (2, 2)),
    ),
    "torchvision efficientnet": (
        torchvision_model("efficientnet_b0"),
        Target("features", CHANNELS_FIRST, (2, 2)),
    ),
}


@pytest.mark.parametrize("name", FURTHER)
def test_target_of_further_heads_and_versions(name):
    build_model, expected = FURTHER[name]
    assert find_target(build_model().eval(), torch.randn(1, 3, 64, 64)) == expected


@pytest.mark.parametrize(
    ("name", "layer"),
    [
        ("timm/vit_base_patch16_224", "blocks.0.norm1"),
        ("timm/vit_small_patch14_reg4_dinov2", "blocks.0.norm1"),
        ("timm/vit_base_patch16_gap_224", "blocks.0.norm1"),
        ("timm/deit_small_distilled_patch16_224", "blocks.0.norm1"),
        ("torchvision/vit_b_16", "encoder.layers.encoder_layer_0.ln_1"),
        ("swin_tiny_patch4_window7_224", "patch_embed"),
    ],
)
def test_a_position_of_the_map_is_that_place_in_the_image(name, layer):
    """Before any mixing, another patch changes its own position and no other."""
    if name in BY_NAME:
        model, size = build(BY_NAME[name], small=True)
    else:  # not 16 channels on 16 x 16 positions, which might be in any order
        model = timm_model(name, **{**SMALL_SWIN, "embed_dim": 24})().eval().double()
        size = 64
    image = torch.randn(1, 3, size, size, dtype=torch.float64)
    target = find_target(model, image, layer)
    side = size // target.grid[0]
    other = image.clone()
    other[..., side : 2 * side, 3 * side : 4 * side] += 1
    before, after = (
        target.to_map(layer_output(model, x, model.get_submodule(layer))[1]) for x in (image, other)
    )
    assert (before != after).any(1)[0].nonzero().tolist() == [[1, 3]]


class NoWayBack(torch.autograd.Function):
    @staticmethod
    def forward(ctx, x):
        return x.clone()

    @staticmethod
    def backward(ctx, *gradients):
        raise AssertionError("the backward pass must end at the layer that is found")


def test_no_backward_pass_beyond_the_layer_that_is_found():
    class Barred(nn.Module):
        def forward(self, images):
            return NoWayBack.apply(images)

    model = nn.Sequential(
        *(nn.Conv2d(3, 4, 3), Barred(), nn.Conv2d(4, 4, 3), nn.ReLU(inplace=True)),
        *(nn.Flatten(), nn.Linear(576, 5)),
    )
    image = torch.randn(1, 3, 16, 16)
    assert find_target(model, image).name == "3"
    assert find_target(model, image, "2").name == "2"  # though it is overwritten in place
    with pytest.raises(AssertionError, match="the backward pass must end"):
        find_target(model, image, "0")


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


def test_an_activation_that_is_used_again_ends_the_features_where_it_runs_on_them():
    class Reused(nn.Module):
        """One ReLU for the convolutions and for the head, as many hand-written networks have it."""

        def __init__(self):
            super().__init__()
            self.first, self.second = nn.Conv2d(3, 4, 3), nn.Conv2d(4, 6, 3)
            self.relu, self.hidden, self.head = nn.ReLU(), nn.Linear(6, 8), nn.Linear(8, 5)

        def forward(self, images):
            features = self.relu(self.second(self.relu(self.first(images))))
            return self.head(self.relu(self.hidden(features.mean((2, 3)))))

    model, images = Reused(), torch.randn(2, 3, 12, 12)
    target = find_target(model, images[:1])
    assert target == Target("relu", CHANNELS_FIRST, (8, 8), run=1)
    expected = model.second(model.first(images).relu()).relu().detach()
    assert torch.equal(layer_output(model, images, model.relu, target.run)[1], expected)


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
    vit = timm_model("vit_tiny_patch16_224", **SMALL_VIT)().eval()
    assert find_target(vit, image, "blocks.0") == Target("blocks.0", "tokens", (4, 4), prefix=1)
    with pytest.raises(ConfigError, match="ResNet has no module 'layer5'"):
        find_target(model, image, "layer5")
    with pytest.raises(UnsupportedModel, match="at layer 'fc'; leave layer out"):
        find_target(model, image, "fc")
    with pytest.raises(UnsupportedModel, match=r"at layer 'blocks.1'"):
        find_target(vit, image, "blocks.1")  # its patch tokens are thrown away


def test_a_model_without_feature_map_is_refused():
    model = nn.Sequential(nn.Flatten(), nn.Linear(48, 5))
    with pytest.raises(UnsupportedModel, match="name one with layer=…"):
        find_target(model, torch.randn(1, 3, 4, 4))


def test_works_in_inference_mode():
    model = timm.create_model("resnet18", pretrained=False).eval()
    with torch.inference_mode():
        assert find_target(model, torch.randn(1, 3, 64, 64)).name == "layer4"
