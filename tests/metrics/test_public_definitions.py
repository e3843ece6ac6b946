"""The perturbation measures beside the code that people compare with, written out as plain loops.

Where the public definition is right, both agree to 1e-6; where it is not, a test shows how.
TorchRay and the measures of single maps are in the tests of their own metrics.
"""

import math

import numpy as np
import pytest
import torch
from scipy.ndimage import gaussian_filter

from var_exp.metrics.aopc import aopc
from var_exp.metrics.baselines import gaussian_blur
from var_exp.metrics.energy_pointing_game import energy_pointing_game
from var_exp.metrics.insertion_deletion import deletion_auc, insertion_auc

CLOSE = {"rtol": 0, "atol": 1e-6}


def rise(predict, image, saliency, label, mode, step, substrate):
    """`CausalMetric.single_run` and `auc` of RISE, for a given class: mean height of the curve."""
    order = np.flip(np.argsort(saliency.flatten().numpy()))
    start, finish = (image, substrate) if mode == "del" else (substrate, image)
    current, scores = start.clone(), []
    steps = math.ceil(len(order) / step)
    for i in range(steps + 1):
        with torch.no_grad():
            scores.append(predict(current[None]).softmax(1)[0, label].item())
        pixels = torch.from_numpy(order[step * i : step * (i + 1)].copy())
        current.flatten(1)[:, pixels] = finish.flatten(1)[:, pixels]
    scores = np.array(scores)
    return (scores.sum() - scores[0] / 2 - scores[-1] / 2) / (len(scores) - 1)


@pytest.mark.parametrize("step", [1, 4, 12])
def test_rise_agrees_where_nothing_is_tied(small_model, small_scene, step):
    images, classes, maps = small_scene
    steps = 48 // step
    rows = list(zip(images, maps.sum(1), classes.tolist(), strict=True))
    blank, blurred = torch.zeros_like(images), gaussian_blur(images)
    deleted = [rise(small_model, *row, "del", step, s) for row, s in zip(rows, blank, strict=True)]
    torch.testing.assert_close(
        deletion_auc(small_model, images, classes, maps, steps), torch.tensor(deleted), **CLOSE
    )
    added = [rise(small_model, *row, "ins", step, s) for row, s in zip(rows, blurred, strict=True)]
    torch.testing.assert_close(
        insertion_auc(small_model, images, classes, maps, steps), torch.tensor(added), **CLOSE
    )


def test_rise_deletes_the_lower_right_of_a_map_that_says_nothing():
    """Its flipped argsort leaves the last pixels first; here the order is random, by the id."""

    def corner(row, column):
        def predict(images):
            seen = 40 * images[:, 0, row, column]
            return torch.stack([seen, torch.full_like(seen, 20)], 1)

        return predict

    image, flat = torch.ones(1, 1, 10, 10), torch.zeros(1, 1, 10, 10)
    first, last = (
        rise(corner(*place), image[0], flat[0, 0], 0, "del", 1, torch.zeros(1, 10, 10))
        for place in ((0, 0), (9, 9))
    )
    assert first > 0.99
    assert last < 0.01
    ids, classes = [str(n) for n in range(300)], torch.zeros(300, dtype=torch.int64)
    many = (image.expand(300, -1, -1, -1), classes, flat.expand(300, -1, -1, -1))
    for place in ((0, 0), (9, 9)):
        mean = deletion_auc(corner(*place), *many, 100, ids=ids).mean().item()
        assert mean == pytest.approx(0.5, abs=4 * 0.289 / 300**0.5)  # uniform, so sigma 1 / √12


def test_the_blur_of_rise_is_nearly_a_box():
    """`gkern` filters an 11 x 11 delta by a Gaussian whose tails the borders mirror back."""
    delta = np.zeros((11, 11))
    delta[5, 5] = 1
    theirs = gaussian_filter(delta, 5)
    picture = torch.zeros(1, 1, 31, 31, dtype=torch.float64)
    picture[0, 0, 15, 15] = 1
    ours = gaussian_blur(picture)[0, 0, 10:21, 10:21].numpy()
    assert ours.sum() == pytest.approx(theirs.sum()) == pytest.approx(1)
    assert ours[0, 0] / ours[5, 5] == pytest.approx(math.exp(-1))  # √50 px from the centre, sigma 5
    assert theirs[0, 0] / theirs[5, 5] > 0.7


