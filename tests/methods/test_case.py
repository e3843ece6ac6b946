"""CASE against a loop over its contrast classes, its orthogonality, and its edges."""

from dataclasses import replace

import pytest
import torch
from torch import nn

from var_exp.methods import get_method

METHOD = get_method("case", contrasts=3)


def pooled_gradients(network, image, chosen):
    """Features and the GradCAM weights [D] of one class."""
    features, gradient = network.seen(image, lambda y: y[chosen])
    return features, gradient.mean((1, 2))


def by_hand(network, image, chosen, count):
    """Map of one image and class, with one backward pass per contrast class."""
    logits = network.model(image[None])[0].tolist()
    ranked = sorted(range(len(logits)), key=lambda i: -logits[i])
    rivals = [i for i in ranked if i != chosen][:count]
    features, own = pooled_gradients(network, image, chosen)
    shared = sum(pooled_gradients(network, image, i)[1] for i in rivals) / len(rivals)
    weights = own - (own @ shared) / (shared @ shared) * shared
    assert abs(float(weights @ shared)) < 1e-12
    return sum(a * w for a, w in zip(features, weights, strict=True))


@pytest.mark.parametrize("count", [1, 3, 100])
def test_equals_a_loop(network, images, classes, count):
    top = network.model(images).argmax(1)
    asked = torch.cat([classes, top[:, None]], 1)  # the winner must not be its own contrast
    cams = replace(METHOD, contrasts=count).coarse(network.model, images, asked)
    for b, row in enumerate(asked.tolist()):
        for k, chosen in enumerate(row):
            expected = by_hand(network, images[b], chosen, min(count, 9))
            torch.testing.assert_close(cams[b, k], expected)


def test_upsampled(network, images, classes):
    cams = METHOD.coarse(network.model, images, classes)
    maps = METHOD.attribute(network.model, images, classes)
    expected = nn.functional.interpolate(cams, (32, 32), mode="bilinear").float()
    torch.testing.assert_close(maps[:, :, 0], expected)
    assert maps.min() < 0 < maps.max()


def test_gradients_of_any_size_are_projected(network, images, classes):
    """The published code adds 1e-8 to |v|², which small gradients do not survive."""
    before = METHOD.coarse(network.model, images, classes)
    head = [module for module in network.model.modules() if isinstance(module, nn.Linear)][-1]
    with torch.no_grad():
        for parameter in head.parameters():
            parameter *= 1e-6
    torch.testing.assert_close(METHOD.coarse(network.model, images, classes) * 1e6, before)


def two_classes(second):
    """A linear model whose second logit is `second` times the first."""
    torch.manual_seed(0)
    head = nn.Linear(200, 2, bias=False)
    head.weight.data[1] = second * head.weight.data[0]
    return nn.Sequential(nn.Conv2d(3, 8, 6, stride=6), nn.Flatten(), head).double()


def test_nothing_is_left_of_opposite_logits_and_all_without_contrast(images):
    classes = torch.tensor([[0, 1], [1, 0]])
    plain = get_method("gradcam").coarse(two_classes(-1.0), images, classes)
    cams = METHOD.coarse(two_classes(-1.0), images, classes)
    assert cams.abs().max() < 1e-12 * plain.abs().max()
    # the second logit is always 0, so that there is nothing to be orthogonal to
    cams = METHOD.coarse(two_classes(0.0), images, classes[:1].expand(2, -1))
    torch.testing.assert_close(cams[:, 0], plain[[0, 1], [0, 1]])
    assert (cams[:, 1] == 0).all()


def test_one_logit_is_two_classes(images):
    model = nn.Sequential(nn.Conv2d(3, 2, 8), nn.Flatten(), nn.Linear(1250, 1)).double()
    METHOD.check(model, images[:1])
    maps = METHOD.attribute(model, images, torch.tensor([[0, 1]] * len(images)))
    torch.testing.assert_close(maps[:, 0], -maps[:, 1])  # z/2 against -z/2
    with pytest.raises(ValueError, match="contrasts must be at least 1, got 0"):
        replace(METHOD, contrasts=0)
