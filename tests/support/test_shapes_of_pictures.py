"""Every method does on pictures that are no squares what it does on squares."""

import pytest
import timm
import torch

from var_exp.support import support
from var_exp.support.networks import in_general_position

CNN = ("resnet18", {"layers": (1, 1, 1, 1), "channels": (8, 16, 24, 32)}, (96, 64))
VIT = (
    "vit_tiny_patch16_224",
    {"img_size": (64, 96), "embed_dim": 32, "depth": 2, "num_heads": 2},
    (64, 96),
)


WITH_ATTENTION = {
    "attention_gradcam",
    "attention_rollout",
    "attnlrp",
    "legrad",
    "libragrad",
    "transformer_attribution",
}
NOT_ON_A_VIT = {"clrp", "lrp", "refine_cam", "sglrp"}


@pytest.mark.parametrize(
    ("name", "options", "shape", "refused"),
    [(*CNN, WITH_ATTENTION), (*VIT, NOT_ON_A_VIT)],
    ids=["CNN", "ViT"],
)
def test_maps_of_upright_and_wide_pictures_are_verified(name, options, shape, refused):
    torch.manual_seed(0)
    model = timm.create_model(name, num_classes=10, **options).eval()
    in_general_position(model, torch.randn(4, 3, *shape))
    found = support(model, torch.randn(3, *shape), thorough=True)
    assert {each.status for each in found} == {"acts", "refused"}
    assert {each.method for each in found if each.status == "refused"} == refused
