"""LRP against zennit in float64, input x gradient and conservation."""

import pytest
import timm
import torch
import torchvision
from captum.attr import LRP as CaptumLRP  # noqa: N811 (an acronym)
from torch import nn
from zennit.attribution import Gradient
from zennit.canonizers import NamedMergeBatchNorm, SequentialMergeBatchNorm
from zennit.composites import (
    EpsilonGammaBox,
    EpsilonPlusFlat,
    LayerMapComposite,
    MixedComposite,
    NameMapComposite,
)
from zennit.layer import Sum
from zennit.rules import Epsilon, Norm, Pass
from zennit.torchvision import ResNetCanonizer
from zennit.types import Activation, AvgPool, BatchNorm, Linear

from var_exp.methods import get_method
from var_exp.methods.lrp import LRP
from var_exp.types import UnsupportedModel

CLASSES = torch.tensor([[1, 7], [3, 3]])
LOW, HIGH = -4.0, 3.5
EXACT = [((Sum, AvgPool), Norm(stabilizer=1e-30))]  # sums need no stabiliser here
COMPOSITES = {
    "epsilon": lambda **options: LayerMapComposite(
        [*EXACT, (Activation, Pass()), (BatchNorm, Pass()), (Linear, Epsilon())], **options
    ),
    "epsilon_plus_flat": lambda **options: EpsilonPlusFlat(layer_map=EXACT, **options),
    "epsilon_gamma_box": lambda **options: EpsilonGammaBox(
        low=LOW, high=HIGH, layer_map=EXACT, **options
    ),
}


@pytest.fixture
def images():
    generator = torch.Generator().manual_seed(0)
    return torch.rand(2, 3, 32, 32, generator=generator).double() * (HIGH - LOW) + LOW


def in_general_position(model: nn.Module, seed: int = 0) -> nn.Module:
    """Batch norms with statistics, and with scales of both signs."""
    generator = torch.Generator().manual_seed(seed)
    for module in model.modules():
        if isinstance(module, nn.BatchNorm2d):
            module.eps = 1e-30  # zennit leaves it in the merged norm
            module.running_mean.normal_(0, 0.3, generator=generator)
            module.running_var.uniform_(0.3, 2, generator=generator)
            module.weight.data.normal_(0.7, 0.6, generator=generator)
            module.bias.data.normal_(0, 0.3, generator=generator)
    return model.double().eval()


def vgg() -> nn.Module:
    torch.manual_seed(0)
    features = nn.Sequential(
        *(nn.Conv2d(3, 8, 3, padding=1), nn.BatchNorm2d(8), nn.ReLU(inplace=True)),
        *(nn.MaxPool2d(2), nn.Conv2d(8, 12, 3, stride=2, bias=False), nn.BatchNorm2d(12)),
        *(nn.ReLU(), nn.Conv2d(12, 12, 3, groups=3), nn.ReLU(inplace=True)),
    )
    head = [nn.AdaptiveAvgPool2d(2), nn.Flatten(), nn.Linear(48, 20), nn.ReLU(), nn.Dropout()]
    return in_general_position(nn.Sequential(features, *head, nn.Linear(20, 10)))


def resnet() -> nn.Module:
    torch.manual_seed(0)
    block = torchvision.models.resnet.BasicBlock
    return in_general_position(torchvision.models.ResNet(block, [1, 2, 1, 1], num_classes=10))


def by_zennit(model, images, classes, composite):
    """Maps [B, K, C, H, W], one class after the other."""
    maps = []
    for chosen in classes.T:
        with Gradient(model=model, composite=composite) as attributor:
            logits = model(images).detach()
            start = nn.functional.one_hot(chosen, logits.shape[1]) * logits
            maps.append(attributor(images.clone().requires_grad_(), start)[1])
    return torch.stack(maps, 1)


def assert_same(maps, expected, limit=2e-6):
    expected = expected.detach()
    assert (maps - expected).abs().max() < limit * expected.abs().max()


@pytest.mark.parametrize("composite", COMPOSITES)
@pytest.mark.parametrize(
    ("build", "canonizer"), [(vgg, SequentialMergeBatchNorm), (resnet, ResNetCanonizer)]
)
def test_equals_zennit(build, canonizer, composite, images):
    model = build()
    method = get_method("lrp", composite=composite, box=[LOW, HIGH])
    maps = method.attribute(model, images, CLASSES)
    expected = by_zennit(model, images, CLASSES, COMPOSITES[composite](canonizers=[canonizer()]))
    assert_same(maps, expected)


def test_pre_activation_equals_zennit(images):
    """Batch norms on concatenated features pass relevance; behind an average they are linear."""
    torch.manual_seed(0)
    net = torchvision.models.DenseNet(
        growth_rate=4, block_config=(2, 2), num_init_features=8, num_classes=10
    )
    # in modules, since zennit does not see its functions
    head = [nn.ReLU(), nn.AdaptiveAvgPool2d(1), nn.Flatten(), net.classifier]
    model = in_general_position(nn.Sequential(net.features, *head))
    net.features.norm0.bias.data += 20  # where ReLU is zero zennit hands on relevance, we do not
    layers = [f"0.denseblock{b}.denselayer{i}" for b in (1, 2) for i in (1, 2)]
    pairs = [((f"{layer}.conv1",), f"{layer}.norm2") for layer in layers]
    merge = NamedMergeBatchNorm([(("0.conv0",), "0.norm0"), *pairs])
    behind_average = NameMapComposite([((f"{layers[2]}.norm1",), Norm(stabilizer=1e-30))])
    composite = MixedComposite(
        [behind_average, COMPOSITES["epsilon_plus_flat"]()], canonizers=[merge]
    )
    expected = by_zennit(model, images, CLASSES, composite)
    assert_same(get_method("lrp").attribute(model, images, CLASSES), expected)


