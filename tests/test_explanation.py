"""`var_exp.explain`: one picture, a few classes, one answer."""

from pathlib import Path

import matplotlib.pyplot as plt
import numpy as np
import pytest
import skimage
import torch
from PIL import Image
from torch import nn

import var_exp
from var_exp.data.critters import CLASS_NAMES, Critters
from var_exp.methods import get_method
from var_exp.models import input_spec, load_model
from var_exp.refine.shared import shared_evidence
from var_exp.refine.var import VAR
from var_exp.registry import from_alias
from var_exp.types import ConfigError, InputSpec, VarExpError

CAT = Path(skimage.__file__).parent / "data/chelsea.png"
NAMES = [f"{name}" for name in CLASS_NAMES]


@pytest.fixture(scope="module")
def critter():
    sample = Critters(3)[1]
    return Image.fromarray((sample.image * 255).round().byte().permute(1, 2, 0).numpy())


@pytest.fixture(scope="module")
def why():
    return var_exp.explain("efficientnet_lite0", CAT, ["tabby", "Egyptian cat"])


def test_the_sentence_of_the_readme(why):
    assert str(why) == (
        "Egyptian cat 0.36 rather than tabby 0.17 (tf_efficientnet_lite0, gradcam, var_scaled)"
    )
    assert (why.classes, why.names) == ([281, 285], ["tabby", "Egyptian cat"])


def test_methods_whose_maps_grow_with_the_probability_compete_in_units_of_each_class(critter):
    rise = get_method("rise", masks=24)
    why = var_exp.explain("critters_cnn", critter, [0, 1, 2], rise)
    assert why.refine == "var_by_class"
    assert torch.equal(why.maps, from_alias("refine", "var_by_class")(why.base[None])[0])
    asked = var_exp.explain("critters_cnn", critter, [0, 1, 2], rise, "var_scaled")
    assert asked.refine == "var_scaled"
    assert torch.equal(asked.maps, VAR.scaled()(asked.base[None])[0])


def test_every_part_is_what_its_own_function_gives(why):
    model = load_model("efficientnet_lite0")
    spec = input_spec(model)
    images = (why.image - 0.5)[None] / 0.5
    assert (spec.mean, spec.std) == ((0.5,) * 3, (0.5,) * 3)
    classes = torch.tensor([[281, 285]])
    maps = get_method("gradcam").attribute(model, images, classes)
    close = {"rtol": 1e-4, "atol": 1e-5}  # of another memory layout, so of another kernel
    torch.testing.assert_close(why.base, maps[0], **close)
    maps = why.base[None]
    assert torch.equal(why.maps, VAR.scaled()(maps)[0])
    assert torch.equal(why.shares, VAR.scaled().distribution(maps)[0, :, 0])
    assert torch.equal(why.shared, shared_evidence(maps)[0])
    expected = model(images).softmax(1)[0, [281, 285]]
    torch.testing.assert_close(why.probabilities, expected)
    torch.testing.assert_close(why.shares.sum(0), torch.ones(224, 224))
    assert why.shared.min() >= 0
    assert 0 <= why.image.min() < why.image.max() <= 1


def test_file_picture_and_tensor_are_one_picture(why):
    opened = var_exp.explain("efficientnet_lite0", Image.open(CAT), [281, "285"])
    array = np.asarray(Image.open(CAT).convert("RGB"))
    model = load_model("efficientnet_lite0")
    tensor = var_exp.explain(model, (why.image - 0.5) / 0.5, ["n02123045", "egyptian_cat"])
    for other in (opened, var_exp.explain(model, array, [281, 285]), tensor):
        torch.testing.assert_close(other.base, why.base, rtol=1e-4, atol=1e-5)
        assert str(other) == str(why)
        torch.testing.assert_close(other.image, why.image, atol=1 / 255, rtol=0)


