"""The gradient primitive against plain loops of `backward`."""

import weakref

import pytest
import torch
from torch import nn

from var_exp.engine.gradients import class_gradients
from var_exp.types import UnsupportedModel

CLASSES = torch.tensor([[0, 4, 4], [3, 1, 0]])


@pytest.fixture
def images():
    return torch.randn(2, 3, 8, 8, generator=torch.Generator().manual_seed(0)).double()


@pytest.fixture
def net():
    torch.manual_seed(0)
    return nn.Sequential(
        nn.Conv2d(3, 4, 3),
        nn.ReLU(inplace=True),
        nn.Conv2d(4, 2, 3),
        nn.Flatten(),
        nn.Linear(32, 5),
    ).double()


def test_equals_one_backward_pass_per_image_and_class(net, images):
    found = class_gradients(net, images, CLASSES)
    torch.testing.assert_close(found.logits, net(images).detach())
    assert torch.equal(found.point, images)
    for b in range(2):
        for k in range(3):
            image = images[b : b + 1].clone().requires_grad_()
            net(image)[0, CLASSES[b, k]].backward()
            torch.testing.assert_close(found.gradients[b, k], image.grad[0], rtol=1e-12, atol=0)


def test_linear_model_has_its_weights_as_gradient(images):
    net = nn.Sequential(nn.Flatten(), nn.Linear(192, 5)).double()
    gradients = class_gradients(net, images, CLASSES).gradients
    assert torch.equal(gradients, net[1].weight.detach()[CLASSES].view(2, 3, 3, 8, 8))


def test_at_a_layer_before_an_in_place_activation(net, images):
    found = class_gradients(net, images, CLASSES, layer=net[0])
    features = net[0](images).detach()
    assert torch.equal(found.point, features)  # not overwritten by the ReLU behind it
    for k, chosen in enumerate(CLASSES.T):
        leaf = features.clone().requires_grad_()
        net[2:](leaf.relu())[range(2), chosen].sum().backward()
        torch.testing.assert_close(found.gradients[:, k], leaf.grad, rtol=1e-12, atol=0)
    assert not net[0]._forward_hooks


def test_one_forward_pass_serves_all_classes(net, images):
    calls = []
    net[0].register_forward_hook(lambda *_: calls.append(1))
    class_gradients(net, images, CLASSES)
    assert len(calls) == 1


def test_parameters_collect_no_gradient_and_ask_again_afterwards(net, images):
    class_gradients(net, images, CLASSES)
    assert all(p.grad is None and p.requires_grad for p in net.parameters())
    with pytest.raises(ValueError, match="got 5"):
        class_gradients(net, images, CLASSES + 1)
    assert all(p.requires_grad for p in net.parameters())


def test_the_graph_is_freed(net, images):
    kept = []
    net[2].register_forward_hook(lambda _, inputs, output: kept.append(weakref.ref(output)))
    found = class_gradients(net, images, CLASSES)
    assert kept[0]() is None
    assert found.gradients.grad_fn is None


def test_the_model_may_work_in_place_on_its_input(images):
    class InPlace(nn.Module):
        def forward(self, images):
            return images.mul_(2.0).flatten(1)[:, :5]

    before = images.clone()
    gradients = class_gradients(InPlace(), images, CLASSES).gradients
    assert torch.equal(images, before)
    assert gradients.flatten(2).sum(2).eq(2).all()


def test_a_model_that_detaches_is_refused(net, images):
    class Detached(nn.Module):
        def forward(self, images):
            return net(images).detach()

    with pytest.raises(UnsupportedModel, match="the logits do not depend"):
        class_gradients(Detached(), images, CLASSES)


def test_a_layer_must_run_once_and_return_a_tensor(net, images):
    with pytest.raises(UnsupportedModel, match="it ran 0 times"):
        class_gradients(net, images, CLASSES, layer=nn.ReLU())
    twice = nn.Sequential(net[0], net[1], net[2], net[1], net[3], net[4])
    with pytest.raises(UnsupportedModel, match="it ran 2 times"):
        class_gradients(twice, images, CLASSES, layer=net[1])

    class Pair(nn.Module):
        def forward(self, images):
            return images, images

    pair = Pair()
    with pytest.raises(UnsupportedModel, match="returns tuple"):
        class_gradients(nn.Sequential(pair), images, CLASSES, layer=pair)
