"""The check before the work: each network says here what is wrong with it, and what it must cost.

Right values come from the same network in its plain form, or from autograd by hand.
"""

import copy
import random
import threading

import captum.attr
import numpy as np
import pytest
import timm
import torch
from torch import nn
from torch.nn.utils import parametrize
from torch.utils.checkpoint import checkpoint

from var_exp.methods import get_method, list_methods
from var_exp.methods.captum import Captum
from var_exp.models.derivative import gradient_error
from var_exp.models.private import private_tensors
from var_exp.models.randomize import RandomizedModels
from var_exp.models.selfcheck import check_network
from var_exp.support.checks import CHECKS
from var_exp.types import UnsupportedModel

pytestmark = [
    pytest.mark.filterwarnings(f"ignore:.*{words}")
    for words in (
        "deprecated",
        "None of the inputs have requires_grad=True",
        "The .grad attribute of a Tensor that is not a leaf",
    )
]

IMAGES = torch.randn(2, 3, 32, 32, generator=torch.Generator().manual_seed(5))
CLASSES = torch.tensor([[1, 2], [3, 4]])
FORWARD_ONLY = ("occlusion", "rise", "lime", "kernel_shap", "sobol", "hsic")


def net(**options):
    torch.manual_seed(1)
    layers = {"layers": [1, 1, 1, 1], "channels": [8, 8, 8, 16], "num_classes": 6}
    return timm.create_model("resnet18", **layers, **options).eval()


def vit():
    torch.manual_seed(1)
    size = {"img_size": 32, "patch_size": 8, "embed_dim": 24, "num_heads": 2, "depth": 2}
    return timm.create_model("vit_tiny_patch16_224", num_classes=6, **size).eval()


class Around(nn.Module):
    """A network and something done to it."""

    def __init__(self, change, *nets):
        super().__init__()
        self.nets, self.change = nn.ModuleList(nets or [net()]), change

    def forward(self, x):
        return self.change(x, *self.nets)


def refused(model, alias, words):
    with pytest.raises(UnsupportedModel, match=words) as caught:
        get_method(alias).check(model, IMAGES[:1])
    assert str(caught.value).endswith(".")
    assert "\n" not in str(caught.value)


def without_gradient(x, a, b):
    with torch.no_grad():
        y = b(x)
    return a(x) + y


class Wrong(torch.autograd.Function):
    @staticmethod
    def forward(ctx, x):
        return x.relu()

    @staticmethod
    def backward(ctx, g):
        return 0.97 * g


@pytest.mark.parametrize("alias", ["gradient", "gbp", "ig", "gradcam", "deeplift", "fullgrad"])
@pytest.mark.parametrize(
    "change",
    [
        without_gradient,
        lambda x, a, b: a(x) + b(x.detach()),
        lambda x, a, b: a(x) + 0.1 * b(x).data,
        lambda x, a, b: Wrong.apply(a(x)) + b(x),
        lambda x, a, b: a(x + (x.round() - x).detach()) + b(x),
    ],
    ids=["no_grad", "detach", "data", "own backward", "straight through"],
)
def test_a_gradient_that_is_not_the_derivative(change, alias):
    refused(Around(change, net(), vit()), alias, "gradient that autograd gives is not the derivat")


@pytest.mark.parametrize("alias", FORWARD_ONLY)
def test_what_is_hidden_from_autograd_does_not_hurt_forward_only_methods(alias):
    method = get_method(alias)
    method.check(Around(without_gradient, net(), vit()), IMAGES[:1])
    method.check(torch.jit.trace(net(), IMAGES[:1]), IMAGES[:1])


@pytest.mark.parametrize("alias", ["gradient", "gbp", "gradcam", "lrp"])
def test_quantised_layers(alias):
    model = vit()
    model.blocks = torch.ao.quantization.quantize_dynamic(model.blocks, {nn.Linear})
    refused(model, alias, r"'blocks\.0\.attn\.qkv' \(Linear\) is quantised")


def test_torchscript():
    model = net()
    model.layer2 = torch.jit.trace(model.layer2, torch.randn(1, 8, 8, 8))
    refused(model, "gbp", "module 'layer2' is TorchScript, which hides its calls")
    refused(model, "scorecam", "module 'layer2' is TorchScript")


def test_networks_made_in_inference_mode():
    with torch.inference_mode():
        model = net()
    refused(model, "gradient", r"made in torch\.inference_mode")
    get_method("occlusion").check(model, IMAGES[:1])
    assert all(parameter.requires_grad for parameter in model.parameters())


