"""Networks of docs/support.md that came later: small ones only, of timm, torchvision, transformers.

Their published sizes have the same kinds of blocks, and would take hours more.
"""

from functools import partial
from typing import Any

import timm
import torchvision.models as tv
import transformers
from timm.models._efficientnet_builder import decode_arch_def
from timm.models.mvitv2 import MultiScaleVit, MultiScaleVitCfg
from timm.models.regnet import RegNet, RegNetCfg
from torch import nn

from var_exp.models import returning_logits

_CLASSES = 10


def _timm(name: str, **options: Any) -> nn.Module:
    model: nn.Module = timm.create_model(name, num_classes=_CLASSES, **options)
    return model


def _mvit() -> nn.Module:
    cfg = MultiScaleVitCfg(depths=(1, 1, 1), embed_dim=24)
    model: nn.Module = MultiScaleVit(cfg, img_size=(64, 64), num_classes=_CLASSES)
    return model


def _efficientnet_lite() -> nn.Module:
    """EfficientNet without squeeze-and-excitation, with ReLU6."""
    stages = ["ds_r1_k3_s1_e1_c8", *(f"ir_r1_k{k}_s2_e4_c16" for k in (3, 5, 3))]
    model: nn.Module = timm.models.EfficientNet(
        decode_arch_def([[stage] for stage in stages]),
        _CLASSES,
        num_features=32,
        stem_size=8,
        act_layer=nn.ReLU6,
    )
    return model


def _mobilenet_v3() -> nn.Module:
    """MobileNetV3 of timm with four blocks: hard swish, and gates with a hard sigmoid."""
    stages = [
        "ds_r1_k3_s2_e1_c8_se0.25_nre",
        "ir_r1_k3_s2_e4_c16_nre",
        "ir_r1_k5_s2_e4_c16_se0.25",
        "cn_r1_k1_s1_c32",
    ]
    model: nn.Module = timm.models.MobileNetV3(
        decode_arch_def([[stage] for stage in stages]),
        num_classes=_CLASSES,
        num_features=32,
        stem_size=8,
        act_layer=nn.Hardswish,
    )
    return model


def _torchvision_mobilenet_v3() -> nn.Module:
    setting = [
        tv.mobilenetv3.InvertedResidualConfig(8, 3, 8, 8, True, "RE", 2, 1, 0.5),
        tv.mobilenetv3.InvertedResidualConfig(8, 3, 32, 16, False, "RE", 2, 1, 1.0),
        tv.mobilenetv3.InvertedResidualConfig(16, 5, 32, 16, True, "HS", 2, 1, 1.0),
    ]
    model: nn.Module = tv.MobileNetV3(setting, 32, num_classes=_CLASSES)
    return model


def _torchvision_regnet() -> nn.Module:
    params = tv.regnet.BlockParams.from_init_params(
        depth=4, w_0=16, w_a=8.0, w_m=2.0, group_width=8, se_ratio=0.25
    )
    model: nn.Module = tv.RegNet(params, num_classes=_CLASSES, stem_width=8)
    return model


def _regnet() -> nn.Module:
    cfg = RegNetCfg(depth=5, w0=16, wa=8.0, wm=1.5, group_size=8, se_ratio=1.0, stem_width=8)
    model: nn.Module = RegNet(cfg, num_classes=_CLASSES)
    return model


def _hf(kind: str, **options: Any) -> nn.Module:
    """A classifier of transformers from its configuration; an object with logits becomes these."""
    config = getattr(transformers, f"{kind}Config")(num_labels=_CLASSES, **options)
    model: nn.Module = getattr(transformers, f"{kind}ForImageClassification")(config)
    return returning_logits(model)


_TINY = {"hidden_size": 32, "num_hidden_layers": 2, "num_attention_heads": 2}
_WINDOWS = {"embed_dim": 16, "depths": [2, 2], "num_heads": [2, 2], "window_size": 4}
_VIT = {"img_size": 64, "patch_size": 16, "embed_dim": 32, "depth": 2, "num_heads": 2}

NEWER = (
    ("Hugging Face ViT", "transformers/ViT", partial(
        _hf, "ViT", image_size=64, patch_size=16, intermediate_size=64, **_TINY), 64),
    ("Hugging Face Swin", "transformers/Swin", partial(
        _hf, "Swin", image_size=64, patch_size=4, **_WINDOWS), 64),
    ("Hugging Face ConvNeXt", "transformers/ConvNext", partial(
        _hf, "ConvNext", hidden_sizes=[8, 16, 24, 32], depths=[1, 1, 1, 1]), 64),
    ("DINOv2 with a head", "transformers/Dinov2", partial(
        _hf, "Dinov2", image_size=56, patch_size=14, mlp_ratio=2, **_TINY), 56),
    ("Hiera", "timm/hiera_tiny_224", partial(
        _timm, "hiera_tiny_224", img_size=(128, 128), embed_dim=16, num_heads=1,
        stages=(1, 1, 1, 1)), 128),
    ("MViTv2", "timm/mvitv2_tiny", _mvit, 64),
    ("LeViT", "timm/levit_128s", partial(
        _timm, "levit_128s", img_size=96, embed_dim=(16, 24, 32), key_dim=8, depth=(1, 1, 1),
        num_heads=(2, 3, 4)), 96),
    ("CrossViT", "timm/crossvit_tiny_240", partial(
        _timm, "crossvit_tiny_240", img_size=64, img_scale=(1.0, 1.0), patch_size=(8, 16),
        embed_dim=(16, 32), num_heads=(2, 2), depth=((1, 1, 0),)), 64),
    ("MaxViT", "timm/maxvit_rmlp_pico_rw_256", partial(
        _timm, "maxvit_rmlp_pico_rw_256", img_size=64, depths=(1, 1), embed_dim=(32, 32)), 64),
    ("EVA-02", "timm/eva02_tiny_patch14_224", partial(
        _timm, "eva02_tiny_patch14_224", img_size=56, embed_dim=48, depth=2, num_heads=2), 56),
    ("SigLIP pooling", "timm/vit_base_patch16_siglip_224", partial(
        _timm, "vit_base_patch16_siglip_224", **_VIT), 64),
    ("RegNet", "timm/regnety_002", _regnet, 64),
    ("RegNet", "torchvision/regnet_y_400mf", _torchvision_regnet, 64),
    ("MobileNetV3", "timm/mobilenetv3_small_100", _mobilenet_v3, 64),
    ("MobileNetV3", "torchvision/mobilenet_v3_small", _torchvision_mobilenet_v3, 64),
    ("EfficientNet-Lite", "timm/efficientnet_lite0", _efficientnet_lite, 64),
)  # fmt: skip
"""Family, name, builder and side of the images."""
