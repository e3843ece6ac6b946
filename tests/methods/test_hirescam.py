"""HiResCAM against a loop, its sum over an affine head, and GradCAM where both are the CAM."""

import torch
from torch import nn

from var_exp.methods import get_method

METHOD = get_method("hirescam")


def test_equals_a_loop(network, images, classes):
    cams = METHOD.coarse(network.model, images, classes)
    for b, row in enumerate(classes.tolist()):
        for k, chosen in enumerate(row):
            features, gradient = network.seen(images[b], lambda y, chosen=chosen: y[chosen])
            expected = sum(a * g for a, g in zip(features, gradient, strict=True))
            torch.testing.assert_close(cams[b, k], expected)
    maps = METHOD.attribute(network.model, images, classes)
    expected = nn.functional.interpolate(cams, (32, 32), mode="bilinear").float()
    torch.testing.assert_close(maps[:, :, 0], expected)
    assert maps.min() < 0 < maps.max()


def test_sums_to_the_logit_without_its_bias_before_one_linear_layer(images, classes):
    torch.manual_seed(0)
    head = nn.Linear(512, 10)
    model = nn.Sequential(nn.Conv2d(3, 8, 4, stride=4), nn.ReLU(), nn.Flatten(), head).double()
    sums = METHOD.coarse(model, images, classes).sum((2, 3))
    torch.testing.assert_close(sums, (model(images) - head.bias).gather(1, classes).detach())
    of_gradcam = get_method("gradcam").coarse(model, images, classes).sum((2, 3))
    assert ((of_gradcam - sums).abs() > 0.1 * sums.abs()).any()  # GradCAM does not


def test_equals_gradcam_before_average_pooling_and_one_linear_layer(images, classes):
    torch.manual_seed(0)
    model = nn.Sequential(
        nn.Conv2d(3, 8, 4, stride=4), nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(8, 10)
    ).double()
    maps = [
        get_method(alias).attribute(model, images, classes) for alias in ("hirescam", "gradcam")
    ]
    torch.testing.assert_close(*maps)