@pytest.mark.parametrize("alias", ["gbp", "ig", "gradcam", "attnlrp", "deeplift", "fullgrad"])
def test_gradient_checkpointing_is_off_inside_and_on_again_afterwards(alias):
    plain, saving = vit(), vit()
    saving.set_grad_checkpointing(True)
    method = get_method(alias)
    method.check(saving, IMAGES[:1])
    assert torch.equal(
        method.attribute(saving, IMAGES, CLASSES), method.attribute(plain, IMAGES, CLASSES)
    )
    assert saving.grad_checkpointing is True


@pytest.mark.parametrize("reentrant", [True, False])
def test_checkpointing_that_cannot_be_switched_off(reentrant):
    model = Around(lambda x, a: checkpoint(a, x, use_reentrant=reentrant))
    words = "cannot be differentiated" if reentrant else "computes parts again in the backward pass"
    refused(model, "gradcam", words)
    get_method("occlusion").check(model, IMAGES[:1])


@pytest.mark.parametrize("alias", ["gradient", "gbp", "gradcam", "lrp"])
@pytest.mark.parametrize("part", ["whole", "wrapped layer", "layer in place"])
def test_compiled_networks_are_explained_as_they_were_written(part, alias):
    compiled_calls = []

    def backend(graph, _inputs):
        compiled_calls.append(graph)
        return graph.forward

    model = net()
    if part == "whole":
        model = torch.compile(model, backend=backend)
    elif part == "wrapped layer":
        model.layer2 = torch.compile(model.layer2, backend=backend)
    else:
        model.layer2.compile(backend=backend)
    method = get_method(alias)
    method.check(model, IMAGES[:1])
    assert torch.equal(
        method.attribute(model, IMAGES, CLASSES), method.attribute(net(), IMAGES, CLASSES)
    )
    assert not compiled_calls
    model(IMAGES)
    assert compiled_calls


@pytest.mark.parametrize("alias", ["gbp", "occlusion", "gradcam"])
def test_batch_statistics(alias):
    model = net()
    for module in model.modules():
        if isinstance(module, nn.BatchNorm2d):
            module.track_running_stats, module.running_mean, module.running_var = False, None, None
    with pytest.raises(UnsupportedModel, match="depend on the pictures beside it, such"):
        get_method(alias).check(model, torch.randn(1, 3, 64, 64))
    refused(model, alias, "Expected more than 1 value per channel")  # a single pixel has no spread


@pytest.mark.parametrize("alias", ["gradient", "rise"])
@pytest.mark.parametrize(
    "draw",
    [
        lambda x, a: nn.functional.dropout(a(x), 0.5, training=True),
        lambda x, a: a(x + 1e-3 * torch.randn_like(x)),
        lambda x, a: a(x) + random.random(),
        lambda x, a: a(x) * float(np.random.rand() > 1e-9),  # noqa: NPY002 (one draw in 10^9)
    ],
    ids=["dropout", "noise", "python", "numpy, almost never"],
)
def test_random_numbers_in_eval_mode_are_refused_and_the_global_streams_stay(draw, alias):
    model = Around(draw)
    states = torch.get_rng_state(), random.getstate(), np.random.get_state()[1].copy()  # noqa: NPY002
    refused(model, alias, "draws random numbers in eval mode")
    assert torch.equal(torch.get_rng_state(), states[0])
    assert random.getstate() == states[1]
    assert np.array_equal(np.random.get_state()[1], states[2])  # noqa: NPY002


class Counting(nn.Module):
    """Its logits grow with every pass."""

    def __init__(self, in_place):
        super().__init__()
        self.net, self.in_place, self.passes = net(), in_place, 0
        self.register_buffer("seen", torch.zeros(()))

    def forward(self, x):
        if self.in_place:
            self.seen.add_(1)
            return self.net(x)  # not yet visible in the logits
        self.passes += 1
        return self.net(x) * (1 + self.passes)


@pytest.mark.parametrize("alias", ["gradient", "occlusion"])
def test_a_state_that_changes(alias):
    refused(Counting(in_place=True), alias, "changes the model's own seen")
    refused(Counting(in_place=False), alias, "other logits for the same picture the second time")


class Remembering(nn.Module):
    """Adds what it returned for the pictures before, if they were as many."""

    def __init__(self):
        super().__init__()
        self.net, self.before = net(), None

    def forward(self, x):
        logits = self.net(x)
        known = self.before is not None and len(self.before) == len(logits)
        seen, self.before = logits + 0.1 * self.before if known else logits, logits.detach()
        return seen


