"""LayerCAM against a loop, and its sign."""

import torch
from torch import nn

from var_exp.methods import get_method


def test_equals_a_loop(network, images, classes):
    method = get_method("layercam")
    cams = method.coarse(network.model, images, classes)
    for b, row in enumerate(classes.tolist()):
        for k, chosen in enumerate(row):
            features, gradient = network.seen(images[b], lambda y, chosen=chosen: y[chosen])
            expected = torch.zeros(4, 4, dtype=torch.float64)
            for channel, slopes in zip(features, gradient, strict=True):
                expected += torch.where(slopes > 0, slopes * channel, 0.0)
            torch.testing.assert_close(cams[b, k], expected)
    assert cams.min() < 0 < cams.max()  # features without ReLU keep their sign
    maps = method.attribute(network.model, images, classes)
    expected = nn.functional.interpolate(cams, (32, 32), mode="bilinear").float()
    torch.testing.assert_close(maps[:, :, 0], expected)


def test_an_early_layer_is_finer_and_never_negative_after_a_relu(images, classes):
    torch.manual_seed(0)
    model = nn.Sequential(
        *(nn.Conv2d(3, 6, 2, stride=2), nn.ReLU()),
        *(nn.Conv2d(6, 8, 2, stride=2), nn.ReLU()),
        *(nn.Flatten(), nn.Linear(512, 10)),
    ).double()
    cams = get_method("layercam", layer="1").coarse(model, images, classes)
    assert cams.shape == (2, 3, 16, 16)
    assert cams.min() >= 0
    assert (cams.amax((2, 3)) > 0).all()