def quantus_drops(predict, image, saliency, label, patch, regions):
    """`RegionPerturbation` of Quantus 0.6.0, MoRF, baseline 0, where patches divide the sides."""
    height, width = saliency.shape
    spread = saliency.expand(image.shape)  # one map for all channels
    corners = [(y, x) for y in range(0, height, patch) for x in range(0, width, patch)]
    sums = [spread[:, y : y + patch, x : x + patch].sum().item() for y, x in corners]
    current, drops = image.clone(), []
    with torch.no_grad():
        whole = predict(image[None]).softmax(1)[0, label].item()
        for index in np.argsort(-np.array(sums))[:regions]:
            y, x = corners[index]
            current[:, y : y + patch, x : x + patch] = 0
            drops.append(whole - predict(current[None]).softmax(1)[0, label].item())
    return drops


@pytest.mark.parametrize(("patch", "regions"), [(1, 10), (2, 12), (2, 5)])
def test_aopc_is_the_mean_of_the_drops_of_quantus_with_the_first(
    small_model, small_scene, patch, regions
):
    """Quantus leaves out k = 0, whose drop is 0 and which the paper counts: L + 1, not L."""
    images, classes, maps = small_scene
    expected = [
        sum(quantus_drops(small_model, image, saliency, label, patch, regions)) / (regions + 1)
        for image, saliency, label in zip(images, maps.sum(1), classes.tolist(), strict=True)
    ]
    scores = aopc(small_model, images, classes, maps, regions, patch)
    torch.testing.assert_close(scores, torch.tensor(expected).double(), **CLOSE)


def quantus_flipping(predict, image, saliency, label, step, baseline=0.0):
    """`PixelFlipping` of Quantus 0.6.0: the curve from the first step on, features by features."""
    features = saliency.expand(image.shape).flatten()
    order = np.argsort(-features.numpy())
    current, curve = image.flatten().clone(), []
    for first in range(0, len(order), step):
        current[torch.from_numpy(order[first : first + step].copy())] = baseline
        with torch.no_grad():
            curve.append(predict(current.view(1, *image.shape)).softmax(1)[0, label].item())
    return np.array(curve)


def test_deletion_is_pixel_flipping_of_quantus_with_its_start():
    """For one channel. `return_auc_per_sample` is the trapezoid sum without the picture itself."""
    generator = torch.Generator().manual_seed(0)
    weights = torch.randn(48, 3, generator=generator, dtype=torch.float64) / 4
    images = torch.randn(2, 1, 8, 6, generator=generator, dtype=torch.float64)
    maps = torch.randn(2, 1, 8, 6, generator=generator, dtype=torch.float64)

    def predict(pictures):
        return (pictures.flatten(1) @ weights).tanh() * 3

    classes = torch.tensor([2, 0])
    scores = deletion_auc(predict, images, classes, maps, 12)
    for image, saliency, label, ours in zip(
        images, maps[:, 0], classes.tolist(), scores, strict=True
    ):
        curve = quantus_flipping(predict, image, saliency, label, 4)
        start = predict(image[None]).softmax(1)[0, label].item()
        theirs = np.trapezoid(curve, dx=1)
        assert ours.item() == pytest.approx((theirs + (start + curve[0]) / 2) / 12, abs=1e-6)


def test_pixel_flipping_of_quantus_tears_the_channels_of_a_pixel_apart():
    """With three channels its features are single values; half a pixel is no longer a colour."""
    image, saliency = torch.ones(3, 2, 2), torch.tensor([[4.0, 3.0], [2.0, 1.0]])
    seen = []

    def predict(pictures):
        seen.append(pictures[0].flatten(1).clone())
        return torch.zeros(len(pictures), 2)

    quantus_flipping(predict, image, saliency, 0, 4)
    assert any(0 < missing < 3 for missing in (seen[0] == 0).sum(0).tolist())
    seen.clear()
    deletion_auc(predict, image[None], torch.tensor([0]), saliency[None, None], 4, max_batch=1)
    assert all((picture == 0).sum(0).unique().tolist() in ([0], [3], [0, 3]) for picture in seen)


def test_relevance_mass_of_quantus_agrees_on_positive_maps_and_leaves_the_range_on_signed_ones():
    generator = torch.Generator().manual_seed(0)
    regions = torch.rand(8, 9, 7, generator=generator) > 0.6

    def theirs(maps):
        return (maps[:, 0] * regions).sum((1, 2)) / maps[:, 0].sum((1, 2))

    positive = torch.rand(8, 1, 9, 7, generator=generator, dtype=torch.float64)
    torch.testing.assert_close(energy_pointing_game(positive, regions), theirs(positive), **CLOSE)
    signed = torch.randn(8, 1, 9, 7, generator=generator, dtype=torch.float64)
    assert ((theirs(signed) < 0) | (theirs(signed) > 1)).any()
    ours = energy_pointing_game(signed, regions)
    assert ((ours >= 0) & (ours <= 1)).all()