@pytest.mark.parametrize("alias", ["gradient", "occlusion"])
def test_what_is_kept_from_the_pictures_before(alias):
    refused(Remembering(), alias, "other logits for the same picture the second time")
    kept = Around(lambda x, a: setattr(kept, "features", a(x)) or kept.features)
    get_method(alias).check(kept, IMAGES[:1])  # kept, and of no consequence


def test_pictures_that_must_come_one_by_one():
    def one(x, a):
        assert len(x) == 1, "a single picture"
        return a(x)

    refused(Around(one), "occlusion", r"not two at once \(a single picture\)")


def test_lazy_parts_are_named():
    model = nn.Sequential(nn.LazyConv2d(4, 3), nn.Flatten(), nn.Linear(4 * 30 * 30, 6)).eval()
    refused(model, "gradient", "the model's 0.weight has no shape yet")
    model(IMAGES)
    get_method("gradient").check(model, IMAGES[:1])


def test_a_forward_that_asks_for_more_than_pictures():
    class Masked(nn.Module):
        def __init__(self):
            super().__init__()
            self.net = net()

        def forward(self, x, *, mask):
            return self.net(x * mask)

    refused(Masked(), "gradient", "does not run on pictures alone .*'mask'")


def test_the_check_leaves_the_state_of_a_refused_network_alone():
    model = Counting(in_place=True)
    with pytest.raises(UnsupportedModel):
        check_network(model, IMAGES[:1], "logits")
    assert model.seen == 0


@pytest.mark.parametrize("alias", ["gbp", "occlusion", "gradcam"])
@pytest.mark.parametrize("value", [float("nan"), float("inf")])
def test_logits_that_are_not_finite(value, alias):
    model = net()
    with torch.no_grad():
        model.fc.bias[3] = value
    refused(model, alias, r"not finite for 1 of 6 classes \(class 3\)")


def test_other_channels_are_named_as_the_cause():
    for channels in (1, 4, 13):
        model = net(in_chans=channels)
        for alias in ("gbp", "occlusion", "gradcam"):
            refused(model, alias, f"takes pictures of {channels} channels, got 3")
            images = torch.randn(1, channels, 32, 32)
            get_method(alias).check(model, images)
            assert get_method(alias).attribute(model, images, CLASSES[:1]).isfinite().all()


class Doubled(nn.Module):
    def forward(self, x):
        return 2 * x

    def __deepcopy__(self, memo):
        raise RuntimeError("no copy of me")


def test_parametrised_weights_are_explained_as_they_are():
    model, plain = net(), net()
    parametrize.register_parametrization(model.conv1, "weight", Doubled())
    with torch.no_grad():
        plain.conv1.weight.mul_(2)
    for alias in ("gradient", "gbp", "gradcam", "ig", "lrp"):
        method = get_method(alias)
        method.check(model, IMAGES[:1])
        torch.testing.assert_close(
            method.attribute(model, IMAGES, CLASSES), method.attribute(plain, IMAGES, CLASSES)
        )


def test_what_cannot_be_copied_is_named_where_a_copy_is_needed():
    model = net()
    parametrize.register_parametrization(model.conv1, "weight", Doubled())
    with pytest.raises(UnsupportedModel, match=r"cannot be copied \(no copy of me\)"):
        RandomizedModels(model).between(0, 1)
    with pytest.raises(UnsupportedModel, match=r"cannot be copied \(no copy of me\)"):
        Captum(captum.attr.DeepLift).check(model, IMAGES[:1])


def test_weights_that_each_pass_computes_anew_are_copied():
    model = net()
    torch.nn.utils.weight_norm(model.fc)
    model(IMAGES)  # leaves a weight with a graph behind, which torch refuses to copy
    with pytest.raises(RuntimeError, match="deepcopy"):
        copy.deepcopy(model)
    copies = RandomizedModels(model)
    assert copies.between(0, 1)(IMAGES).shape == (2, 6)


def pictures_seen(model):
    """Pictures and gradients that pass the network, counted."""
    counts = {"forward": 0, "backward": 0}

    def forward(_model, inputs):
        counts["forward"] += len(inputs[0])
        if inputs[0].requires_grad:
            inputs[0].register_hook(lambda g: counts.update(backward=counts["backward"] + len(g)))

    model.register_forward_pre_hook(forward)
    return counts


@pytest.mark.parametrize("value", [0.0, 1.0, -2.1])
def test_plain_pictures_on_which_maxima_are_level(value):
    for model in (net(), vit()):
        check_network(model, torch.full((1, 3, 32, 32), value), "gradients")


