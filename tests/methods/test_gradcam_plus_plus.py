"""GradCAM++ against equation 19 written out, and at its singular points."""

import torch
from torch import nn

from var_exp.methods import get_method
from var_exp.models.targets import find_target

METHOD = get_method("gradcam_plus_plus")


def equation_19(features, gradient):
    """Map of one image and class, with the powers of the paper and plain loops."""
    cam = torch.zeros(features.shape[1:], dtype=torch.float64)
    for channel, slopes in zip(features, gradient, strict=True):
        total, weight = channel.sum().item(), 0.0
        for g in slopes.flatten().tolist():
            alpha = g**2 / (2 * g**2 + total * g**3) if g else 0.0
            weight += alpha * max(g, 0.0)
        cam += weight * channel
    return cam


def test_equals_the_paper(network, images, classes):
    assert find_target(network.model, images[:1]).name == network.layer
    cams = METHOD.coarse(network.model, images, classes)
    for b, row in enumerate(classes.tolist()):
        for k, chosen in enumerate(row):
            expected = equation_19(*network.seen(images[b], lambda y, chosen=chosen: y[chosen]))
            torch.testing.assert_close(cams[b, k], expected)
    assert cams.min() < 0 < cams.max()  # features without ReLU keep their sign
    maps = METHOD.attribute(network.model, images, classes)
    expected = nn.functional.interpolate(cams, (32, 32), mode="bilinear").float()
    torch.testing.assert_close(maps[:, :, 0], expected)


def test_the_size_of_the_logit_does_not_matter(network, images, classes):
    """The factor exp(y) of the paper is left out; it would overflow here."""
    before = METHOD.coarse(network.model, images, classes)
    head = [module for module in network.model.modules() if isinstance(module, nn.Linear)][-1]
    nn.init.constant_(head.bias, 1000.0)
    torch.testing.assert_close(METHOD.coarse(network.model, images, classes), before)


def linear_model(weights):
    """Logit c = Σ_ij Σ_d weights[c, d, i, j] · image[d, i, j]; the layer "0" is the image."""
    copy, head = nn.Conv2d(2, 2, 1, bias=False), nn.Linear(8, len(weights), bias=False)
    copy.weight.data = torch.eye(2).view(2, 2, 1, 1)
    head.weight.data = weights.flatten(1)
    return nn.Sequential(copy, nn.Flatten(), head)


def test_a_zero_gradient_and_a_zero_denominator_weigh_nothing():
    image = torch.tensor([[[-1.0, 2.0], [-3.0, 1.0]], [[1.0, 2.0], [3.0, 4.0]]])[None]
    weights = torch.zeros(2, 2, 2, 2)
    weights[0, 0] = 2.0  # S_0 = -1: every denominator 2 + S g of channel 0 is zero
    weights[0, 1, 0, 0] = 1.0  # S_1 = 10: one position, of weight 1 / (2 + 10)
    cams = METHOD.coarse(linear_model(weights), image, torch.tensor([[0, 1]]))
    torch.testing.assert_close(cams[0, 0], image[0, 1] / 12)
    assert (cams[0, 1] == 0).all()


def test_never_negative_after_a_relu(images, classes):
    torch.manual_seed(0)
    model = nn.Sequential(
        nn.Conv2d(3, 8, 4, stride=4), nn.ReLU(), nn.Flatten(), nn.Linear(512, 10)
    ).double()
    maps = METHOD.attribute(model, images, classes)
    assert maps.min() >= 0
    assert (maps.amax((2, 3, 4)) > 0).all()