def test_epsilon_as_in_the_papers_code_equals_captum(images):
    """experiment=paper_lrp: Captum's rule and stabiliser in every layer."""

    class Network(nn.Module):  # Captum has no rule for nn.Flatten, and passes the function by
        def __init__(self):
            super().__init__()
            self.features = nn.Sequential(
                *(nn.Conv2d(3, 6, 3, padding=1), nn.ReLU(), nn.MaxPool2d(2)),
                *(nn.Conv2d(6, 8, 3), nn.ReLU(), nn.AdaptiveAvgPool2d(2)),
            )
            self.head = nn.Sequential(nn.Linear(32, 20), nn.ReLU(), nn.Linear(20, 10))

        def forward(self, images):
            return self.head(self.features(images).flatten(1))

    torch.manual_seed(0)
    model = Network().double()
    maps = get_method("lrp", composite="epsilon", epsilon=1e-9).attribute(model, images, CLASSES)
    for k, chosen in enumerate(CLASSES.T):
        leaf = images.clone().requires_grad_()
        expected = CaptumLRP(model).attribute(leaf, target=chosen).detach().float()
        torch.testing.assert_close(maps[:, k], expected, rtol=1e-4, atol=1e-7)


def test_small_epsilon_is_input_x_gradient_on_a_relu_network(images):
    model = resnet()
    maps = get_method("lrp", composite="epsilon", epsilon=1e-12).attribute(model, images, CLASSES)
    assert_same(maps, get_method("input_x_gradient").attribute(model, images, CLASSES))


@pytest.mark.parametrize("composite", COMPOSITES)
def test_a_network_without_biases_conserves_relevance(composite, images):
    model = vgg()
    for name, value in [*model.named_parameters(), *model.named_buffers()]:
        if name.endswith(("bias", "running_mean")):
            value.data.zero_()
    method = get_method("lrp", composite=composite, box=[LOW, HIGH])
    maps = method.attribute(model, images, CLASSES)  # but for the stabilisers
    torch.testing.assert_close(
        maps.sum((2, 3, 4)).double(), model(images).gather(1, CLASSES).detach(), rtol=1e-3, atol=0
    )


def test_biases_keep_their_part(images):
    model = vgg()
    maps = get_method("lrp").attribute(model, images, CLASSES)
    logits = model(images).gather(1, CLASSES)
    assert ((maps.sum((2, 3, 4)) / logits - 1).abs() > 0.05).any()


def test_a_linear_layer_on_maps_is_a_convolution(images):
    class Pointwise(nn.Module):
        def __init__(self, channels_last):
            super().__init__()
            self.stem, self.head = nn.Conv2d(3, 8, 4, 4), nn.Linear(12, 10)
            self.channels_last = channels_last
            self.mix = nn.Linear(8, 12) if channels_last else nn.Conv2d(8, 12, 1)

        def forward(self, x):
            x = self.stem(x).relu()
            x = self.mix(x.permute(0, 2, 3, 1)) if self.channels_last else self.mix(x)
            return self.head(x.relu().mean((1, 2) if self.channels_last else (2, 3)))

    torch.manual_seed(0)
    first, second = Pointwise(True).double(), Pointwise(False).double()
    state = first.state_dict()
    state["mix.weight"] = state["mix.weight"][:, :, None, None]
    second.load_state_dict(state)
    maps = [get_method("lrp").attribute(model, images, CLASSES) for model in (first, second)]
    assert_same(*maps)


def test_box_is_that_of_the_models_normalisation(images):
    model = timm.create_model("test_resnet", num_classes=10).double().eval()
    method = get_method("lrp", composite="epsilon_gamma_box")
    model.pretrained_cfg["mean"], model.pretrained_cfg["std"] = (0.5,) * 3, (0.125,) * 3
    small = images * 0.9
    maps = method.attribute(model, small, CLASSES)
    given = get_method("lrp", composite="epsilon_gamma_box", box=[-4, 4])
    assert_same(maps, given.attribute(model, small, CLASSES))
    other = get_method("lrp", composite="epsilon_gamma_box", box=[-5, 5])
    assert not torch.allclose(maps, other.attribute(model, small, CLASSES), rtol=1e-2)
    with pytest.raises(ValueError, match=r"pixels must lie in the box -4.00 … 4.00, got"):
        method.attribute(model, images * 1.5, CLASSES)
    with pytest.raises(UnsupportedModel, match=r"names no normalisation.*set box"):
        method.check(vgg(), images[:1])


def test_z_box_needs_a_convolution_of_the_image(images):
    model = nn.Sequential(nn.Flatten(), nn.Linear(3072, 10)).double()
    method = get_method("lrp", composite="epsilon_gamma_box", box=[LOW, HIGH])
    with pytest.raises(UnsupportedModel, match="convolution of the image"):
        method.check(model, images[:1])


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (
            {"composite": "plus"},
            "composite must be one of epsilon, epsilon_plus_flat, .*got 'plus'",
        ),
        ({"epsilon": 0}, "epsilon must be above 0, got 0"),
        ({"gamma": -1.0}, "gamma must not be negative, got -1.0"),
        ({"box": [1.0, 1.0]}, "box must be a lowest and a highest pixel value"),
        ({"box": [1.0]}, "box must be a lowest and a highest pixel value"),
    ],
)
def test_options_out_of_range(options, message):
    with pytest.raises(ValueError, match=message):
        LRP(**options)
