"""Full gradients: exact sums on whole networks, the paper's sum by hand, and what is refused."""

import pytest
import timm
import torch
import torch.nn.functional as F  # noqa: N812
import torchvision
from torch import nn

from var_exp.engine.calls import Calls
from var_exp.engine.full_gradients.attribution import full_gradients
from var_exp.engine.full_gradients.biases import biases_by_differentiation, biases_of
from var_exp.types import UnsupportedModel

CLASSES = torch.tensor([[1, 7, 4], [0, 0, 9]])


def images(size=32, count=2):
    generator = torch.Generator().manual_seed(0)
    return torch.randn(count, 3, size, size, generator=generator, dtype=torch.float64)


def with_biases(model):
    """Random affine parameters and batch statistics, so that no bias is zero."""
    for name, tensor in [*model.named_parameters(), *model.named_buffers()]:
        if tensor.ndim == 1 and tensor.is_floating_point():
            nn.init.normal_(tensor.data, float("weight" in name), 0.2)
        if name.endswith("running_var"):
            tensor.data.abs_().add_(0.5)
    return model.double().eval()


def built(name):
    torch.manual_seed(0)
    if name == "torchvision_vit":
        model = torchvision.models.VisionTransformer(32, 8, 2, 3, 24, 48, num_classes=10)
        nn.init.normal_(model.heads.head.weight)
    elif name == "swin":
        model = timm.create_model(
            "swin_tiny_patch4_window7_224",
            **{"img_size": 32, "window_size": 4, "depths": (2, 2), "num_heads": (2, 2)},
            **{"embed_dim": 16, "num_classes": 10},
        )
    elif name.startswith("torchvision_"):
        model = torchvision.models.get_model(name[12:], weights=None, num_classes=10)
    else:
        options = {"img_size": 32} if "vit" in name else {}
        model = timm.create_model(name, num_classes=10, **options)
    return with_biases(model)


def assert_complete(model, maps, images, classes):
    logits = model(images).detach().gather(1, classes)
    error = (maps.sum((2, 3, 4)) - logits).abs().max()
    assert error < 1e-10 * logits.abs().max()


@pytest.mark.parametrize(
    "name",
    [
        *("torchvision_squeezenet1_1", "test_resnet", "test_byobnet", "test_efficientnet"),
        *("test_nfnet", "test_convnext", "test_vit", "swin", "torchvision_vit"),
    ],
)
def test_complete_on_whole_networks_and_images_stay_apart(name):
    model, inputs = built(name), images(64 if "squeeze" in name else 32)
    maps = full_gradients(model, inputs, CLASSES)
    assert maps.shape == (2, 3, 1, *inputs.shape[2:])
    assert_complete(model, maps, inputs, CLASSES)
    alone = full_gradients(model, inputs[1:], CLASSES[1:])
    assert (maps[1:] - alone).abs().max() < 1e-10 * maps.abs().max()


def by_adjoint(sums, size):
    """Bring sums to pixels by the adjoint of the antialiased resize from pixels to the grid."""
    pixels = torch.zeros(1, 1, *size, dtype=sums.dtype, requires_grad=True)
    resized = F.interpolate(pixels, sums.shape, mode="bilinear", antialias=True)
    return torch.autograd.grad((resized[0, 0] * sums).sum(), pixels)[0][0, 0]


def test_piecewise_linear_network_by_hand():
    """The paper's sum with its biases read off the layers: convolution, batch norm, linear."""
    torch.manual_seed(0)
    first, norm = nn.Conv2d(3, 4, 3, stride=2, padding=1), nn.BatchNorm2d(4)
    second, head = nn.Conv2d(4, 5, 3, stride=2, padding=1), nn.Linear(20, 10)
    layers = [first, norm, nn.ReLU(inplace=True), second, nn.ReLU(), nn.MaxPool2d(2)]
    model = with_biases(nn.Sequential(*layers, nn.Flatten(), head))
    inputs = images(16)
    maps = full_gradients(model, inputs, CLASSES)
    norm_bias = norm.bias - norm.running_mean * norm.weight / (norm.running_var + norm.eps).sqrt()
    for b in range(2):
        for k in range(3):
            leaf = inputs[b : b + 1].clone().requires_grad_()
            after = [first(leaf)]
            after.append(norm(after[0]))
            after.append(second(after[1].relu()))
            logit = head(F.max_pool2d(after[2].relu(), 2).flatten(1))[0, CLASSES[b, k]]
            of_leaf, *gradients = torch.autograd.grad(logit, [leaf, *after])
            expected = (leaf * of_leaf)[0].sum(0) + head.bias[CLASSES[b, k]] / 16**2
            biases = (first.bias, norm_bias, second.bias)
            for gradient, bias in zip(gradients, biases, strict=True):
                sums = torch.einsum("dhw,d->hw", gradient[0], bias)
                expected = expected + by_adjoint(sums, (16, 16))
            torch.testing.assert_close(maps[b, k, 0], expected.detach())
    assert_complete(model, maps, inputs, CLASSES)


