"""The networks of docs/support.md: builds of timm and torchvision, each with a small relative.

The small relative has the same kinds of blocks, fewer and narrower, so that what a method refuses
on the real size it refuses on the small one.
"""

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from typing import Any, TypeAlias

import timm
import torch
import torchvision.models as tv
from newer_architectures import NEWER
from timm.models._efficientnet_builder import decode_arch_def
from torch import nn
from torchvision.models.convnext import CNBlockConfig
from torchvision.models.resnet import BasicBlock
from torchvision.models.vgg import make_layers

from var_exp.models import load_model
from var_exp.support.networks import Subject, in_general_position

Build: TypeAlias = Callable[[], nn.Module]

_CLASSES = 10  # of the small relatives


@dataclass(frozen=True)
class Architecture:
    """One build of a family of networks.

    Attributes:
        name: Library and name, such as "timm/resnet50".
        family: Column of the table.
        real: Builds the published size.
        small: Builds the small relative.
        pixels: Side of the images for the published size; 64 leave two positions along a side after
            stride 32.
        small_pixels: Likewise for the small relative.
        shipped: Whether it comes with its weights; the others get random ones.
    """

    name: str
    family: str
    real: Build
    small: Build
    pixels: int = 64
    small_pixels: int = 64
    shipped: bool = False


def build(architecture: Architecture, *, small: bool) -> tuple[nn.Module, int]:
    """The network in eval mode and float64, the same in every run, and the side of its images."""
    pixels = architecture.small_pixels if small else architecture.pixels
    with torch.random.fork_rng(devices=()):
        torch.manual_seed(0)
        model = (architecture.small if small else architecture.real)()
        model.eval().requires_grad_(False)
        if not architecture.shipped:
            in_general_position(model, torch.randn(8, 3, pixels, pixels))
    return model.double(), pixels


def subject(architecture: Architecture, *, small: bool) -> Subject:
    """A network with images and classes, the same in every run."""
    model, pixels = build(architecture, small=small)
    stream = torch.Generator().manual_seed(2)
    images = torch.randn(2, 3, pixels, pixels, generator=stream, dtype=torch.float64)
    classes = torch.tensor([[3, 0, 7, 5], [1, 8, 2, 3]])
    return Subject(architecture.name, model, images, classes)


def _timm(name: str, small: dict[str, Any] | None = None, **options: Any) -> dict[str, Any]:
    """Name and builds of a timm model; `small` holds the options of its relative."""
    return {
        "name": f"timm/{name}",
        "real": partial(timm.create_model, name, num_classes=1000, **options),
        "small": partial(timm.create_model, name, num_classes=_CLASSES, **(small or {})),
    }


_VGG = [8, "M", 16, "M", 16, 16, "M", 16, "M", 16, "M"]


