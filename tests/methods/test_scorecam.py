"""ScoreCAM against one masked image at a time, its constant channels, and its cost."""

import torch
from torch import nn

from var_exp.methods import get_method
from var_exp.methods.scorecam import _masks
from var_exp.models.targets import Target

METHOD = get_method("scorecam")


def upsampled(channel):
    return nn.functional.interpolate(channel[None, None], (32, 32), mode="bilinear")[0, 0]


def by_hand(model, features, image, chosen):
    """Map of one image and class, with one forward pass per channel."""
    empty = model(torch.zeros_like(image)[None]).softmax(1)[0, chosen]
    cam = torch.zeros(features.shape[1:], dtype=torch.float64)
    for channel in features:
        if channel.max() == channel.min():
            continue
        mask = upsampled(channel)
        mask = (mask - mask.min()) / (mask.max() - mask.min())
        probability = model((image * mask)[None]).softmax(1)[0, chosen]
        cam += (probability - empty) * channel
    return cam.detach()


def test_equals_a_loop(network, images, classes):
    maps = METHOD.attribute(network.model, images, classes)
    for b, row in enumerate(classes.tolist()):
        for k, chosen in enumerate(row):
            features, _ = network.seen(images[b], lambda y: y[0])
            expected = upsampled(by_hand(network.model, features, images[b], chosen))
            torch.testing.assert_close(maps[b, k, 0], expected.float())
    assert maps.min() < 0 < maps.max()


def pooled(bias):
    """A linear CNN whose first channel is a constant."""
    torch.manual_seed(0)
    model = nn.Sequential(
        nn.Conv2d(3, 4, 6, stride=6), nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(4, 10)
    ).double()
    model[0].weight.data[0], model[0].bias.data[0] = 0, bias
    return model


def test_a_constant_channel_weighs_nothing(images, classes):
    # upsampled from 5 x 5 to 32 x 32, 0.3 is not constant any more, by rounding
    maps = METHOD.attribute(pooled(0.3), images, classes)
    assert maps.isfinite().all()
    for b, row in enumerate(classes.tolist()):
        for k, chosen in enumerate(row):
            features = pooled(0.3)[0](images[b : b + 1])[0].detach()
            expected = upsampled(by_hand(pooled(0.3), features, images[b], chosen))
            torch.testing.assert_close(maps[b, k, 0], expected.float())


def test_a_channel_that_is_constant_once_upsampled_has_no_mask():
    value = torch.tensor(0.3225223517417908)
    channel = value.expand(1, 4, 4).clone()
    channel[0, 1, 1] = torch.nextafter(value, torch.tensor(1.0))
    images, target = torch.zeros(1, 3, 8, 8), Target("", "channels_first", (4, 4))
    assert torch.equal(_masks(channel, target, images), images[:, :1])
    channel[0, 1, 1] = 1.0
    assert _masks(channel, target, images).amax() == 1


def test_a_model_that_always_answers_the_same_gives_zero(images, classes):
    model = pooled(0.0)
    nn.init.zeros_(model[3].weight)
    assert (METHOD.attribute(model, images, classes) == 0).all()


def test_further_classes_cost_nothing(images):
    model, seen = pooled(0.3), []
    METHOD.check(model, images[:1])  # finds the layer
    model.register_forward_pre_hook(lambda _module, inputs: seen.append(len(inputs[0])))
    for count in (1, 8):
        METHOD.attribute(model, images, torch.arange(count).repeat(2, 1))
    half = len(seen) // 2
    assert seen[:half] == seen[half:]
    assert sum(seen[:half]) == 2 + 2 * (4 + 1)  # the features, the masks
