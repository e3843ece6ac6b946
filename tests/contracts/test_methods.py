"""Every alias in conf/method, on a small ReLU network and a small vision transformer."""

import gc
import inspect
from copy import deepcopy
from dataclasses import fields

import numpy as np
import pytest
import torch
import yaml
from timm.models.vision_transformer import VisionTransformer
from torch import nn

from var_exp.conf_files import aliases, conf_dir
from var_exp.methods import Method, get_method, list_methods
from var_exp.types import UnsupportedModel

SMALL = {
    "hsic": {"grid": 3, "samples": 12},
    "ig": {"steps": 3},
    "kernel_shap": {"grid": 3, "samples": 30},
    "lime": {"grid": 3, "samples": 12},
    "occlusion": {"window": 12, "stride": 8},
    "rise": {"masks": 6, "grid": 3},
    "smoothgrad": {"samples": 3},
    "sobol": {"grid": 3, "samples": 20},
    "vargrad": {"samples": 3},
    "gradient_shap": {"samples": 3},
    "idg": {"steps": 3, "intervals": 4},
}
ATTENTION = {
    "attention_gradcam",
    "attention_rollout",
    "attnlrp",
    "legrad",
    "libragrad",
    "transformer_attribution",
}
NOT_ON_A_VIT = {"clrp", "lrp", "refine_cam", "sglrp"}
N_CLASSES = 6


def cnn() -> nn.Module:
    return nn.Sequential(
        nn.Conv2d(3, 8, 3, stride=2, padding=1),
        nn.BatchNorm2d(8),
        nn.ReLU(inplace=True),
        nn.Conv2d(8, 12, 3, stride=2, padding=1),
        nn.ReLU(),
        nn.AdaptiveAvgPool2d(1),
        nn.Flatten(),
        nn.Linear(12, N_CLASSES),
    )


def vit() -> nn.Module:
    return VisionTransformer(
        img_size=32, patch_size=8, embed_dim=24, depth=2, num_heads=2, num_classes=N_CLASSES
    )


@pytest.fixture(params=list_methods())
def alias(request):
    return request.param


@pytest.fixture
def method(alias) -> Method:
    return get_method(alias, **SMALL.get(alias, {}))


@pytest.fixture(params=[cnn, vit])
def model(request, alias):
    torch.manual_seed(0)
    model = request.param().eval()
    if request.param is cnn and alias in ATTENTION:
        with pytest.raises(UnsupportedModel, match="no attention"):
            get_method(alias).check(model, torch.randn(1, 3, 32, 32))
        pytest.skip("refuses a network without attention")
    if request.param is vit and alias in NOT_ON_A_VIT:
        with pytest.raises(UnsupportedModel, match=r"has attention|two resolutions"):
            get_method(alias).check(model, torch.randn(1, 3, 32, 32))
        pytest.skip("refuses a plain transformer")
    return model


@pytest.fixture
def images():
    return torch.randn(3, 3, 32, 32, generator=torch.Generator().manual_seed(1))


@pytest.fixture
def classes():
    return torch.tensor([[0, 3, 5], [1, 1, 2], [4, 0, 3]])


IDS = ("a", "b", "c")


def assert_same(maps, expected):
    torch.testing.assert_close(maps, expected, rtol=1e-4, atol=1e-5 * float(expected.abs().max()))


def test_maps_have_shape_and_type(alias, method, model, images, classes):
    method.check(model, images[:1])
    maps = method.attribute(model, images, classes, ids=IDS)
    assert maps.shape in {(3, 3, 3, 32, 32), (3, 3, 1, 32, 32)}
    assert maps.dtype == torch.float32
    assert not maps.requires_grad
    assert maps.isfinite().all()
    # something is attributed; with two random heads half of all sums are cut at 0 by a relu
    least = 0.1 if alias == "attention_gradcam" else 0.5
    assert (maps != 0).flatten(2).any(2).float().mean() > least


def test_columns_follow_the_classes(method, model, images, classes):
    order = torch.tensor([2, 0, 1])
    maps = method.attribute(model, images, classes, ids=IDS)
    assert_same(method.attribute(model, images, classes[:, order], ids=IDS), maps[:, order])
    assert_same(method.attribute(model, images, classes[:, :1], ids=IDS), maps[:, :1])


def test_images_do_not_see_each_other(method, model, images, classes):
    maps = method.attribute(model, images, classes, ids=IDS)
    alone = [
        method.attribute(model, images[i : i + 1], classes[i : i + 1], ids=IDS[i : i + 1])
        for i in range(3)
    ]
    assert_same(maps, torch.cat(alone))


def test_max_batch_does_not_change_the_maps(alias, method, model, images, classes):
    if "max_batch" not in {field.name for field in fields(method)}:
        pytest.skip("one forward pass")
    maps = [
        get_method(alias, **SMALL.get(alias, {}), max_batch=max_batch).attribute(
            model, images, classes, ids=IDS
        )
        for max_batch in (1, 4, 100)
    ]
    assert_same(maps[1], maps[0])
    assert_same(maps[2], maps[0])