def test_without_classes_the_prediction_meets_its_strongest_competitors(critter):
    model = load_model("critters_cnn")
    why = var_exp.explain(model, critter, names=NAMES)
    order = why.probabilities.tolist()
    assert len(order) == 4
    assert order == sorted(order, reverse=True)
    assert why.names == [NAMES[number] for number in why.classes]
    assert len(var_exp.explain(model, critter, k=6).classes) == 6
    alone = var_exp.explain(model, critter, [why.names[2]], names=NAMES)
    assert alone.classes == [why.classes[2], *[c for c in why.classes if c != why.classes[2]]]


def test_several_pictures_are_answered_one_by_one(critter):
    model = load_model("critters_cnn")
    one = var_exp.explain(model, critter, [3, 7])
    for found in var_exp.explain(model, [critter, critter], [3, 7]):
        assert torch.equal(found.maps, one.maps)
    batch = torch.stack([(one.image - 0.5) / 0.25] * 3)
    assert [len(each.classes) for each in var_exp.explain(model, batch, [3, 7])] == [2, 2, 2]


def test_a_network_of_ones_own_is_left_as_it_is(critter):
    class Own(nn.Module):
        """Three channels' means, each seen by its own class."""

        def __init__(self):
            super().__init__()
            self.see = nn.Conv2d(3, 3, 1, bias=False)
            self.see.weight.data = torch.eye(3).view(3, 3, 1, 1)

        def forward(self, images):
            return self.see(images).mean((2, 3))

    model = Own().train()
    image = torch.rand(3, 8, 8, generator=torch.Generator().manual_seed(0))
    why = var_exp.explain(model, image, ["red", "blue"], "gradient", names=["red", "green", "blue"])
    assert model.training
    assert all(p.requires_grad and p.grad is None for p in model.parameters())
    expected = torch.zeros(2, 3, 8, 8)  # d mean / d pixel
    expected[0, 0] = expected[1, 2] = 1 / 64
    torch.testing.assert_close(why.base, expected)
    assert (why.network, why.image.min(), why.image.max()) == ("Own", 0, 1)
    spec = InputSpec(8, (0.0,) * 3, (1.0,) * 3)
    assert var_exp.explain(model, critter, [0, 2], "gradient", spec=spec).image.shape == (3, 8, 8)
    with pytest.raises(ConfigError, match="nobody says how Own expects its pictures; give spec="):
        var_exp.explain(model, critter)


def test_the_figure_is_saved_and_shown_in_a_notebook(why, tmp_path):
    before = plt.get_fignums()
    for ending in ("png", "pdf", "svg"):
        assert why.save(tmp_path / f"why.{ending}").stat().st_size > 1000
    assert why._repr_png_()[:4] == b"\x89PNG"
    assert plt.get_fignums() == before  # nothing is left open
    with pytest.raises(ConfigError, match="does not end in a format of pictures"):
        why.save(tmp_path / "why.docx")


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ({"classes": ["taby", "lynx"]}, r"no class 'taby' \(did you mean 'tabby'"),
        ({"classes": [1, 1]}, "named twice"),
        ({"method": "gradcan"}, "did you mean 'gradcam'"),
        ({"method": "attention_rollout"}, "same map, so they cannot compete"),
        ({"refine": "va"}, "there is no refine 'va'"),
        ({"image": "nowhere.png"}, "it does not exist"),
        ({"image": "https://a.org/cat.png"}, "is an address.*download it first"),
        ({"image": torch.zeros(64, 64)}, r"a normalised picture \[C, H, W\]"),
        ({"image": np.zeros((4, 4))}, r"an array must be \[H, W, 3\] of bytes"),
        ({"image": 3}, "a picture must be a file, a PIL image"),
        ({"model": 3}, "model must be a name or a torch module"),
        ({"names": ["a", "b"]}, "2 names were given for the 1000 classes"),
    ],
)
def test_mistakes_are_one_sentence(given, message):
    given = {"model": "efficientnet_lite0", "image": CAT, **given}
    with pytest.raises(VarExpError, match=message) as told:
        var_exp.explain(given.pop("model"), given.pop("image"), **given)
    assert "\n" not in str(told.value)
