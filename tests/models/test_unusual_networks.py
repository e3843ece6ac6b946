"""Networks that nobody writes twice: a right map, or one sentence.

Right gradients are differences of the logits in float64, along random directions; right sums are
the logits.
"""

import pytest
import timm
import torch
from unusual_networks import NETWORKS, Net, made, small

from var_exp.methods import get_method
from var_exp.types import UnsupportedModel

IMAGES = torch.randn(2, 3, 64, 64, generator=torch.Generator().manual_seed(7))
CLASSES = torch.tensor([[1, 2], [0, 3]])


@pytest.mark.parametrize("name", NETWORKS)
def test_gradients_are_differences_and_do_not_depend_on_the_batch(name):
    model, method = made(name), get_method("gradient")
    method.check(model, IMAGES[:1])
    maps = method.attribute(model, IMAGES, CLASSES)
    exact, images = made(name).double(), IMAGES.double()
    step = 1e-6
    for seed in range(3):
        draw = torch.Generator().manual_seed(seed)
        direction = torch.randn(3, 64, 64, generator=draw, dtype=torch.float64)
        with torch.no_grad():
            ends = [exact(images + sign * step * direction).gather(1, CLASSES) for sign in (1, -1)]
        expected = (ends[0] - ends[1]) / (2 * step)
        found = (maps.double() * direction).sum((2, 3, 4))
        torch.testing.assert_close(found, expected, rtol=1e-3, atol=1e-4 * float(expected.norm()))
    alone = torch.cat(
        [method.attribute(model, IMAGES[i : i + 1], CLASSES[i : i + 1]) for i in (0, 1)]
    )
    torch.testing.assert_close(alone, maps, rtol=1e-3, atol=1e-5 * float(maps.abs().max()))


@pytest.mark.parametrize("name", NETWORKS)
@pytest.mark.parametrize("alias", ["fullgrad", "deeplift"])
def test_maps_are_complete_or_refused(name, alias):
    model, method = made(name), get_method(alias)
    try:
        method.check(model, IMAGES[:1])
    except UnsupportedModel:
        return
    maps = method.attribute(model, IMAGES, CLASSES)
    with torch.no_grad():
        sums = method.sums(model, IMAGES, model(IMAGES)).gather(1, CLASSES)
    torch.testing.assert_close(maps.sum((2, 3, 4)), sums, rtol=1e-3, atol=1e-4)


@pytest.mark.parametrize(
    ("name", "alias", "words"),
    [
        ("views as a batch", "fullgrad", "mixes the pictures of a batch"),
        ("deformable", "fullgrad", "forward-mode derivative"),
        ("own autograd function", "deeplift", "in an autograd function, for which DeepLIFT"),
        ("mapped over pictures", "gbp", "the method fails on a call of the model"),
        ("pruned tokens", "gradcam", "do not change most"),
    ],
)
def test_what_a_method_cannot_follow_is_said_before_the_work(name, alias, words):
    with pytest.raises(UnsupportedModel, match=words):
        get_method(alias).check(made(name), IMAGES[:1])


def test_a_network_in_another_type_inside():
    """LRP writes linear layers anew, in float32 beside bfloat16: refused, not torch's own words."""

    def run(m, x):
        with torch.autocast("cpu", torch.bfloat16):
            return m.net(x).float()

    torch.manual_seed(2)
    model = Net(run, net=small()).eval()
    with pytest.raises(UnsupportedModel, match="the method fails on a call"):
        get_method("lrp").check(model, IMAGES[:1])


@pytest.mark.parametrize("alias", ["gradient", "gbp", "gradcam"])
def test_pictures_in_whole_numbers_have_no_gradient(alias):
    torch.manual_seed(2)
    model = Net(lambda m, x: m.net(x.to(torch.uint8).float() / 255), net=small()).eval()
    images = (60 * IMAGES + 128).clamp(0, 255)
    with pytest.raises(UnsupportedModel, match="no gradient leads from the logits to the picture"):
        get_method(alias).check(model, images[:1])
    get_method("occlusion").check(model, images[:1])


@pytest.mark.parametrize("alias", ["gradient", "gbp", "occlusion"])
def test_results_that_are_kept_for_the_next_picture(alias):
    def run(m, x):
        if len(x) not in m.results:
            m.results[len(x)] = m.net(x)
        return m.results[len(x)]

    model = Net(run, net=small(), results={}).eval()
    with pytest.raises(UnsupportedModel, match="other logits for the same picture the second time"):
        get_method(alias).check(model, IMAGES[:1])
    assert model.results == {}


def test_constants_that_are_kept_are_no_state():
    def run(m, x):
        if x.shape not in m.constants:
            m.constants[x.shape] = torch.linspace(0, 1, x.shape[3])
        return m.net(x + m.constants[x.shape].to(x))

    model = Net(run, net=small(), constants={}).eval()
    get_method("gradient").check(model, IMAGES[:1])
    assert model.constants == {}


def test_visformer_differs_between_batches_by_rounding_alone():
    """Its random weights let values grow to hundreds: 1e-3 in float32, nothing in float64."""
    torch.manual_seed(0)
    model = timm.create_model("visformer_tiny", img_size=64, num_classes=6).eval().double()
    method, images = get_method("gradient"), IMAGES.double()
    together = method.attribute(model, images, CLASSES)
    alone = [method.attribute(model, images[i : i + 1], CLASSES[i : i + 1]) for i in (0, 1)]
    torch.testing.assert_close(torch.cat(alone), together, rtol=1e-5, atol=1e-7 * 255)
