"""Guided backprop and DeconvNet against Captum, and where Captum is not the oracle."""

import pytest
import timm
import torch
import torchvision
from captum.attr import Deconvolution
from captum.attr import GuidedBackprop as CaptumGuidedBackprop
from torch import nn

from var_exp.methods import get_method
from var_exp.methods.guided_backprop import GuidedBackprop
from var_exp.types import UnsupportedModel

pytestmark = pytest.mark.filterwarnings("ignore:Setting backward hooks on ReLU")
CLASSES = torch.tensor([[1, 7, 4], [0, 0, 9]])


def difference(maps, expected):
    return float((maps - expected).abs().max() / expected.abs().max())


def images(size=48):
    return torch.randn(2, 3, size, size, generator=torch.Generator().manual_seed(0))


def captum_maps(explainer, model):
    columns = [
        explainer(model).attribute(images().requires_grad_(), target=chosen) for chosen in CLASSES.T
    ]
    return torch.stack(columns, dim=1)


def torchvision_model(name):
    torch.manual_seed(0)
    return torchvision.models.get_model(name, weights=None, num_classes=10).eval()


@pytest.mark.parametrize(
    "name",
    ["resnet18", "resnet50", "vgg11_bn", pytest.param("vgg16", marks=pytest.mark.slow)],
)
def test_equal_to_captum(name):
    model = torchvision_model(name)
    if name.startswith("vgg"):
        model.avgpool, model.classifier = (
            nn.AdaptiveAvgPool2d(1),
            nn.Sequential(nn.Flatten(), nn.Linear(512, 32), nn.ReLU(True), nn.Linear(32, 10)),
        )  # its own head has 120 million weights
    for alias, explainer in [("gbp", CaptumGuidedBackprop), ("deconvnet", Deconvolution)]:
        maps = get_method(alias).attribute(model, images(), CLASSES)
        assert difference(maps, captum_maps(explainer, model)) < 1e-6


def test_densenet_ends_in_a_functional_relu_that_captum_misses():
    model = torchvision_model("densenet121")
    expected = captum_maps(CaptumGuidedBackprop, model)
    as_captum = get_method("gbp", activations="relu_modules").attribute(model, images(), CLASSES)
    every = get_method("gbp").attribute(model, images(), CLASSES)
    assert difference(as_captum, expected) < 1e-6
    assert difference(every, expected) > 0.1
    assert torch.equal(
        every, get_method("gbp", activations="relu").attribute(model, images(), CLASSES)
    )


@pytest.mark.parametrize(
    ("name", "options"),
    [
        ("vit_tiny_patch16_224", {"img_size": 48, "depth": 2}),
        ("convnext_atto", {}),
        ("efficientnet_b0", {}),
        ("swin_tiny_patch4_window7_224", {"img_size": 64}),
    ],
)
def test_networks_without_relu_are_guided_too(name, options):
    torch.manual_seed(0)
    model = timm.create_model(name, pretrained=False, num_classes=10, **options).eval()
    for name, parameter in model.named_parameters():
        if "gamma" in name:
            nn.init.ones_(parameter)  # ConvNeXt starts with blocks that do next to nothing
    inputs = images(options.get("img_size", 48))
    plain = get_method("gradient").attribute(model, inputs, CLASSES)
    for alias in ("gbp", "deconvnet"):
        assert difference(get_method(alias).attribute(model, inputs, CLASSES), plain) > 0.1
    with pytest.raises(UnsupportedModel, match="use activations=all"):
        get_method("gbp", activations="relu_modules").check(model, inputs[:1])


def test_two_layers_by_hand():
    """y = v · relu(W x): guided keeps the units that are active and have v > 0."""
    torch.manual_seed(0)
    first, last = nn.Linear(12, 6), nn.Linear(6, 3)
    model = nn.Sequential(nn.Flatten(), first, nn.ReLU(), last)
    x, classes = torch.randn(1, 3, 2, 2), torch.tensor([[0, 1, 2]])
    hidden, weights = first(x.flatten(1)).detach()[0], last.weight.detach()
    guided = (weights.relu() * (hidden > 0)) @ first.weight.detach()
    deconv = weights.relu() @ first.weight.detach()
    for alias, expected in [("gbp", guided), ("deconvnet", deconv)]:
        maps = get_method(alias).attribute(model, x, classes)
        torch.testing.assert_close(maps.flatten(2)[0], expected)


def test_nothing_to_guide_is_refused_before_the_work():
    model = nn.Sequential(nn.Conv2d(3, 4, 3), nn.Tanh(), nn.Flatten(), nn.Linear(4 * 46 * 46, 10))
    for alias in ("gbp", "deconvnet", "guided_gradcam"):
        with pytest.raises(UnsupportedModel, match=r"has no activation .* use method=gradient"):
            get_method(alias).check(model, images()[:1])
    with pytest.raises(UnsupportedModel):
        get_method("gbp").attribute(model, images(), CLASSES)


def test_a_misspelt_choice_is_refused():
    with pytest.raises(ValueError, match="got 'modules'"):
        GuidedBackprop(activations="modules")


@pytest.mark.parametrize("score", ["probability", "log_probability"])
def test_two_layers_that_start_at_the_softmax(score):
    """v is replaced by the gradient of the score with respect to the hidden units."""
    torch.manual_seed(0)
    first, last = nn.Linear(12, 6), nn.Linear(6, 3)
    model = nn.Sequential(nn.Flatten(), first, nn.ReLU(), last).double()
    x, classes = torch.randn(1, 3, 2, 2).double(), torch.tensor([[2, 0, 1]])
    hidden, logits = first(x.flatten(1)).detach()[0], model(x).detach()[0]
    starts = torch.eye(3) - logits.softmax(0)  # row c is d log p_c / d y
    if score == "probability":
        starts = starts * logits.softmax(0)[:, None]
    weights = starts[[2, 0, 1]] @ last.weight.detach()
    guided = (weights.relu() * (hidden > 0)) @ first.weight.detach()
    deconv = weights.relu() @ first.weight.detach()
    for alias, expected in [("gbp", guided), ("softmax_gbp", guided), ("deconvnet", deconv)]:
        maps = get_method(alias, score=score).attribute(model, x, classes)
        torch.testing.assert_close(maps.flatten(2)[0], expected.float())