class Kinked(nn.Module):
    """Linear but for one ReLU, which starts 3e-8 from where the derivative is asked, on the way."""

    def __init__(self):
        super().__init__()
        draw = torch.Generator().manual_seed(3)  # as `gradient_error` draws
        shape = IMAGES[:1].shape
        at = IMAGES[:1].double() + 0.05 * torch.randn(shape, generator=draw, dtype=torch.float64)
        self.way = torch.randn(shape, generator=draw, dtype=torch.float64).sign()
        self.bias = (at * self.way).sum() + 3e-8 * self.way.numel()
        torch.manual_seed(0)
        self.head = nn.Linear(3 * 32 * 32, 6)

    def forward(self, images):
        beyond = (images.double() * self.way).sum((1, 2, 3)) - self.bias
        return self.head(images.flatten(1)) + beyond.relu()[:, None].to(images)


def test_a_kink_next_to_the_picture_is_no_wrong_gradient():
    """Networks of many ReLU6 on large pictures have one nearer than 1e-7: EfficientNet-Lite2."""
    image = IMAGES[:1].double()
    model = Kinked()
    with private_tensors(model, torch.float64):
        assert gradient_error(model, image, 1e-7) > 1e-3
        assert gradient_error(model, image, 1e-5) > 1e-3
    check_network(model, IMAGES[:1], "gradients")


def test_a_network_that_hardly_depends_on_the_picture():
    """As RepVGG with the weights that timm draws for it: only rounding is left to compare."""
    check_network(Around(lambda x, a: 1 + 1e-17 * a(x)), IMAGES[:1], "gradients")


def test_a_network_that_rounds_to_float32_inside():
    """As EfficientViT's attention, which computes in float32 whatever it is given."""
    for size in (1, 1e-6):  # hardly any gradient beside the rounding
        model = Around(lambda x, a, size=size: (1 + size * a(x)).float().to(x.dtype))
        check_network(model, IMAGES[:1], "gradients")


def test_a_part_of_a_large_picture_is_compared_where_the_network_takes_it():
    model, image = net(), torch.randn(1, 3, 160, 128)
    sizes = []
    model.register_forward_pre_hook(lambda _model, x: sizes.append((len(x[0]), *x[0].shape[2:])))
    check_network(model, image, "gradients")
    assert sizes == [(2, 96, 96), (1, 96, 96), (1, 160, 128)]
    beyond = Around(lambda x, a: a(x) / (x.shape[2] < 128))  # on the whole alone
    with pytest.raises(UnsupportedModel, match="not finite for 6 of 6 classes"):
        check_network(beyond, image, "gradients")


def test_the_cost_and_that_it_is_paid_once():
    model = net()
    counts = pictures_seen(model)
    check_network(model, IMAGES[:1], "gradients")
    assert counts == {"forward": 3, "backward": 2}
    for needs in ("gradients", "calls", "logits"):
        check_network(model, IMAGES[1:], needs)
    model.train().requires_grad_(True)
    check_network(model, IMAGES[:1], "gradients")  # it runs in eval mode anyhow
    assert counts == {"forward": 3, "backward": 2}
    with torch.no_grad():
        model.fc.weight.mul_(2)
    check_network(model, IMAGES[:1], "gradients")
    assert counts["forward"] == 6
    check_network(model, torch.randn(1, 3, 40, 40), "gradients")  # another size is another question
    assert counts["forward"] == 9
    model.bn1.track_running_stats, model.bn1.running_mean, model.bn1.running_var = False, None, None
    with pytest.raises(UnsupportedModel, match="beside it"):
        check_network(model, IMAGES[:1], "gradients")


def test_forward_only_methods_pay_no_backward_pass():
    model = net()
    counts = pictures_seen(model)
    check_network(model, IMAGES[:1], "logits")
    assert counts == {"forward": 3, "backward": 0}


def test_a_check_leaves_no_trace():
    model = vit().train()
    model.blocks[0].requires_grad_(False)
    flags = {name: (id(p), p.requires_grad, p._version) for name, p in model.named_parameters()}
    attributes = {name: dict(vars(module)) for name, module in model.named_modules()}
    hooks = {name: len(module._forward_hooks) for name, module in model.named_modules()}
    check_network(model, IMAGES[:1], "gradients")
    assert flags == {n: (id(p), p.requires_grad, p._version) for n, p in model.named_parameters()}
    for name, module in model.named_modules():
        assert vars(module).keys() == attributes[name].keys()
        assert all(vars(module)[key] is value for key, value in attributes[name].items())
        assert len(module._forward_hooks) == hooks[name]
        assert module.training


