"""The user's network is copied, tried on an image of its size, and watched."""

import pytest
import timm
import torch
from torch import nn

import var_exp
from var_exp.support.networks import image_sides, in_general_position, subject
from var_exp.types import ConfigError, UnsupportedModel


def tiny(n_classes=9):
    torch.manual_seed(0)
    return nn.Sequential(
        nn.Conv2d(3, 4, 3),
        nn.ReLU(),
        nn.AdaptiveAvgPool2d(2),
        nn.Flatten(),
        nn.Linear(16, n_classes),
    )


def test_the_users_network_is_left_alone():
    model = tiny().train()
    model[0].register_forward_hook(lambda *_: None)
    on = subject(model)
    assert on.model is not model
    assert model.training
    assert all(p.requires_grad and p.dtype == torch.float32 for p in model.parameters())
    assert not any(p.requires_grad or p.dtype != torch.float64 for p in on.model.parameters())
    assert on.untouched()  # the hook was there before
    on.model[1].register_forward_hook(lambda *_: None)
    assert not on.untouched()


@pytest.mark.parametrize(("n_classes", "k"), [(1, 1), (2, 2), (3, 3), (4, 4), (1000, 4)])
def test_as_many_different_classes_as_there_are_up_to_four(n_classes, k):
    classes = subject(tiny(n_classes)).classes
    assert classes.shape == (2, k)
    assert len(set(classes[0].tolist())) == k
    assert 0 <= classes.min() <= classes.max() < n_classes


def test_noise_is_small_where_any_size_is_taken_and_of_the_networks_own_size_elsewhere():
    assert image_sides(timm.create_model("resnet18")) == (64, 224)
    assert image_sides(timm.create_model("vit_tiny_patch16_224")) == (224,)
    assert subject(tiny()).images.shape == (2, 3, 64, 64)
    own = nn.Sequential(nn.Flatten(), nn.Linear(3 * 224 * 224, 2))
    assert subject(own).images.shape == (2, 3, 224, 224)
    assert torch.equal(subject(tiny()).images, subject(tiny()).images)


def test_an_image_of_the_users_is_taken_as_it_is():
    image = torch.rand(3, 20, 30)
    on = subject(tiny(), image)
    assert torch.equal(on.images[0], image.double())
    assert torch.equal(subject(tiny(), image[None]).images, on.images)


class Features(nn.Module):
    def forward(self, images):
        return images


class SinglePrecision(nn.Module):
    def forward(self, images):
        return images.mean((2, 3)) @ torch.ones(3, 5)


def test_what_cannot_be_tried_is_refused_in_a_sentence():
    with pytest.raises(ConfigError, match=r"\[2, 3, 8, 8\]; give one image"):
        subject(tiny(), torch.rand(2, 3, 8, 8))
    with pytest.raises(UnsupportedModel, match=r"on an image \[1, 3, 1, 1\] in float64"):
        subject(tiny(), torch.rand(3, 1, 1))
    with pytest.raises(UnsupportedModel, match="of a fixed type"):
        subject(SinglePrecision())
    with pytest.raises(UnsupportedModel, match="logits"):
        subject(Features())


def test_random_weights_let_every_part_of_a_network_count():
    model = timm.create_model("resnet18", zero_init_last=True).eval()
    images = torch.randn(2, 3, 64, 64)
    in_general_position(model, images)
    assert not any(module.training for module in model.modules())
    logits = model(images)
    assert 0.1 < (logits[0] - logits[1]).abs().max() < 20
    logits.square().sum().backward()
    assert all(p.grad.abs().max() > 0 for p in model.parameters())


def test_shipped_weights_run_in_double_precision():
    on = subject(var_exp.load_model("critters_vit"))
    assert on.images.shape == (2, 3, 64, 64)
