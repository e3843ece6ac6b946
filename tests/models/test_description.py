"""What a network takes and gives: seen once, named right, and said of networks that do not say."""

import copy
import math
from itertools import pairwise
from types import SimpleNamespace

import pytest
import timm
import torch
from torch import nn

from var_exp.methods import get_method
from var_exp.metrics import AverageDrop, DeletionAUC, InsertionAUC, Intervention
from var_exp.metrics.functional import insertion_auc
from var_exp.metrics.perturber import Perturber
from var_exp.models import (
    class_names,
    classes_of,
    declare,
    describe,
    head_of,
    input_spec,
    load_model,
    network_name,
    probabilities,
    returning_logits,
)
from var_exp.models.declared import crop_share
from var_exp.models.outputs import logits_of
from var_exp.models.targets import find_target
from var_exp.types import ConfigError, InputSpec, UnsupportedModel

IMAGES = torch.randn(2, 3, 32, 32, generator=torch.Generator().manual_seed(5))
CLASSES = torch.tensor([[1, 2], [3, 4]])


class Packing(nn.Module):
    """A small network that packs its logits."""

    def __init__(self, pack=lambda logits: logits, classes=6, channels=3):
        super().__init__()
        torch.manual_seed(0)
        self.net = nn.Sequential(
            nn.Conv2d(channels, 8, 5, 4), nn.ReLU(), nn.Conv2d(8, 8, 3), nn.ReLU(), nn.Flatten()
        )
        self.pool, self.fc = nn.AdaptiveAvgPool1d(16), nn.Linear(16, classes)
        self.pack = pack

    def forward(self, x):
        return self.pack(self.fc(self.pool(self.net(x))))


PACKS = {
    "object": lambda y: SimpleNamespace(logits=y, hidden_states=None),
    "dictionary": lambda y: {"loss": None, "logits": y},
    "tuple": lambda y: (y, None),
    "list": lambda y: [y, torch.zeros(())],
}


@pytest.mark.parametrize("pack", PACKS.values(), ids=PACKS)
@pytest.mark.parametrize("alias", ["gbp", "gradcam", "occlusion", "deeplift", "captum", "scorecam"])
def test_logits_are_taken_out_of_what_holds_them(alias, pack):
    method = get_method(alias)
    packed, plain = Packing(pack), Packing()
    method.check(packed, IMAGES[:1])
    assert torch.equal(
        method.attribute(packed, IMAGES, CLASSES), method.attribute(plain, IMAGES, CLASSES)
    )


@pytest.mark.parametrize("pack", PACKS.values(), ids=PACKS)
def test_metrics_and_targets_read_the_same_logits(pack):
    packed, plain, maps = Packing(pack), Packing(), torch.randn(2, 1, 32, 32)
    arguments = {"images": IMAGES, "classes": CLASSES[:, 0], "maps": maps}
    assert torch.equal(
        insertion_auc(packed, steps=4, **arguments), insertion_auc(plain, steps=4, **arguments)
    )
    for metric in (InsertionAUC, DeletionAUC):
        found, right = metric(packed, steps=4), metric(plain, steps=4)
        found.update(**arguments)
        right.update(**arguments)
        assert found.compute() == right.compute()
    assert find_target(packed, IMAGES[:1]) == find_target(plain, IMAGES[:1])


@pytest.mark.parametrize(
    ("pack", "seen"),
    [
        (lambda y: (y, y), r"a tuple of \(\[\d, 6\], \[\d, 6\]\)"),  # which of them?
        (lambda y: {"features": y}, "a dictionary of features"),
        (lambda y: y[:, :, None], r"\[\d, 6, 1\]"),
        (lambda y: y.argmax(1, keepdim=True), r"\[\d, 1\] of torch.int64"),
        (lambda y: SimpleNamespace(scores=y), "SimpleNamespace"),
        (lambda y: None, "NoneType"),
    ],
)
def test_what_holds_no_logits_or_several_is_refused(pack, seen):
    model = Packing(pack)
    for ask in (
        lambda: get_method("gbp").check(model, IMAGES[:1]),
        lambda: get_method("rise").check(model, IMAGES[:1]),
        lambda: find_target(model, IMAGES[:1]),
        lambda: describe(model, IMAGES[:1]),
        lambda: Perturber(model)(IMAGES[:1]),
    ):
        with pytest.raises(UnsupportedModel, match=f"must return logits .* got {seen}"):
            ask()