def test_implicit_bias_of_a_smooth_activation():
    """y = v · Σ_hw tanh(w x): the bias tanh(z) - z (1 - tanh(z)²) lies where z lies."""
    torch.manual_seed(0)
    mix = nn.Conv2d(3, 4, 1, bias=False)
    model = nn.Sequential(mix, nn.Tanh(), nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(4, 10))
    model, inputs = model.double(), images(8)
    z, weights = mix(inputs).detach(), model[-1].weight.detach()[CLASSES] / 64
    slope = 1 - z.tanh() ** 2
    bias = torch.einsum("bkd,bdhw->bkhw", weights, z.tanh() - z * slope)
    linear = torch.einsum("bkd,bdhw->bkhw", weights, z * slope)
    expected = bias + linear + model[-1].bias.detach()[CLASSES][..., None, None] / 64
    maps = full_gradients(model, inputs, CLASSES)
    torch.testing.assert_close(maps[:, :, 0], expected)


class Written(nn.Module):
    """A network that ends in a linear layer behind a given function of [B, 3, H, W]."""

    def __init__(self, function, size=8):
        super().__init__()
        torch.manual_seed(0)
        self.function, self.head = function, nn.Linear(3 * size * size, 10).double()

    def forward(self, images):
        return self.head(self.function(images).flatten(1))


def in_place(x):
    x = x.clone()
    x += 0.5
    x.sigmoid_()  # keeps its result for the backward pass
    x[:, :1] = 2.0
    x[:, 1].mul_(3).add_(1)
    canvas = x.new_ones(x.shape)
    canvas[:, :2] = x[:, 1:]
    F.hardswish(canvas, inplace=True)
    return canvas


def out_of_place(x):
    x = (x + 0.5).sigmoid()
    x = torch.cat([torch.full_like(x[:, :1], 2.0), 3 * x[:, 1:2] + 1, x[:, 2:]], 1)
    return F.hardswish(torch.cat([x[:, 1:], torch.ones_like(x[:, :1])], 1))


def test_in_place_calls_are_as_any_others():
    maps = [full_gradients(Written(form), images(8), CLASSES) for form in (in_place, out_of_place)]
    torch.testing.assert_close(*maps)
    assert_complete(Written(in_place), maps[0], images(8), CLASSES)


def masked_attention(x):
    tokens = x.flatten(2)  # [B, 3, 64]
    seen = torch.tensor([[1, 0, 0], [1, 1, 0], [1, 1, 1]]).bool()
    return F.scaled_dot_product_attention(tokens, tokens.tanh(), tokens, attn_mask=seen)


def several_results(x):
    values, places = x.max(1, keepdim=True)
    deviation, mean = torch.std_mean(x, 1, keepdim=True)
    return torch.cat([values + places, deviation * 2, mean + 1], 1)


def two_branches_of_one_tensor(x):
    y = (x + 1).relu()
    return y * y.mean((2, 3), keepdim=True).sigmoid().expand_as(y).exp() + y


def tokens_first(x):
    """[L, B, D] with as many tokens as there may be images."""
    tokens = x.flatten(2)[:, :, :2].permute(2, 0, 1)
    tokens = F.layer_norm(tokens, (3,)) + 1
    return torch.cat([tokens.permute(1, 2, 0).flatten(1), x[:, :, :, 2:].flatten(1) * 0], 1)


def through_frequencies(x):
    return torch.fft.irfft2(torch.fft.rfft2(x) * 2j, s=x.shape[2:]) + 1


@pytest.mark.parametrize(
    "function", [masked_attention, several_results, two_branches_of_one_tensor, through_frequencies]
)
def test_complete_on_unusual_calls(function):
    model = Written(function)
    maps = full_gradients(model, images(8), CLASSES)
    assert maps.isfinite().all()
    assert_complete(model, maps, images(8), CLASSES)


