"""RefineCAM against a loop over layers and pixels, the layers that are found, and its limits."""

import math

import pytest
import timm
import torch
from torch import nn
from torch.nn.functional import interpolate

from var_exp.methods import get_method
from var_exp.methods.refine_cam import soft_minimum
from var_exp.models.targets import find_stages
from var_exp.types import ConfigError, UnsupportedModel


class Residual(nn.Module):
    def __init__(self, channels, stride):
        super().__init__()
        self.first = nn.Conv2d(channels, channels, 3, stride, 1)
        self.second = nn.Conv2d(channels, channels, 3, 1, 1)
        self.skip = nn.Conv2d(channels, channels, 1, stride)

    def forward(self, x):
        return (self.second(self.first(x).relu()) + self.skip(x)).relu()


class Net(nn.Module):
    def __init__(self):
        super().__init__()
        torch.manual_seed(4)
        self.stem = nn.Conv2d(3, 6, 3, 2, 1)
        self.one, self.two = Residual(6, 2), Residual(6, 2)
        self.head = nn.Linear(6, 5)

    def forward(self, images):
        return self.head(self.two(self.one(self.stem(images).relu())).mean((2, 3)))


IMAGES = torch.randn(2, 3, 64, 64, generator=torch.Generator().manual_seed(1)).double()
CLASSES = torch.tensor([[0, 3], [4, 1]])


def layercam(model, name, image, label):
    """In [0, 1], of image size, by a hook and autograd."""
    outputs = []
    handle = model.get_submodule(name).register_forward_hook(lambda *a: outputs.append(a[2]))
    score = model(image[None])[0, label]
    handle.remove()
    (gradient,) = torch.autograd.grad(score, outputs[0])
    cam = (outputs[0] * gradient.clamp(min=0)).sum(1, keepdim=True).clamp(min=0).detach()
    fine = interpolate(cam, (64, 64), mode="bilinear", align_corners=False)[0, 0]
    return (fine - fine.min()) / (fine.max() - fine.min())


def test_equals_a_loop_over_layers_and_pixels():
    model = Net().eval().double()
    for layers, names in ((2, ["two", "one"]), (3, ["two", "one", "stem"])):
        found = get_method("refine_cam", layers=layers).attribute(model, IMAGES, CLASSES)
        assert found.shape == (2, 2, 1, 64, 64)
        for b, k in ((0, 0), (0, 1), (1, 0), (1, 1)):
            maps = [layercam(model, name, IMAGES[b], CLASSES[b, k].item()) for name in names]
            for i in range(0, 64, 3):
                for j in range(0, 64, 3):
                    values = [each[i, j].item() for each in maps]
                    if min(values) < 1 / 700:  # exp overflows
                        expected = 0 if min(values) == 0 else found[b, k, 0, i, j].item()
                        assert expected <= min(values) * 1.01
                    else:
                        mean = sum(math.exp(1 / value) for value in values) / len(values)
                        expected = 1 / math.log(mean)
                    assert found[b, k, 0, i, j].item() == pytest.approx(expected, rel=1e-5)


def test_the_soft_minimum_lies_between_the_least_and_the_largest():
    maps = torch.rand(3, 2, 1, 5, 5, dtype=torch.float64)
    mixed = soft_minimum(maps)
    assert (mixed >= maps.amin(0)).all()
    assert (mixed <= maps.amax(0)).all()
    torch.testing.assert_close(soft_minimum(maps[:1].expand(3, -1, -1, -1, -1)), maps[0])
    assert soft_minimum(torch.tensor([0.0, 1.0]).view(2, 1, 1, 1, 1)).item() == 0
    small = torch.tensor([1e-3, 1.0]).view(2, 1, 1, 1, 1)  # exp(1000) is infinite
    assert soft_minimum(small).item() == pytest.approx(1 / (1000 - math.log(2)), rel=1e-6)


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        ("resnet18", ["layer4", "layer3", "layer2", "layer1"]),  # as the published code
        ("vgg11", ["features", "features.19", "features.14", "features.9"]),
        ("swin_tiny_patch4_window7_224", ["norm", "layers.2", "layers.1", "layers.0"]),
    ],
)
def test_layers_are_where_stages_end_and_none_within_a_block(name, expected):
    torch.manual_seed(0)
    small = {"depths": (1, 1, 1, 1)} if name.startswith("swin") else {}
    model = timm.create_model(name, num_classes=4, **small).eval()
    image = torch.zeros(1, 3, 224, 224)
    found = find_stages(model, image, 4)
    assert [stage.name for stage in found] == expected
    assert [stage.grid for stage in found] == [(7, 7), (14, 14), (28, 28), (56, 56)]
    assert find_stages(model, image, 2) == found[:2]


def test_one_resolution_is_refused():
    size = {"img_size": 64, "patch_size": 8, "embed_dim": 24, "num_heads": 2, "depth": 2}
    model = timm.create_model("vit_tiny_patch16_224", num_classes=6, **size).eval()
    with pytest.raises(UnsupportedModel, match="fewer than two resolutions; use method=layercam"):
        get_method("refine_cam").check(model, torch.randn(1, 3, 64, 64))


def test_a_constant_map_counts_as_nothing():
    model = Net().eval().double()
    nn.init.zeros_(model.two.second.weight)
    nn.init.zeros_(model.two.skip.weight)  # the last features are the same everywhere
    found = get_method("refine_cam", layers=2).attribute(model, IMAGES, CLASSES)
    assert (found == 0).all()


def test_layers_below_one():
    with pytest.raises(ConfigError, match="layers must be at least 1"):
        get_method("refine_cam", layers=0)
