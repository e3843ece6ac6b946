"""A network that classifies pixels, asked about a region."""

import numpy as np
import pytest
import torch
import torchvision
from PIL import Image
from torch import nn
from torch.nn.functional import conv2d

import var_exp
from var_exp.data.critters import Critters
from var_exp.data.geometry import Geometry
from var_exp.methods import get_method
from var_exp.models import RegionScores, declare, describe, input_spec, load_model
from var_exp.models.region import pixel_logits
from var_exp.refine.var import VAR
from var_exp.types import ConfigError, UnsupportedModel

EVERYWHERE = torch.ones(64, 64, dtype=torch.bool)


class Dense(nn.Module):
    """A classifier whose head is asked at every cell, before the average: a segmentation network.

    The average of its logits is the classifier's own logits, since pooling and head are linear.
    """

    def __init__(self, classifier, wrap=lambda logits: {"out": logits}):
        super().__init__()
        self.classifier = classifier
        self.wrap = wrap

    def forward(self, images):
        head = self.classifier.get_classifier()
        cells = self.classifier.forward_features(images)
        return self.wrap(conv2d(cells, head.weight[..., None, None], head.bias))


@pytest.fixture(scope="module")
def classifier():
    return load_model("critters_cnn")


@pytest.fixture(scope="module")
def images():
    return torch.stack([(Critters(4)[i].image - 0.5) / 0.5 for i in range(2)])


def test_asked_everywhere_it_is_the_classifier(classifier, images):
    scores = RegionScores(Dense(classifier), EVERYWHERE)
    expected = classifier(images)
    torch.testing.assert_close(scores(images), expected, rtol=1e-5, atol=1e-5)
    assert describe(scores, images)[0].num_classes == expected.shape[1]


@pytest.mark.parametrize(
    "method", ["gradient", "gbp", "ig", "gradcam", "hirescam", "deeplift", "fullgrad", "occlusion"]
)
def test_so_are_its_maps(classifier, images, method):
    scores = RegionScores(Dense(classifier), EVERYWHERE)
    classes = torch.tensor([[4, 1, 2], [0, 5, 9]])
    explain = get_method(method)
    explain.check(scores, images[:1])
    expected = explain.attribute(classifier, images, classes)
    found = explain.attribute(scores, images, classes)
    error = (found - expected).abs().max() / expected.abs().max()
    assert error < 1e-4  # FullGrad sums biases of all layers, in float32


