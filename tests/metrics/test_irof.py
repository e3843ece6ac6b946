"""IROF against a plain loop over superpixels in float64."""

import sys

import numpy as np
import pytest
import torch
from skimage.segmentation import slic

from var_exp.data.critters import Critters
from var_exp.metrics import IROF
from var_exp.metrics.functional import irof
from var_exp.metrics.irof import superpixels
from var_exp.models import load_model
from var_exp.types import ConfigError


@pytest.fixture(scope="module")
def scene():
    samples = [Critters(4, seed=3)[i] for i in range(4)]
    images = (torch.stack([s.image for s in samples]).double() - 0.5) / 0.25
    maps = torch.randn(4, 3, 64, 64, generator=torch.Generator().manual_seed(0)).double()
    return (
        load_model("critters_cnn").double(),
        images,
        torch.cat([s.classes for s in samples]),
        maps,
    )


def by_hand(model, images, classes, maps, segments):
    scores = []
    for image, label, map_ in zip(images, classes.tolist(), maps.sum(1), strict=True):
        scaled = (image - image.min()) / (image.max() - image.min())
        labels = torch.from_numpy(slic(scaled.permute(1, 2, 0).numpy(), n_segments=segments))
        names = labels.unique().tolist()
        order = sorted(names, key=lambda name: -map_[labels == name].mean().item())
        picture, left = image.clone(), [1.0]
        whole = model(image[None]).softmax(1)[0, label].item()
        for name in order:
            for c in range(3):
                picture[c][labels == name] = image[c].mean()
            left.append(model(picture[None]).softmax(1)[0, label].item() / whole)
        scores.append(1 - np.trapezoid(left) / len(order))
    return torch.tensor(scores, dtype=torch.float64)


@pytest.mark.parametrize("segments", [12, 40])
def test_equals_a_plain_loop(scene, segments):
    expected = by_hand(*scene, segments)
    torch.testing.assert_close(irof(*scene, segments), expected)
    model, images, classes, maps = scene
    metric = IROF(model, segments)
    metric.update(images=images, classes=classes, maps=maps)
    torch.testing.assert_close(metric.latest[0], expected)


def test_segments_cover_the_picture_and_are_numbered_without_a_gap(scene):
    for image in scene[1]:
        labels = superpixels(image, 30)
        assert labels.unique().tolist() == list(range(int(labels.max()) + 1))
        assert 10 < len(labels.unique()) < 60


def test_maps_that_say_nothing_are_ranked_by_chance_of_the_sample(scene):
    model, images, classes, _ = scene
    constant = torch.full((4, 1, 64, 64), 0.1)
    scores = [irof(model, images, classes, constant, 20, ids=ids) for ids in ("abcd", "abce")]
    assert torch.equal(scores[0][:3], scores[1][:3])
    assert scores[0][3] != scores[1][3]
    metric = IROF(model, 20)
    metric.update(images=images, classes=classes, maps=constant)
    assert metric.ledger()["tied"] == 4


def test_without_scikit_image_one_sentence_says_what_to_do(scene, monkeypatch):
    monkeypatch.setitem(sys.modules, "skimage.segmentation", None)
    with pytest.raises(ConfigError, match="metric irof needs scikit-image; pip install 'var_exp"):
        IROF(scene[0])


def test_compactness_is_that_of_slic(scene):
    for compactness in (1.0, 100.0):
        image = scene[1][0]
        scaled = (image - image.min()) / (image.max() - image.min())
        expected = slic(
            scaled.permute(1, 2, 0).numpy(), n_segments=30, compactness=compactness, start_label=0
        )
        np.testing.assert_array_equal(superpixels(image, 30, compactness), expected)