def test_images_are_told_apart_along_any_axis():
    """Two tokens in front of two images: shapes alone would not tell which axis is which."""
    model = Written(tokens_first)
    model.head = nn.Linear(6 + 3 * 8 * 6, 10).double()
    maps = full_gradients(model, images(8), CLASSES)
    assert_complete(model, maps, images(8), CLASSES)
    alone = full_gradients(model, images(8)[:1], CLASSES[:1])
    torch.testing.assert_close(maps[:1], alone)


def gram(x):
    return x.flatten(1) @ x.flatten(1).T


class Doubled(torch.autograd.Function):
    @staticmethod
    def forward(ctx, x):
        return 2 * x + 1

    @staticmethod
    def backward(ctx, gradient):
        return 2 * gradient


@pytest.mark.parametrize(
    ("function", "message"),
    [
        (Doubled.apply, "uses a tensor that no torch function of this forward pass made"),
        (lambda x: torch.cdist(x, x.flip(3)), "calls 'cdist', which has no forward-mode"),
        (lambda x: x + x.mean(0, keepdim=True), "does not treat the images of a batch alike"),
        (lambda x: x + gram(x).mean(1)[:, None, None, None], "does not treat the images"),
        (lambda x: torch.fft.irfft2(torch.fft.rfft2(x) + 1), "calls 'add' on complex numbers"),
    ],
)
def test_what_would_be_incomplete_is_refused(function, message):
    for count in (1, 2):
        with pytest.raises(UnsupportedModel, match=message):
            full_gradients(Written(function), images(8, count), CLASSES[:count])


def test_logits_that_were_not_seen_are_refused():
    class Hidden(Written):
        def forward(self, images):
            return Doubled.apply(super().forward(images))

    with pytest.raises(UnsupportedModel, match="no torch function"):
        full_gradients(Hidden(torch.exp), images(8), CLASSES)


def test_float32_and_bfloat16():
    model = built("test_resnet").float()
    maps = full_gradients(model, images().float(), CLASSES)
    exact = full_gradients(model.double(), images(), CLASSES)
    assert maps.dtype == torch.float32
    assert (maps - exact).norm() < 1e-4 * exact.norm()
    coarse = full_gradients(model.bfloat16(), images().bfloat16(), CLASSES)
    assert coarse.dtype == torch.float32
    assert coarse.isfinite().all()


WEIGHT = torch.randn(6, 2, 3, 3, generator=torch.Generator().manual_seed(0)).double()
STATISTICS = torch.rand(4, 4, generator=torch.Generator().manual_seed(1)).double()
KNOWN = {
    "conv2d": lambda x: F.conv2d(x, WEIGHT, WEIGHT[:, 0, 0, 0], padding=1, groups=2),
    "conv2d without bias": lambda x: F.conv2d(x, WEIGHT, groups=2, stride=2),
    "conv_transpose2d": lambda x: F.conv_transpose2d(x, WEIGHT[:4], STATISTICS[0, :2]),
    "linear": lambda x: F.linear(x, WEIGHT[:3, 0].flatten()[:15].view(3, 5), STATISTICS[0, :3]),
    "batch_norm": lambda x: F.batch_norm(x, *STATISTICS),
    "batch_norm without scale": lambda x: F.batch_norm(x, *STATISTICS[:2]),
    "relu": F.relu,
    "leaky_relu": F.leaky_relu,
    "max_pool2d": lambda x: F.max_pool2d(x, 2),
    "avg_pool2d": lambda x: F.avg_pool2d(x, 2, padding=1),
    "interpolate": lambda x: F.interpolate(x, scale_factor=2, mode="bilinear"),
    "amax": lambda x: x.amax((2, 3)),
    "mean": lambda x: x.mean((2, 3)),
    "add": lambda x: torch.add(x, x, alpha=3),
    "mul": lambda x: 3 * x,
    "matmul": lambda x: x @ torch.ones(5, 2).double(),
    "cat": lambda x: torch.cat([x, x], 1),
    "getitem": lambda x: x[:, 1:, ::2],
}


@pytest.mark.parametrize("name", KNOWN)
def test_known_biases_are_those_of_differentiation(name):
    calls = []

    class Record(Calls):
        def answer(self, call):
            calls.append(call)
            return call.run()

    x = torch.randn(2, 4, 5, 5).double().requires_grad_()
    with Record():
        result = KNOWN[name](x)
    (known,) = biases_of(calls[-1]) or [torch.zeros(()).double()]
    (expected,) = biases_by_differentiation(calls[-1])
    torch.testing.assert_close(known.expand_as(result), expected, rtol=1e-12, atol=1e-12)
    assert known.numel() < result.numel()