def test_a_region_is_the_mean_over_its_pixels_to_the_last_digit():
    torch.manual_seed(0)
    network = nn.Sequential(
        nn.Conv2d(3, 8, 3, 2, 1), nn.BatchNorm2d(8), nn.Softplus(), nn.Conv2d(8, 5, 3, padding=1)
    )
    network = network.double().eval().requires_grad_(False)
    images = torch.randn(2, 3, 12, 16, dtype=torch.float64)
    region = torch.zeros(12, 16, dtype=torch.bool)
    region[3:8, 5:12] = True  # cells of the output are two pixels wide: some are half inside
    scores = RegionScores(network, region)
    expected = torch.zeros(2, 5, dtype=torch.float64)
    pixels = network(images)
    for row, column in region.nonzero().tolist():
        expected += pixels[:, :, row // 2, column // 2] / int(region.sum())
    torch.testing.assert_close(scores(images), expected)
    classes = torch.tensor([[0, 3], [4, 1]])
    maps = get_method("gradient").attribute(scores, images, classes)
    for b in range(2):
        for k in range(2):
            image = images[b : b + 1].clone().requires_grad_()
            logits = network(image)[0, classes[b, k]]
            score = sum(logits[r // 2, c // 2] for r, c in region.nonzero().tolist())
            (gradient,) = torch.autograd.grad(score / int(region.sum()), image)
            torch.testing.assert_close(maps[b, k].double(), gradient[0], rtol=1e-5, atol=1e-7)
    outside = torch.ones(12, 16, dtype=torch.bool)
    outside[0:10, 1:14] = False  # cells 0 to 4 and 1 to 6, a pixel more on each side
    assert not maps[..., outside].any()


def test_each_region_of_a_picture_of_two_gets_its_own_class(classifier):
    left, right = (Critters(8)[i] for i in (1, 3))
    assert left.classes.tolist() != right.classes.tolist()
    picture = torch.cat([left.image, right.image], 2)
    network = declare(Dense(classifier), size=(64, 128), mean=[0.5] * 3, std=[0.5] * 3)
    asked = [int(left.classes[0]), int(right.classes[0])]
    half = torch.zeros(64, 128, dtype=torch.bool)
    half[:, :64] = True
    for region, place in ((half, 0), (~half, 1)):
        why = var_exp.explain(network, (picture - 0.5) / 0.5, asked, region=region)
        assert why.probabilities.argmax() == place
        assert torch.equal(why.region, region)
        assert why.method == "hirescam"
        evidence = why.maps[place].sum(0).clamp_min(0)
        assert evidence[region].sum() > 0.7 * evidence.sum()
        assert torch.equal(why.maps, VAR.scaled()(why.base[None])[0])
        torch.testing.assert_close(why.image, picture, atol=1 / 255, rtol=0)
        (caption,) = [each for each in why.figure().axes[0].texts if "A line in" in each.get_text()]
        assert caption


def test_the_region_that_is_predicted(classifier, images):
    network = Dense(classifier)
    cells = pixel_logits(network, images[:1])
    torch.testing.assert_close(cells, network(images[:1])["out"])
    best = cells[0].argmax(0).repeat_interleave(8, 0).repeat_interleave(8, 1)
    asked, other = best.unique().tolist()[:2]
    why = var_exp.explain(network, images[0], [asked, other], region="predicted")
    assert torch.equal(why.region, best == asked)
    commonest = torch.bincount(best.flatten()).argmax()
    assert torch.equal(
        var_exp.explain(network, images[0], region="predicted").region, best == commonest
    )
    never = next(number for number in range(16) if not (best == number).any())
    with pytest.raises(ConfigError, match=f"predicts class {never} at no pixel"):
        var_exp.explain(network, images[0], [never, asked], region="predicted")


def test_one_logit_per_pixel_makes_two_classes():
    torch.manual_seed(0)
    network = nn.Sequential(nn.Conv2d(3, 4, 3, padding=1), nn.ReLU(), nn.Conv2d(4, 1, 1)).eval()
    image = torch.randn(3, 10, 10)
    why = var_exp.explain(network, image, method="gradient", region="predicted")
    logits = network(image[None])[0, 0]
    sides = [int((logits <= 0).sum()), int((logits > 0).sum())]
    inside = logits > 0 if sides[1] > sides[0] else logits <= 0
    assert torch.equal(why.region, inside)
    expected = logits[inside].mean().sigmoid()
    found = dict(zip(why.classes, why.probabilities, strict=True))
    torch.testing.assert_close(found[1], expected)


def test_a_mask_goes_the_way_of_its_picture(classifier):
    network = declare(
        Dense(classifier), size=64, mean=[0.5] * 3, std=[0.5] * 3, crop_pct=0.8, crop_mode="center"
    )
    noise = np.random.default_rng(0).integers(0, 256, (90, 120, 3), dtype=np.uint8)
    mask = np.zeros((90, 120), bool)
    mask[30:60, 40:70] = True
    why = var_exp.explain(network, Image.fromarray(noise), region=mask)
    expected = Geometry.of(input_spec(network)).masks(torch.from_numpy(mask))
    assert torch.equal(why.region, expected)
    clicked = var_exp.explain(network, noise, region=(45, 60)).region
    assert clicked.sum() == 1
    assert (clicked & expected).any()
    for gone in ((45, 0), np.pad(np.ones((90, 3), bool), ((0, 0), (0, 117)))):
        with pytest.raises(ConfigError, match="nothing of the region"):
            var_exp.explain(network, noise, region=gone)


@pytest.mark.parametrize(
    ("region", "said"),
    [
        ("left", "must be a mask, .row, column. or 'predicted'"),
        ((64, 3), "outside of the picture of 64 x 64 px"),
        (torch.ones(3, 3).bool(), "64 x 64 px, got torch.bool"),
        (torch.ones(64, 64), "mask of bool"),
        (~EVERYWHERE, "nothing of the region"),
    ],
)
def test_a_region_that_is_none(classifier, images, region, said):
    with pytest.raises(ConfigError, match=said):
        var_exp.explain(Dense(classifier), images[0], region=region)


def test_pixels_need_a_region_and_pictures_have_none(classifier, images):
    for wrap in (lambda y: y, lambda y: {"out": y}, lambda y: (y, y.mean())):
        with pytest.raises(
            UnsupportedModel, match=r"must return logits.*classifies pixels.*region="
        ):
            var_exp.explain(Dense(classifier, wrap), images[0])
        var_exp.explain(Dense(classifier, wrap), images[0], method="gbp", region=(3, 4))
    with pytest.raises(UnsupportedModel, match="leave region out"):
        var_exp.explain(classifier, images[0], region="predicted")


def test_networks_of_others():
    torch.manual_seed(0)
    seen = torchvision.models.segmentation.lraspp_mobilenet_v3_large(
        weights=None, weights_backbone=None, num_classes=6
    ).eval()
    transformers = pytest.importorskip("transformers")
    tokens = transformers.SegformerForSemanticSegmentation(
        transformers.SegformerConfig(
            **{"num_labels": 5, "depths": [1] * 4, "decoder_hidden_size": 16},
            hidden_sizes=[16, 32, 32, 64],
            id2label=dict(enumerate(["sky", "road", "car", "tree", "wall"])),
        )
    ).eval()
    image = torch.randn(3, 64, 96)
    region = torch.zeros(64, 96, dtype=torch.bool)
    region[16:32, 32:64] = True  # whole cells of both
    for network, logits in ((seen, lambda y: y["out"]), (tokens, lambda y: y.logits)):
        for method in ("gbp", "gradient"):
            why = var_exp.explain(network, image, [0, 1, 2], method, region=region)
            size = logits(network(image[None])).shape[-2:]
            cells = region.view(size[0], 64 // size[0], size[1], 96 // size[1])[:, 0, :, 0]
            expected = logits(network(image[None]))[0][:, cells].mean(1).softmax(0)
            torch.testing.assert_close(why.probabilities, expected[:3])
    assert why.names == ["sky", "road", "car"]
