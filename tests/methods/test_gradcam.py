"""GradCAM and guided GradCAM against Captum, a closed form, and a ViT loop."""

import pytest
import timm
import torch
import torchvision
from captum.attr import GuidedGradCam, LayerAttribution, LayerGradCam
from torch import nn

from var_exp.methods import get_method
from var_exp.methods.gradcam import GuidedGradCAM
from var_exp.types import ConfigError

CLASSES = torch.tensor([[1, 7, 4], [0, 0, 9]])


@pytest.fixture
def images():
    return torch.randn(2, 3, 64, 64, generator=torch.Generator().manual_seed(0))


@pytest.fixture
def resnet():
    torch.manual_seed(0)
    return torchvision.models.resnet18(weights=None).eval()


@pytest.mark.parametrize("layer", [None, "layer3", "layer2.0.conv1"])
def test_gradcam_equals_captum(resnet, images, layer):
    maps = get_method("gradcam", layer=layer).attribute(resnet, images, CLASSES)
    explainer = LayerGradCam(resnet, resnet.get_submodule(layer or "layer4"))
    for k, chosen in enumerate(CLASSES.T):
        cam = explainer.attribute(images, target=chosen).detach()
        expected = LayerAttribution.interpolate(cam, (64, 64), "bilinear")
        torch.testing.assert_close(maps[:, k], expected, rtol=1e-5, atol=1e-6)
    assert maps.min() < 0 < maps.max()


@pytest.mark.filterwarnings("ignore:Setting backward hooks on ReLU")
@pytest.mark.parametrize("upsampling", ["bilinear", "nearest"])
def test_guided_gradcam_equals_captum(resnet, images, upsampling):
    method = get_method("guided_gradcam", upsampling=upsampling)
    maps = method.attribute(resnet, images, CLASSES)
    explainer = GuidedGradCam(resnet, resnet.layer4)
    for k, chosen in enumerate(CLASSES.T):
        expected = explainer.attribute(
            images.clone().requires_grad_(), target=chosen, interpolate_mode=upsampling
        )
        torch.testing.assert_close(maps[:, k], expected.detach(), rtol=1e-4, atol=1e-8)


def test_an_upsampling_that_is_none():
    with pytest.raises(ValueError, match="must be one of bilinear, nearest, got 'cubic'"):
        GuidedGradCAM(upsampling="cubic")


def test_average_pooling_and_linear_head_give_the_class_activation_map(images):
    """With y = w · mean(A) + b the weights are w / (h w), Zhou et al.'s CAM."""
    torch.manual_seed(0)
    features, head = nn.Conv2d(3, 8, 4, stride=4), nn.Linear(8, 10)
    model = nn.Sequential(features, nn.AdaptiveAvgPool2d(1), nn.Flatten(), head)
    maps = get_method("gradcam").attribute(model, images, CLASSES)
    cams = torch.einsum("bkd,bdhw->bkhw", head.weight[CLASSES] / 16**2, features(images))
    expected = nn.functional.interpolate(cams, (64, 64), mode="bilinear")[:, :, None]
    torch.testing.assert_close(maps, expected.detach())


def test_vision_transformer_equals_a_loop_over_its_patch_tokens(images):
    torch.manual_seed(0)
    model = timm.create_model("vit_tiny_patch16_224", img_size=64, depth=3, num_classes=10).eval()
    maps = get_method("gradcam").attribute(model, images, CLASSES)
    for b in range(2):
        for k in range(3):
            seen = []
            handle = model.blocks[2].norm1.register_forward_hook(
                lambda _, inputs, output, seen=seen: seen.append(output)
            )
            score = model(images[b : b + 1])[0, CLASSES[b, k]]
            handle.remove()
            (gradient,) = torch.autograd.grad(score, seen[0])
            tokens, weights = seen[0][0, 1:], gradient[0, 1:].mean(0)
            cam = (tokens @ weights).view(1, 1, 4, 4)
            expected = nn.functional.interpolate(cam, (64, 64), mode="bilinear").detach()
            torch.testing.assert_close(maps[b, k][None], expected, rtol=1e-4, atol=1e-8)


def test_a_layer_that_does_not_exist(resnet, images):
    for alias in ("gradcam", "guided_gradcam"):
        with pytest.raises(ConfigError, match="ResNet has no module 'layer9'"):
            get_method(alias, layer="layer9").check(resnet, images[:1])


class HandWritten(nn.Module):
    """Activations shared by convolutions and head, or each its own module."""

    def __init__(self, shared):
        super().__init__()
        torch.manual_seed(0)
        self.first, self.second = nn.Conv2d(3, 6, 5, 4), nn.Conv2d(6, 8, 3)
        self.hidden, self.head = nn.Linear(8, 12), nn.Linear(12, 10)
        one = nn.ReLU(inplace=True)
        self.a, self.b, self.c = (one if shared else nn.ReLU() for _ in range(3))

    def forward(self, images):
        features = self.b(self.second(self.a(self.first(images))))
        return self.head(self.c(self.hidden(features.mean((2, 3)))))


CAMS = "gradcam gradcam_plus_plus hirescam layercam scorecam finer_cam case guided_gradcam"


@pytest.mark.parametrize("alias", CAMS.split())
def test_a_reused_activation_is_as_good_as_three(alias, images):
    shared, apart = (
        get_method(alias).attribute(HandWritten(shared), images, CLASSES)
        for shared in (True, False)
    )
    assert torch.equal(shared, apart)
    assert shared.abs().max() > 0
