"""The same function written in two ways has the same maps, whatever the method."""

from collections.abc import Callable
from dataclasses import replace

import pytest
import timm
import torch
import torch.nn.functional as F  # noqa: N812
from architectures import ARCHITECTURES, build
from torch import nn

from var_exp.methods import get_method
from var_exp.support.checks import CHECKS
from var_exp.types import UnsupportedModel

# acts on modules, and so tells modules from functions: why it is only an adapter
ALIASES = sorted(set(CHECKS) - {"captum"})
CLASSES = torch.tensor([[3, 0, 7], [1, 8, 2]])


class Net(nn.Module):
    """A small ReLU network; `relu` is how the activation is called."""

    def __init__(self, relu: Callable[[torch.Tensor], torch.Tensor]) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.first, self.second = nn.Conv2d(3, 6, 3, 2, 1), nn.Conv2d(6, 6, 3, 2, 1)
        # no activation follows the last: class activation maps see outputs of modules alone
        self.third, self.last = nn.Conv2d(6, 6, 3, 1, 1), nn.Conv2d(6, 6, 3, 1, 1)
        self.head = nn.Linear(6, 10)
        self.relu = relu
        self.double().eval()

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        x = self.relu(self.second(self.relu(self.first(images))))
        x = self.relu(self.third(x) + x)
        return self.head(self.last(x).mean((2, 3)))


def small(name: str) -> nn.Module:
    (found,) = (each for each in ARCHITECTURES if each.name == name)
    return build(found, small=True)[0]


def timm_resnet() -> nn.Module:
    """The build of timm with the weights of torchvision's."""
    options = {"layers": (1, 1, 1, 1), "channels": (8, 16, 32, 64), "num_classes": 10}
    model = timm.create_model("resnet18", **options).double().eval()
    model.load_state_dict(small("torchvision/resnet18").state_dict())
    return model


def timm_densenet() -> nn.Module:
    """The build of timm with the weights of torchvision's; its ReLUs are modules, not functions."""
    model = small("timm/densenet121")
    model.load_state_dict(small("torchvision/densenet121").state_dict())
    return model


def timm_vit() -> nn.Module:
    """The build of timm with the weights of torchvision's, which has nn.MultiheadAttention."""
    names = {
        "encoder.layers.encoder_layer_": "blocks.",
        "encoder.pos_embedding": "pos_embed",
        "encoder.ln": "norm",
        "class_token": "cls_token",
        "conv_proj": "patch_embed.proj",
        "heads.head": "head",
        "ln_": "norm",
        "self_attention.in_proj_": "attn.qkv.",
        "self_attention.out_proj": "attn.proj",
        "mlp.0": "mlp.fc1",
        "mlp.3": "mlp.fc2",
    }
    weights = {}
    for name, value in small("torchvision/vit_b_16").state_dict().items():
        for old, new in names.items():
            name = name.replace(old, new)
        weights[name] = value
    sizes = {"patch_size": 16, "embed_dim": 32, "depth": 2, "num_heads": 2, "mlp_ratio": 2}
    model = timm.create_model("vit_base_patch16_224", img_size=64, num_classes=10, **sizes)
    model.load_state_dict(weights)
    return model.double().eval()


def unfused_vit() -> nn.Module:
    model = small("timm/vit_small_patch14_reg4_dinov2")
    for block in model.blocks:
        block.attn.fused_attn = not block.attn.fused_attn
    return model


TWINS = {
    "relu as a function": lambda: (Net(nn.ReLU()), Net(F.relu)),
    "relu in place": lambda: (Net(nn.ReLU()), Net(nn.ReLU(inplace=True))),
    "relu of the tensor": lambda: (Net(nn.ReLU()), Net(torch.Tensor.relu)),
    "resnet of timm": lambda: (small("torchvision/resnet18"), timm_resnet()),
    "densenet of timm": lambda: (small("torchvision/densenet121"), timm_densenet()),
    "vit of timm": lambda: (small("torchvision/vit_b_16"), timm_vit()),
    "attention in parts": lambda: (small("timm/vit_small_patch14_reg4_dinov2"), unfused_vit()),
}


# what is found differs: the last module that sees the features ends in a ReLU in timm alone
LAYERS = {"densenet of timm": "features.denseblock4"}


@pytest.mark.parametrize("twins", TWINS)
def test_twins_have_the_same_maps(twins):
    one, other = TWINS[twins]()
    images = torch.randn(2, 3, 64, 64, generator=torch.Generator().manual_seed(3)).double()
    torch.testing.assert_close(one(images), other(images))
    for alias in ALIASES:
        method = get_method(alias, **CHECKS[alias].options)
        if twins in LAYERS and hasattr(method, "layer"):
            method = replace(method, layer=LAYERS[twins])
        try:
            expected = method.attribute(one, images, CLASSES)
        except UnsupportedModel:
            with pytest.raises(UnsupportedModel):
                method.attribute(other, images, CLASSES)
            continue
        found = method.attribute(other, images, CLASSES)
        assert (found - expected).abs().max() <= 1e-5 * expected.abs().max(), alias