def test_nothing_is_left_behind(method, model, images, classes):
    model.train()  # also the training flag must come back
    model[3].weight.requires_grad_(False) if isinstance(model, nn.Sequential) else None
    before, image_copy = deepcopy(model.state_dict()), images.clone()
    asks = [parameter.requires_grad for parameter in model.parameters()]
    torch.manual_seed(7)
    random_state = torch.get_rng_state()
    numpy_state = str(np.random.get_state())  # noqa: NPY002 (Captum draws from it)
    grad_mode = torch.is_grad_enabled()

    method.check(model, images[:1])
    method.attribute(model, images, classes, ids=IDS)

    for name, value in model.state_dict().items():
        assert torch.equal(value, before[name]), name
    assert [parameter.requires_grad for parameter in model.parameters()] == asks
    assert all(parameter.grad is None for parameter in model.parameters())
    for module in model.modules():
        assert module.training
        assert not module._forward_hooks
        assert not module._forward_pre_hooks
        assert not module._backward_hooks
        assert not module._backward_pre_hooks
    assert torch.equal(torch.get_rng_state(), random_state)
    assert str(np.random.get_state()) == numpy_state  # noqa: NPY002
    assert torch.is_grad_enabled() == grad_mode
    assert torch.equal(images, image_copy)
    assert not images.requires_grad


@pytest.mark.parametrize("mode", [torch.no_grad, torch.inference_mode])
def test_works_where_gradients_are_off(method, model, images, classes, mode):
    maps = method.attribute(model, images, classes, ids=IDS)
    with mode():
        assert_same(method.attribute(model, images.clone(), classes.clone(), ids=IDS), maps)


def test_double_precision_model(method, model, images, classes):
    maps = method.attribute(model, images, classes, ids=IDS)
    double = method.attribute(model.double(), images.double(), classes, ids=IDS)
    assert double.dtype == torch.float32
    assert (double - maps).norm() < 1e-3 * maps.norm()


def test_same_id_same_map_and_none_means_one_stream(method, model, images, classes):
    twice = images[:1].expand(2, -1, -1, -1), classes[:1].expand(2, -1)
    for ids in (None, ("a", "a")):
        first, second = method.attribute(model, *twice, ids=ids)
        assert_same(first, second)


@pytest.mark.parametrize(
    "alias", ["hsic", "rise", "smoothgrad", "sobol", "vargrad", "gradient_shap"]
)
def test_another_id_draws_other_numbers(alias, model, images, classes):
    method = get_method(alias, **SMALL[alias])
    twice = images[:1].expand(2, -1, -1, -1), classes[:1].expand(2, -1)
    first, second = method.attribute(model, *twice, ids=("a", "b"))
    assert not torch.allclose(first, second, rtol=0.01)


def test_malformed_requests_are_refused(method, model, images, classes):
    for wrong_images, wrong_classes, ids, message in [
        (images[0], classes, None, r"images must be .* got torch.float32 \[3, 32, 32\]"),
        (images.byte(), classes, None, "images must be a floating-point tensor"),
        (images, classes[:, 0], None, r"classes must be an int64 tensor .* \[3\]"),
        (images, classes.int(), None, "classes must be an int64 tensor"),
        (images, classes[:, :0], None, "K >= 1"),
        (images, classes[:2], None, "one row per image, got 2 rows for 3"),
        (images, classes, ["a"], "got 1 names for 3"),
        (images, classes + 1, None, r"classes must lie in 0 … 5, the model's classes, got 6"),
        (images, classes - 1, None, "got -1"),
    ]:
        with pytest.raises(ValueError, match=message):
            method.attribute(model, wrong_images, wrong_classes, ids=ids)


def test_a_model_without_logits_is_refused(method, images, classes):
    class Features(nn.Module):
        def __init__(self):
            super().__init__()
            self.features = nn.Sequential(nn.Conv2d(3, 2, 3), nn.ReLU())

        def forward(self, images):
            return self.features(images)

    with pytest.raises(UnsupportedModel):
        method.attribute(Features(), images, classes)


def test_the_refiner_that_suits_a_method_exists(method):
    assert method.refiner in aliases("refine")


def test_yaml_names_every_option_of_the_class(alias, method):
    """That it repeats their defaults is tested in test_configs, which knows the exceptions."""
    node = yaml.safe_load((conf_dir() / "method" / f"{alias}.yaml").read_text())
    if alias == "captum":
        pytest.skip("its options belong to the class that it names")
    options = set(inspect.signature(type(method)).parameters)
    assert set(node) - {"_target_"} == options - {"seed"}  # the run has one seed for all


def test_nothing_large_waits_for_pythons_cycle_collector(method, model, images, classes):
    """It does not see how large tensors are, and would let them fill the memory."""
    method.attribute(model, images, classes)
    gc.disable()
    gc.freeze()  # what was there before is not looked at, which would take long
    gc.set_debug(gc.DEBUG_SAVEALL)
    try:
        method.attribute(model, images, classes)
        gc.collect()
        assert not [found for found in gc.garbage if isinstance(found, torch.Tensor)]
    finally:
        gc.set_debug(0)
        gc.garbage.clear()
        gc.unfreeze()
        gc.enable()


def test_maps_carry_no_gradient_and_undefined_pictures_have_undefined_maps(
    method, model, images, classes
):
    maps = method.attribute(model, images, classes, ids=IDS)
    broken = images.clone()
    broken[1, 2, 5, 7] = torch.nan
    broken[2, 0, 0, 0] = torch.inf
    found = method.attribute(model, broken.requires_grad_(), classes, ids=IDS)
    assert not found.requires_grad
    assert found[1:].isnan().all()
    assert_same(found[:1], maps[:1])
    nothing = method.attribute(model, images[:0], classes[:0], ids=())
    assert nothing.shape == (0, *maps.shape[1:])
    assert nothing.dtype == torch.float32
