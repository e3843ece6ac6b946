"""What the check of every method costs on a fresh network, in passes and in pictures."""

import pytest
import timm
import torch

from var_exp.methods import get_method, list_methods
from var_exp.support.checks import CHECKS
from var_exp.types import UnsupportedModel

IMAGE = torch.randn(1, 3, 64, 64, generator=torch.Generator().manual_seed(5))


def cnn():
    layers = {"layers": [1, 1, 1, 1], "channels": [8, 8, 8, 16]}
    return timm.create_model("resnet18", num_classes=6, **layers)


def vit():
    size = {"img_size": 64, "patch_size": 8, "embed_dim": 24, "num_heads": 2, "depth": 2}
    return timm.create_model("vit_tiny_patch16_224", num_classes=6, **size)


def swin():
    size = {"img_size": 64, "window_size": 4, "embed_dim": 24, "depths": (2, 2)}
    name = "swin_tiny_patch4_window7_224"
    return timm.create_model(name, num_classes=6, num_heads=(2, 4), **size)


RULES = {"lrp", "sglrp", "clrp", "attnlrp", "libragrad"}  # go back under their rules, too
CAMS = {
    *("gradcam", "gradcam_plus_plus", "layercam", "hirescam", "scorecam", "guided_gradcam"),
    *("finer_cam", "case", "ablation_cam", "eigen_cam"),
}
ATTENTION = {"attention_rollout", "transformer_attribution", "attention_gradcam"}
# forward passes, of so many pictures together, and backward passes to the image
NETWORK = (2, 3, 1)
COSTS = {
    **dict.fromkeys(RULES, (2, 3, 2)),
    "deeplift": (3, 3 + 2, 2),
    "fullgrad": (2 + 1 + 2, 3 + 6 + 3, 2),  # where it has tokens
    **dict.fromkeys(CAMS | ATTENTION, (2 + 1, 3 + 6, 1)),  # and the watched pass
    "refine_cam": (2 + 2, 3 + 12, 1),  # and the places of a map of 4 x 4
    "legrad": (2 + 1 + 2, 3 + 6 + 4, 1),
}


class Cost:
    """Counts the passes of a network from now on, also those of copies of its tensors."""

    def __init__(self, model):
        self.passes = []
        model.register_forward_pre_hook(self.see)

    def see(self, _model, inputs):
        this = [len(inputs[0]), 0]
        self.passes.append(this)
        with torch._C.DisableTorchFunction():  # methods that see every call should not see these
            if inputs[0].requires_grad:
                inputs[0].register_hook(lambda _: this.__setitem__(1, 1))

    @property
    def found(self):
        pictures, back = (sum(each) for each in zip(*self.passes, strict=True))
        return len(self.passes), pictures, back


@pytest.mark.parametrize("make", [cnn, vit, swin], ids=["CNN", "ViT", "Swin"])
@pytest.mark.parametrize("alias", sorted(set(list_methods()) - {"captum", "saved"}))
def test_no_check_costs_more_and_it_is_paid_once(alias, make):
    torch.manual_seed(1)
    model = make().eval()
    cost = Cost(model)
    method = get_method(alias, **CHECKS[alias].options)
    try:
        method.check(model, IMAGE)
    except UnsupportedModel:
        assert all(found <= most for found, most in zip(cost.found, (3, 9, 2), strict=True))
        return
    found = cost.found
    assert all(a <= b for a, b in zip(found, COSTS.get(alias, NETWORK), strict=True)), found
    if method.needs != "gradients":
        assert found[2] == 0
    method.check(model, IMAGE + 1e-3)  # of its kind alone it is asked
    assert cost.found == found


def test_methods_share_what_they_ask_for():
    torch.manual_seed(1)
    model = vit().eval()
    cost = Cost(model)
    for alias in ("gradcam", "layercam", "attention_rollout", "legrad", "fullgrad", "gbp"):
        get_method(alias).check(model, IMAGE)
    _, pictures, _ = cost.found
    # the network, the watched pass for the map, one for the tokens without their attention; then
    # what LeGrad, FullGrad and guided backpropagation each look at
    assert pictures == 3 + 6 + 6 + 4 + 3 + 1