def test_caches_of_a_network_do_not_keep_what_the_check_computed():
    """LeViT keeps its attention biases by device in eval mode."""
    torch.manual_seed(0)
    size = {"embed_dim": (16, 16, 16), "key_dim": 8, "num_heads": (2, 2, 2), "depth": (1, 1, 1)}
    model = timm.create_model("levit_128s", num_classes=6, **size).eval()
    image = torch.randn(1, 3, 224, 224)
    with torch.no_grad():
        before = model(image)
        check_network(model, image, "gradients")
        assert torch.equal(model(image), before)


@pytest.mark.parametrize("dtype", [torch.float64, torch.bfloat16, torch.float16])
def test_weights_of_another_type(dtype):
    """Computed in their type: what autograd gives by hand in that type."""
    model = net().to(dtype)
    method = get_method("gradient")
    method.check(model, IMAGES[:1])
    found = method.attribute(model, IMAGES, CLASSES)
    leaf = IMAGES.clone().requires_grad_()
    logits = model.requires_grad_(False)(leaf.to(dtype))
    right = torch.stack(
        [
            torch.autograd.grad(logits[[0, 1], CLASSES[:, k]].sum(), leaf, retain_graph=True)[0]
            for k in (0, 1)
        ],
        1,
    )
    assert found.dtype == torch.float32
    torch.testing.assert_close(found, right, rtol=1e-5, atol=1e-6)


def test_float64_pictures_for_float32_weights():
    method = get_method("gbp")
    found = method.attribute(net(), IMAGES.double(), CLASSES)
    assert torch.equal(found, method.attribute(net(), IMAGES, CLASSES))


def test_no_method_goes_round_the_check():
    for alias in list_methods():
        method = get_method(alias)
        assert "check" not in vars(type(method))
        looking_inside = ("ablation_cam", "attention_rollout", "eigen_cam", "scorecam")
        expected = dict.fromkeys(looking_inside, "calls")
        expected |= dict.fromkeys(FORWARD_ONLY, "logits")
        assert method.needs == expected.get(alias, "gradients"), alias


def test_captum_says_what_it_needs():
    assert Captum(captum.attr.Occlusion).needs == "logits"
    assert Captum(captum.attr.KernelShap).needs == "logits"
    assert Captum(captum.attr.DeepLift).needs == "gradients"


def _in_threads(work, n_threads):
    problems = []

    def guarded(number):
        try:
            work(number, problems)
        except Exception as error:  # a thread's own error would be lost
            problems.append(repr(error))

    threads = [threading.Thread(target=guarded, args=(number,)) for number in range(n_threads)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    return problems


def _acting(model):
    """Every method that acts on a network, cheaply set, and its maps when it is alone."""
    alone = {}
    for alias in list_methods():
        method = get_method(alias, **CHECKS[alias].options)
        twin = copy.deepcopy(model)
        try:
            method.check(twin, IMAGES[:1])
            maps = method.attribute(twin, IMAGES, CLASSES, ids=["a", "b"])
        except UnsupportedModel:
            continue
        alone[alias] = method, maps
    return alone


def _explain_in_threads(calls):
    """Calls of all methods on a CNN and a ViT in four threads; each map as alone, nothing left."""
    models = [net().train().requires_grad_(True), vit().train().requires_grad_(True)]
    states = [copy.deepcopy(model.state_dict()) for model in models]
    alone = [_acting(model) for model in models]
    assert set().union(*alone) == set(list_methods())

    def work(number, problems):
        chance = random.Random(number)
        for _ in range(calls // 4):
            place = chance.randrange(2)
            alias = chance.choice(list(alone[place]))
            method, right = alone[place][alias]
            found = method.attribute(models[place], IMAGES, CLASSES, ids=["a", "b"])
            gap = (found - right).abs().max() / right.abs().max()
            if not gap <= 1e-5:
                problems.append((alias, float(gap)))

    assert _in_threads(work, 4) == []
    for model, state in zip(models, states, strict=True):
        assert model.training
        assert all(parameter.requires_grad for parameter in model.parameters())
        assert all(torch.equal(tensor, state[name]) for name, tensor in model.state_dict().items())


def test_four_threads_explain_with_one_network():
    _explain_in_threads(40)


@pytest.mark.slow
def test_a_thousand_calls_in_four_threads():
    _explain_in_threads(1000)
