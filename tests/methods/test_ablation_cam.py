"""AblationCAM against one ablated forward pass at a time, a closed form, and its cost."""

import torch
from torch import nn

from var_exp.methods import get_method

METHOD = get_method("ablation_cam", max_batch=5)


def by_hand(network, image, chosen):
    """Map of one image and class: w_d = y - y(A_d = 0), one forward pass per channel."""
    features, _ = network.seen(image, lambda y: y[0])
    with torch.no_grad():
        logit = network.model(image[None])[0, chosen]
    cam = torch.zeros(4, 4, dtype=torch.float64)
    for d, channel in enumerate(features):
        cam += (logit - zeroed(network, image, d)[chosen]) * channel
    return cam


def zeroed(network, image, channel):
    """Logits of one image, the channel multiplied by zero where the map lies."""

    def without(_module, _inputs, output):
        keep = torch.ones_like(output)
        if network.layer == "3":
            keep[:, channel] = 0
        elif network.layer == "norm":
            keep[..., channel] = 0
        else:
            keep[:, 3:, channel] = 0  # not of the class token and the registers
        return output * keep

    handle = network.model.get_submodule(network.layer).register_forward_hook(without)
    with torch.no_grad():
        logits = network.model(image[None])[0]
    handle.remove()
    return logits


def test_equals_a_loop(network, images, classes):
    maps = METHOD.attribute(network.model, images, classes)
    for b, row in enumerate(classes.tolist()):
        for k, chosen in enumerate(row):
            coarse = by_hand(network, images[b], chosen)
            expected = nn.functional.interpolate(coarse[None, None], (32, 32), mode="bilinear")
            torch.testing.assert_close(maps[b, k], expected[0].float())
    assert maps.min() < 0 < maps.max()


def pooled():
    """Average pooling and a linear head, whose gradients are the same everywhere."""
    torch.manual_seed(0)
    return nn.Sequential(
        nn.Conv2d(3, 4, 6, stride=6), nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(4, 10)
    ).double()


def test_a_linear_head_has_a_closed_form(images, classes):
    """y_c = Σ_d v_cd mean(A_d) + b: the loss is v_cd mean(A_d), GradCAM's weight times Σ A_d."""
    model = pooled()
    maps = METHOD.attribute(model, images, classes)
    features = model[0](images).detach()
    weights = model[3].weight.detach()[classes] * features.mean((2, 3))[:, None]
    cams = torch.einsum("bkd,bdij->bkij", weights, features)
    expected = nn.functional.interpolate(cams, (32, 32), mode="bilinear")
    torch.testing.assert_close(maps[:, :, 0], expected.float())


def test_further_classes_cost_nothing(images):
    model, seen = pooled(), []
    METHOD.check(model, images[:1])  # finds the layer
    model.register_forward_pre_hook(lambda _module, inputs: seen.append(len(inputs[0])))
    for count in (1, 8):
        METHOD.attribute(model, images, torch.arange(count).repeat(2, 1))
    half = len(seen) // 2
    assert seen[:half] == seen[half:]
    assert sum(seen[:half]) == 2 + 2 * 4
    assert max(seen) == 4  # the channels of one image, fewer than max_batch
