"""DeepLIFT against Captum and closed forms; the sum of its maps on every family of networks."""

import functools

import pytest
import timm
import torch
import torchvision
from captum.attr import DeepLift
from torch import nn
from torchvision.models import get_model

from var_exp.engine.deeplift.differences import contributions
from var_exp.methods import get_method
from var_exp.types import UnsupportedModel

CLASSES = torch.tensor([[1, 7], [4, 0]])
DEEPLIFT = get_method("deeplift")


def images(size=64, dtype=torch.float64):
    return torch.randn(2, 3, size, size, generator=torch.Generator().manual_seed(0)).to(dtype)


def change(model, x, x0=None, classes=CLASSES):
    with torch.no_grad():
        return (model(x) - model(torch.zeros_like(x) if x0 is None else x0)).gather(1, classes)


def plain_cnn(activation, bias):
    """What Captum knows: modules, none used twice, windows that do not overlap."""
    torch.manual_seed(0)
    model = nn.Sequential(
        nn.Conv2d(3, 6, 3),
        activation(),
        nn.MaxPool2d(2),
        nn.BatchNorm2d(6),
        nn.Conv2d(6, 8, 3),
        activation(),
        nn.MaxPool2d(3),
        nn.Flatten(),
        nn.Linear(8, 12),
        activation(),
        nn.Linear(12, 10),
    )
    nn.init.uniform_(model[3].running_var, 0.5, 2)
    nn.init.constant_(model[0].bias, bias)
    nn.init.constant_(model[4].bias, bias)
    return model.double().eval()


def captum_maps(model, x, x0):
    x, x0 = x.clone().requires_grad_(), x0.clone().requires_grad_()
    columns = [DeepLift(model).attribute(x, x0, target=chosen) for chosen in CLASSES.T]
    return torch.stack(columns, dim=1).detach()


@pytest.mark.parametrize(
    ("activation", "pooling"),
    [(nn.ReLU, nn.MaxPool2d), *((f, nn.AvgPool2d) for f in (nn.ReLU, nn.Sigmoid, nn.ELU, nn.Tanh))],
)
@pytest.mark.filterwarnings("ignore:Setting forward, backward hooks")
def test_equal_to_captum(activation, pooling):
    if pooling is nn.AvgPool2d:
        model, x0 = plain_cnn(activation, 0.1), images(16).flip(0)
        model[2], model[6] = nn.AvgPool2d(2), nn.AvgPool2d(3)
    else:  # the image wins every window, since its baseline is 0 after each ReLU
        model, x0 = plain_cnn(activation, -0.1), torch.zeros_like(images(16))
    x = images(16)
    found, expected = contributions(model, x, x0, CLASSES), captum_maps(model, x, x0)
    assert (found - expected).abs().max() < 1e-10 * expected.abs().max()
    gradients = get_method("gradient").attribute(model, x, CLASSES)
    assert (found - gradients * (x - x0)[:, None]).norm() > 0.05 * found.norm()


@pytest.mark.filterwarnings("ignore:Setting forward, backward hooks")
def test_captum_loses_what_the_baseline_wins():
    model, x, x0 = plain_cnn(nn.ReLU, 0.1), images(16), images(16).flip(0)
    expected = change(model, x, x0)
    errors = [
        float((maps.sum((2, 3, 4)) - expected).abs().max() / expected.abs().max())
        for maps in (contributions(model, x, x0, CLASSES), captum_maps(model, x, x0))
    ]
    assert errors[0] < 1e-12
    assert errors[1] > 0.1


def test_linear_model_has_input_times_weight():
    model = nn.Sequential(nn.Conv2d(3, 4, 3), nn.AvgPool2d(2), nn.Flatten(), nn.Linear(196, 10))
    model = model.double()
    found = DEEPLIFT.attribute(model, images(16), CLASSES)
    expected = get_method("input_x_gradient").attribute(model, images(16), CLASSES)
    torch.testing.assert_close(found, expected)


def general(model, size):
    """Nothing zero or one as after initialisation, and signals that reach the logits."""
    generator = torch.Generator().manual_seed(1)
    with torch.no_grad():
        for name, values in model.named_parameters():
            if "gamma" in name or name.endswith("layer_scale"):
                values.fill_(0.5)  # of ConvNeXt's blocks, which start at next to nothing
            if values.ndim == 1:
                values += 0.2 * torch.rand(values.shape, generator=generator)
        for module in model.modules():
            if isinstance(module, nn.Linear) and module.out_features == 10:
                nn.init.normal_(module.weight, std=0.1, generator=generator)
            if isinstance(module, nn.BatchNorm2d | nn.BatchNorm1d):
                module.momentum = 1.0  # takes the statistics of the images
        model.train()(images(size, torch.float32))
    return model.eval()


def small_vgg11_bn(num_classes):
    model = torchvision.models.vgg11_bn(init_weights=False)
    model.avgpool = nn.AdaptiveAvgPool2d(1)  # its own head has 120 million weights
    model.classifier = nn.Sequential(nn.Linear(512, 32), nn.ReLU(True), nn.Linear(32, num_classes))
    return model