def test_one_logit_becomes_two_classes_whose_softmax_is_its_sigmoid():
    model = Packing(classes=1)
    logits = logits_of(model(IMAGES))
    z = model(IMAGES)
    assert torch.equal(logits, torch.cat([-z / 2, z / 2], 1))
    torch.testing.assert_close(logits.softmax(1)[:, 1:], z.sigmoid())
    both = get_method("gradient").attribute(model, IMAGES, torch.tensor([[0, 1], [0, 1]]))
    leaf = IMAGES.clone().requires_grad_()
    (right,) = torch.autograd.grad(model(leaf).sum() / 2, leaf)
    torch.testing.assert_close(both[:, 1], right)
    assert torch.equal(both[:, 0], -both[:, 1])
    seen, _ = describe(declare(model, head="sigmoid"), IMAGES)
    assert (seen.output, seen.head, seen.num_classes) == ("one logit", "softmax", 2)


def test_a_description_says_what_a_forward_pass_shows():
    images = torch.randn(2, 4, 24, 40)
    model = declare(Packing(PACKS["object"], channels=4), class_names=list("abcdef"))
    seen, logits = describe(model.bfloat16(), images)
    assert (seen.channels, seen.height, seen.width) == (4, 24, 40)
    assert (seen.dtype, seen.output) == (torch.bfloat16, "SimpleNamespace")
    assert (seen.num_classes, seen.class_names, seen.head) == (6, tuple("abcdef"), "softmax")
    assert logits.shape == (2, 6)
    with pytest.raises(UnsupportedModel, match="takes pictures of 4 channels, got 3; use data of"):
        describe(model, IMAGES)
    with pytest.raises(ConfigError, match="has 6 classes and names 2"):
        describe(declare(model, class_names=["a", "b"]), images)


def test_what_is_said_of_a_network_stays_with_its_copies():
    model = nn.Flatten()
    with pytest.raises(ConfigError, match="does not say its input_size and mean and std"):
        input_spec(model)
    assert (class_names(model), network_name(model), head_of(model)) == (None, None, "softmax")
    declare(model, size=(128, 64), mean=[0.5], std=[0.25], head="sigmoid", name="mine")
    declare(model, class_names=["a", "b"], fixed_size=True)
    twin = copy.deepcopy(model)
    assert input_spec(twin) == InputSpec(128, (0.5,), (0.25,), fixed_size=True, width=64)
    assert (class_names(twin), network_name(twin)) == (("a", "b"), "mine")
    assert head_of(twin) == "sigmoid"
    with pytest.raises(ConfigError, match="head must be softmax or sigmoid, got 'relu'"):
        declare(model, head="relu")


def test_classes_by_what_a_network_says():
    assert classes_of(nn.Flatten()) is None
    assert classes_of(timm.create_model("test_resnet", num_classes=7)) == 7
    assert classes_of(timm.create_model("test_resnet", num_classes=1)) == 2


def test_a_network_that_returns_logits_from_here_on():
    model = returning_logits(returning_logits(Packing(PACKS["dictionary"]).double()))
    assert model(IMAGES).dtype == torch.float64
    assert torch.equal(copy.deepcopy(model)(IMAGES), model(IMAGES))
    assert len(model._forward_hooks) == 1


def test_probabilities_by_the_head():
    logits = torch.tensor([[2.0, -1.0, 0.0]], dtype=torch.bfloat16)
    assert torch.equal(probabilities(logits, "softmax"), logits.float().softmax(1))
    assert torch.equal(probabilities(logits, "sigmoid"), logits.float().sigmoid())


def _inserted(model, image, label, values, steps, read):
    """Insertion into black by brute force, for values without ties."""
    order, pixels = values.flatten().argsort(descending=True), values.numel()
    curve = []
    for step in range(steps + 1):
        canvas = torch.zeros_like(image).flatten(1)
        shown = order[: round(step * pixels / steps)]
        canvas[:, shown] = image.flatten(1)[:, shown]
        with torch.no_grad():
            curve.append(float(read(model(canvas.view_as(image)[None]).double())[0, label]))
    return sum((a + b) / 2 for a, b in pairwise(curve)) / steps