class _NarrowResNet(tv.ResNet):  # type: ignore[misc]  # torchvision is untyped
    """ResNet-10 of torchvision with an eighth of the channels after the stem."""

    def __init__(self) -> None:
        super().__init__(BasicBlock, [1, 1, 1, 1])
        self.fc = nn.Linear(512 // 8, _CLASSES)

    def _make_layer(
        self, block: Any, planes: int, blocks: int, stride: int = 1, dilate: bool = False
    ) -> nn.Sequential:
        layer: nn.Sequential = super()._make_layer(block, planes // 8, blocks, stride, dilate)
        return layer


def _small_vgg(batch_norm: bool) -> nn.Module:
    """VGG of torchvision with a head of 32 units in place of 4096."""
    with torch.device("meta"):  # the published head has 100 million weights
        model: nn.Module = tv.VGG(nn.Identity(), init_weights=False)
    model.features = make_layers(_VGG, batch_norm)
    for layer, (before, after) in {0: (16 * 49, 32), 3: (32, 32), 6: (32, _CLASSES)}.items():
        model.set_submodule(f"classifier.{layer}", nn.Linear(before, after))
    return model


def _small_efficientnet() -> nn.Module:
    """EfficientNet of timm with four blocks."""
    stages = ["ds_r1_k3_s2_e1_c8_se0.25", *(f"ir_r1_k{k}_s2_e4_c16_se0.25" for k in (3, 5, 3))]
    model: nn.Module = timm.models.EfficientNet(
        decode_arch_def([[stage] for stage in stages]),
        _CLASSES,
        num_features=32,
        stem_size=8,
        act_layer=nn.SiLU,
    )
    return model


_RESNET = {"layers": (1, 1, 1, 1), "channels": (8, 16, 24, 32)}
_DENSENET = {"growth_rate": 8, "block_config": (2, 2, 2, 2)}
_CONVNEXT = {"depths": (1, 1, 1, 1), "dims": (8, 16, 24, 32)}
_VIT = {"img_size": 64, "patch_size": 16, "embed_dim": 32, "depth": 2, "num_heads": 2}
_SWIN = {"embed_dim": 16, "depths": (2, 2), "num_heads": (2, 2)}

ARCHITECTURES = (
    Architecture(family="ResNet", **_timm("resnet18", _RESNET)),
    Architecture(family="ResNet", **_timm("resnet50", _RESNET)),
    Architecture(
        name="torchvision/resnet18",
        family="ResNet",
        real=partial(tv.resnet18, weights=None),
        small=_NarrowResNet,
    ),
    Architecture(family="WideResNet", **_timm("wide_resnet50_2", _RESNET)),
    Architecture(
        family="ResNeXt",
        **_timm("resnext50_32x4d", {**_RESNET, "cardinality": 4, "base_width": 16}),
    ),
    Architecture(family="DenseNet", **_timm("densenet121", _DENSENET)),
    Architecture(
        name="torchvision/densenet121",
        family="DenseNet",
        real=partial(tv.densenet121, weights=None),
        small=partial(tv.DenseNet, **_DENSENET, num_init_features=16, num_classes=_CLASSES),
    ),
    Architecture(
        family="VGG",
        **{
            **_timm("vgg16"),
            "small": partial(timm.models.VGG, _VGG, num_classes=_CLASSES, mlp_ratio=0.01),
        },
    ),
    Architecture(
        name="torchvision/vgg11",
        family="VGG",
        real=partial(tv.vgg11, weights=None),
        small=partial(_small_vgg, batch_norm=False),
    ),
    Architecture(
        name="torchvision/vgg11_bn",
        family="VGG",
        real=partial(tv.vgg11_bn, weights=None),
        small=partial(_small_vgg, batch_norm=True),
    ),
    Architecture(family="ConvNeXt", **_timm("convnext_base", _CONVNEXT)),
    Architecture(
        name="torchvision/convnext_tiny",
        family="ConvNeXt",
        real=partial(tv.convnext_tiny, weights=None),
        small_pixels=96,  # of 64, a kernel of 7 covers all cells, and 5 of 30 draws are not local
        small=partial(
            tv.ConvNeXt,
            [CNBlockConfig(8, 16, 1), CNBlockConfig(16, 24, 1), CNBlockConfig(24, None, 1)],
            num_classes=_CLASSES,
        ),
    ),
    Architecture(
        family="EfficientNet",
        **{**_timm("efficientnet_b0"), "small": _small_efficientnet},
    ),
    # class token, class token and registers, registers and average pooling, average pooling
    Architecture(family="ViT", **_timm("vit_base_patch16_224", _VIT, img_size=64)),
    Architecture(
        family="ViT",
        pixels=70,
        **_timm("vit_small_patch14_reg4_dinov2", _VIT, img_size=70),
    ),
    Architecture(
        family="ViT",
        **_timm("vit_little_patch16_reg4_gap_256", _VIT, img_size=64),
    ),
    Architecture(family="ViT", **_timm("vit_base_patch16_gap_224", _VIT, img_size=64)),
    Architecture(
        name="torchvision/vit_b_16",
        family="ViT",
        real=partial(tv.vit_b_16, weights=None, image_size=64),
        small=partial(tv.VisionTransformer, 64, 16, 2, 2, 32, 64, num_classes=_CLASSES),
    ),
    Architecture(family="DeiT", **_timm("deit_small_patch16_224", _VIT, img_size=64)),
    Architecture(
        family="DeiT",
        **_timm("deit_small_distilled_patch16_224", _VIT, img_size=64),
    ),
    Architecture(
        family="Swin",
        pixels=56,
        **_timm(
            "swin_base_patch4_window7_224",
            {**_SWIN, "img_size": 64, "window_size": 4},
            img_size=56,
        ),
    ),
    Architecture(
        name="torchvision/swin_t",
        family="Swin",
        real=partial(tv.swin_t, weights=None),
        pixels=56,
        small=partial(tv.SwinTransformer, [4, 4], 16, [2, 2], [2, 2], [4, 4], num_classes=_CLASSES),
    ),
    *(
        Architecture(
            name=name, family=family, real=make, small=make, pixels=side, small_pixels=side
        )
        for family, name, make, side in NEWER
    ),
    *(
        Architecture(
            name=f"var_exp/{alias}",
            family="critters",
            real=partial(load_model, alias),
            small=partial(load_model, alias),
            small_pixels=32,
            shipped=True,
        )
        for alias in ("critters_cnn", "critters_vit")
    ),
)