SWIN = {"img_size": 64, "embed_dim": 24, "depths": (2, 2), "num_heads": (2, 4)}
SMALL = {"img_size": 64, "depth": 2, "embed_dim": 48, "num_heads": 3}
TORCHVISION = {
    "vgg11_bn": small_vgg11_bn,
    "vision_transformer": lambda num_classes: torchvision.models.VisionTransformer(
        64, 16, 2, 3, 48, 96, num_classes=num_classes
    ),
    "swin": lambda num_classes: torchvision.models.SwinTransformer(
        [4, 4], 24, [2, 2], [2, 4], [4, 4], num_classes=num_classes
    ),
}
FAMILIES = {
    "test_resnet": {},
    "resnet18": {},
    "densenet121": {},
    "efficientnet_b0": {},
    "convnext_atto": {},
    "convnextv2_atto": {},
    "test_efficientnet_gn": {},
    "vit_tiny_patch16_224": SMALL,
    "vit_medium_patch16_reg4_gap_256": SMALL,
    "vit_tiny_patch16_224 avg": {**SMALL, "global_pool": "avg"},
    "deit_tiny_distilled_patch16_224": SMALL,
    "beit_base_patch16_224": SMALL,
    "swin_tiny_patch4_window7_224": SWIN,
    "swinv2_tiny_window8_256": SWIN,
    "torchvision vgg11_bn": {},
    "torchvision resnet18": {},
    "torchvision vision_transformer": {},
    "torchvision swin": {},
}
MORE_FAMILIES = {
    "torchvision densenet121": {},
    "torchvision googlenet": {"init_weights": False, "aux_logits": False},
    "torchvision mobilenet_v3_small": {},
    "eva02_tiny_patch14_224": {**SMALL, "img_size": 56},
    "xcit_nano_12_p16_224": {},
    "levit_128s": {},
    "test_nfnet": {},
    "mixer_s32_224": {},
}
OTHER_SIZES = {
    **{"torchvision vgg11_bn": 32, "torchvision resnet18": 32, "resnet18": 32},
    **{"eva02_tiny_patch14_224": 56, "levit_128s": 224, "mixer_s32_224": 224},
}


def family(name):
    torch.manual_seed(0)
    options = {**FAMILIES, **MORE_FAMILIES}[name]
    if name.startswith("torchvision "):
        build = TORCHVISION.get(name.split()[1], functools.partial(get_model, name.split()[1]))
        model = build(num_classes=10, **options)
    else:
        model = timm.create_model(name.split()[0], pretrained=False, num_classes=10, **options)
    return general(model, OTHER_SIZES.get(name, 64))


def completeness_error(name, dtype):
    model, x = family(name).to(dtype), images(OTHER_SIZES.get(name, 64), dtype)
    expected = change(model, x)
    assert expected.abs().max() > 1e-3
    maps = contributions(model, x, torch.zeros_like(x), CLASSES)
    error = (maps.sum((2, 3, 4)) - expected).abs().max() / expected.abs().max()
    print(f"{name}: {float(error):.1e} of {float(expected.abs().max()):.2g}")
    return float(error)


@pytest.mark.parametrize(
    "name", [*FAMILIES, *(pytest.param(name, marks=pytest.mark.slow) for name in MORE_FAMILIES)]
)
def test_maps_sum_to_the_change_of_the_logit(name):
    assert completeness_error(name, torch.float64) < 1e-12


@pytest.mark.slow
@pytest.mark.parametrize("name", [*FAMILIES, *MORE_FAMILIES])
def test_maps_sum_to_the_change_of_the_logit_in_single_precision(name):
    assert completeness_error(name, torch.float32) < 1e-4


def test_single_precision_gives_the_map_of_double_precision():
    """Although rounding would tell which places of a plain baseline win a pooling window."""
    model = family("torchvision vgg11_bn")
    single = DEEPLIFT.attribute(model, images(32, torch.float32), CLASSES)
    double = DEEPLIFT.attribute(model.double(), images(32), CLASSES)
    assert (single - double).norm() < 1e-3 * double.norm()


def test_a_map_that_is_not_complete_is_refused_before_the_work():
    class Noisy(nn.Module):
        def __init__(self):
            super().__init__()
            self.head = nn.Linear(3, 10)

        def forward(self, images):
            return self.head(nn.functional.dropout(images.mean((2, 3))))

    torch.manual_seed(0)
    with pytest.raises(UnsupportedModel, match="draws random numbers"):
        DEEPLIFT.check(Noisy().double(), images()[:1])


def test_a_call_without_a_rule_is_refused_before_the_work():
    model = nn.Sequential(nn.Flatten(), nn.Linear(3 * 64 * 64, 10), nn.LogSoftmax(1)).double()
    with pytest.raises(UnsupportedModel, match=r"calls 'log_softmax' .* use a gradient method"):
        DEEPLIFT.check(model, images()[:1])