@pytest.mark.parametrize("said", ["by the score", "by the head"])
def test_insertion_reads_the_sigmoid_of_independent_labels(said):
    model, maps = Packing(), torch.randn(2, 1, 32, 32)
    score = "sigmoid" if said == "by the score" else "probability"
    if said == "by the head":
        declare(model, head="sigmoid")
    right = [
        _inserted(model, IMAGES[row], int(CLASSES[row, 0]), maps[row, 0], 4, torch.sigmoid)
        for row in (0, 1)
    ]
    arguments = {"images": IMAGES, "classes": CLASSES[:, 0], "maps": maps}
    found = insertion_auc(model, steps=4, baseline="zero", score=score, **arguments)
    torch.testing.assert_close(found, torch.tensor(right, dtype=torch.float64), rtol=1e-6, atol=0)
    metric = InsertionAUC(model, steps=4, baseline="zero", score=score)
    metric.update(**arguments)
    assert float(metric.compute()) == pytest.approx(sum(right) / 2, rel=1e-6)


def test_other_measures_read_the_sigmoid_of_the_head():
    model = declare(Packing(), head="sigmoid")
    maps = torch.randn(2, 1, 32, 32)
    values = maps[:, 0].abs()
    low, high = values.amin((1, 2), True), values.amax((1, 2), True)
    kept = IMAGES * ((values - low) / (high - low))[:, None]
    with torch.no_grad():
        before, after = (model(x).double().sigmoid().gather(1, CLASSES) for x in (IMAGES, kept))
    drop = ((before - after).clamp_min(0) / before)[:, 0]
    metric = AverageDrop(model)
    metric.update(images=IMAGES, classes=CLASSES[:, 0], maps=maps)
    torch.testing.assert_close(metric.compute(), drop.mean(), rtol=1e-5, atol=1e-7)

    share = 0.25
    gone = IMAGES.clone()
    for row in (0, 1):
        top = maps[row, 0].flatten().argsort(descending=True)[: round(share * 32 * 32)]
        gone[row].view(3, -1)[:, top] = 0
    with torch.no_grad():
        fall = before - model(gone).double().sigmoid().gather(1, CLASSES)
    metric = Intervention(model, share=share)
    metric.update(
        images=IMAGES, classes=CLASSES[:, 0], asked=CLASSES, own=torch.tensor([0, 0]), maps=maps
    )
    torch.testing.assert_close(
        metric.compute(), (fall[:, 0] - fall[:, 1]).mean(), rtol=1e-5, atol=1e-7
    )


def test_the_gradient_of_a_sigmoid():
    model = Packing()
    found = get_method("gradient", score="sigmoid").attribute(model, IMAGES, CLASSES)
    leaf = IMAGES.clone().requires_grad_()
    scores = model(leaf).sigmoid().gather(1, CLASSES)
    for k in (0, 1):
        (right,) = torch.autograd.grad(scores[:, k].sum(), leaf, retain_graph=True)
        torch.testing.assert_close(found[:, k], right)


@pytest.mark.parametrize(
    ("name", "options", "shape"),
    [
        ("vit_tiny_patch16_224", {"img_size": (64, 32), "depth": 1}, (64, 32)),
        ("swin_tiny_patch4_window7_224", {"img_size": 56, "depths": (1, 1)}, (56, 56)),
        ("maxvit_pico_rw_256", {"img_size": (128, 64)}, (128, 64)),
    ],
)
def test_the_size_that_a_network_was_built_for_counts(name, options, shape):
    """timm's dictionary still says 224 or 256, which such a network refuses."""
    model = timm.create_model(name, num_classes=4, **options)
    if name.startswith("maxvit") and not hasattr(model, "img_size"):
        pytest.skip("this timm's MaxViT does not say what it was built for")
    spec = input_spec(model)
    assert (spec.shape, spec.fixed_size) == (shape, True)
    assert describe(model, torch.zeros(1, 3, *shape))[1].shape == (1, 4)
    said = input_spec(load_model(name, pretrained=False, num_classes=4, options=options))
    assert said.shape == shape
    with pytest.raises(UnsupportedModel, match=f"it says it takes {shape[0]} x {shape[1]}; "):
        describe(model, torch.zeros(1, 3, 96, 48))


def test_crops_come_back_to_the_resized_side():
    for side in range(16, 400):
        for resized in range(side, 420):
            assert math.floor(side / crop_share(side, resized)) == resized
