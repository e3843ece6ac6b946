"""The adapter gives Captum's own maps, reproducibly, and its errors in one sentence."""

import random

import numpy as np
import pytest
import torch
from captum.attr import DeepLift, GradientShap, LayerActivation, Saliency
from torch import nn

from var_exp.methods import get_method
from var_exp.methods.captum import Captum
from var_exp.types import ConfigError, UnsupportedModel

CLASSES = torch.tensor([[0, 3, 1], [2, 2, 4]])


@pytest.fixture
def images():
    return torch.randn(2, 3, 8, 8, generator=torch.Generator().manual_seed(0))


@pytest.fixture
def net():
    torch.manual_seed(0)
    return nn.Sequential(nn.Conv2d(3, 6, 3), nn.ReLU(), nn.Flatten(), nn.Linear(216, 5))


@pytest.mark.filterwarnings("ignore:Setting forward, backward hooks")
@pytest.mark.parametrize("max_batch", [1, 4])
def test_deeplift_from_yaml(net, images, max_batch):
    maps = get_method("captum", max_batch=max_batch).attribute(net, images, CLASSES)
    for k, chosen in enumerate(CLASSES.T):
        expected = DeepLift(net).attribute(images.clone().requires_grad_(), target=chosen)
        torch.testing.assert_close(maps[:, k], expected.detach())


def test_another_factory_with_arguments(net, images):
    node = {"_target_": "captum.attr.Saliency", "_partial_": True}
    maps = get_method("captum", factory=node, arguments={"abs": False}).attribute(
        net, images, CLASSES
    )
    torch.testing.assert_close(maps, get_method("gradient").attribute(net, images, CLASSES))


def test_random_methods_depend_on_the_id_alone(net, images):
    method = Captum(
        GradientShap, arguments={"baselines": torch.zeros(1, 3, 8, 8), "stdevs": 0.2}, seed=3
    )
    maps = method.attribute(net, images, CLASSES, ids=("a", "b"))
    assert torch.equal(method.attribute(net, images, CLASSES, ids=("a", "b")), maps)
    alone = method.attribute(net, images[1:], CLASSES[1:, 2:], ids=("b",))
    assert torch.equal(alone, maps[1:, 2:])
    assert not torch.equal(method.attribute(net, images, CLASSES, ids=("c", "b"))[0], maps[0])
    another = Captum(method.factory, arguments=method.arguments, seed=4)
    assert not torch.equal(another.attribute(net, images, CLASSES, ids=("a", "b")), maps)


def test_every_global_stream_is_seeded_and_put_back(net, images):
    class Noise:
        def __init__(self, model):
            pass

        def attribute(self, inputs, target):
            sources = torch.rand(()).item(), np.random.rand(), random.random()  # noqa: NPY002
            return torch.tensor(sources)[None, :, None, None].expand_as(inputs)

    before = torch.get_rng_state(), np.random.get_state()[1:3], random.getstate()  # noqa: NPY002
    method = Captum(Noise)
    maps = method.attribute(net, images, CLASSES, ids=("a", "b"))
    after = torch.get_rng_state(), np.random.get_state()[1:3], random.getstate()  # noqa: NPY002
    assert torch.equal(before[0], after[0])
    assert before[1][0].tolist() == after[1][0].tolist()
    assert before[1][1] == after[1][1]
    assert before[2] == after[2]
    assert torch.equal(method.attribute(net, images, CLASSES, ids=("a", "b")), maps)
    first, second = maps[:, 0, :, 0, 0]
    assert (first != second).all()


def test_random_methods_want_one_pair_at_a_time(net, images):
    method = Captum(GradientShap, arguments={"baselines": torch.zeros(1, 3, 8, 8)}, max_batch=4)
    with pytest.raises(ConfigError, match=r"draws random numbers.*set max_batch=1"):
        method.attribute(net, images, CLASSES)


def test_captum_errors_leave_no_hooks(images):
    relu = nn.ReLU()
    before = dict(vars(relu))
    reused = nn.Sequential(nn.Conv2d(3, 4, 3), relu, relu, nn.Flatten(), nn.Linear(144, 5))
    with pytest.raises(UnsupportedModel, match=r"Captum failed on Sequential .*more than once"):
        get_method("captum").check(reused, images[:1])
    for module in reused.modules():
        assert not module._forward_pre_hooks
        assert not module._forward_hooks
        assert not module._backward_hooks
    assert vars(relu) == before  # Captum keeps inputs and outputs on the modules


def test_an_argument_that_captum_does_not_have(net, images):
    with pytest.raises(ConfigError, match=r"Saliency.attribute has no argument 'absolute'"):
        Captum(Saliency, arguments={"absolute": False}).check(net, images[:1])


def test_maps_of_layer_size_are_refused(net, images):
    def layer_activation(model):
        explainer = LayerActivation(model, model[0])
        attribute = explainer.attribute
        explainer.attribute = lambda inputs, target: attribute(inputs)
        return explainer

    with pytest.raises(ConfigError, match=r"maps of image size .* got \[1, 6, 6, 6\]"):
        Captum(layer_activation).check(net, images[:1])
