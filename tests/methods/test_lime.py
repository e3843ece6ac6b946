"""LIME against a plain ridge regression, and Captum's LIME on the same masks."""

import numpy as np
import pytest
import torch
from captum.attr import LimeBase
from captum.attr._core.lime import get_exp_kernel_similarity_function
from torch import nn

from var_exp.methods import get_method
from var_exp.types import ConfigError

CLASSES = torch.tensor([[0, 3], [2, 4]])


class Seen(nn.Module):
    """Classifier of 3 x 4 x 4 pixels that keeps what it is given."""

    def __init__(self):
        super().__init__()
        torch.manual_seed(0)
        self.net = nn.Sequential(nn.Conv2d(3, 4, 3), nn.ReLU(), nn.Flatten(), nn.Linear(16, 5))
        self.net.double()
        self.inputs = []

    def forward(self, images):
        self.inputs.append(images)
        return self.net(images)


def ridge_regression(kept, scores, weights, ridge):
    """Coefficients without the intercept; rows of √ridge penalise all but the intercept."""
    root = np.sqrt(weights)[:, None]
    features = kept.shape[1]
    inputs = np.block(
        [[root * kept, root], [np.sqrt(ridge) * np.eye(features), np.zeros((features, 1))]]
    )
    targets = np.concatenate([root * scores, np.zeros((features, scores.shape[1]))])
    return np.linalg.lstsq(inputs, targets)[0][:-1]


@pytest.mark.parametrize(("width", "ridge", "samples"), [(0.25, 1.0, 60), (0.6, 0.01, 7)])
def test_equals_a_plain_ridge_regression(width, ridge, samples):
    torch.manual_seed(1)
    images = torch.randn(2, 3, 4, 4).double()
    method = get_method("lime", grid=4, samples=samples, kernel_width=width, ridge=ridge)
    for image, classes in zip(images, CLASSES, strict=True):
        model = Seen()
        maps = method.attribute(model, image[None], classes[None])
        inputs = torch.cat(model.inputs)
        kept = (inputs != 0).all(1).flatten(1).double().numpy()
        assert torch.equal(inputs[0], image)
        with torch.no_grad():
            scores = model.net(inputs).softmax(1)[:, classes].numpy()
        weights = []
        for mask in kept:
            length = np.sqrt(mask @ mask) * np.sqrt(16)
            distance = 1 - (mask @ np.ones(16) / length if length else 0)
            weights.append(np.sqrt(np.exp(-(distance**2) / width**2)))
        expected = ridge_regression(kept, scores, np.array(weights), ridge).T
        np.testing.assert_allclose(maps[0, :, 0].flatten(1), expected, rtol=1e-5, atol=1e-8)


def test_equals_captum_on_the_same_masks():
    class Ridge:
        def fit(self, loader, **_):
            ((kept, scores, weights),) = loader
            arrays = (part.double().numpy() for part in (kept, scores[:, None], weights))
            self.coefficients = ridge_regression(*arrays, 1.0)

        def representation(self):
            return torch.from_numpy(self.coefficients.T)

    model = Seen()
    image = torch.ones(1, 3, 4, 4).double()  # Captum's kernel compares images: here, masks
    maps = get_method("lime", grid=4, samples=50).attribute(model, image, CLASSES[:1])
    kept = torch.cat(model.inputs)[:, 0].flatten(1)

    def masks(_inputs, **_):
        yield from kept[:, None]

    captum = LimeBase(
        lambda images: model.net(images).softmax(1),
        Ridge(),
        get_exp_kernel_similarity_function("cosine", kernel_width=0.25),
        masks,
        perturb_interpretable_space=True,
        from_interp_rep_transform=lambda mask, inputs, **_: inputs * mask.view(1, 1, 4, 4),
        to_interp_rep_transform=None,
    )
    for k, chosen in enumerate(CLASSES[0].tolist()):
        expected = captum.attribute(image, target=chosen, n_samples=50).view(4, 4)
        torch.testing.assert_close(maps[0, k, 0], expected.float(), rtol=1e-4, atol=1e-6)


def test_maps_of_all_classes_cancel_as_probabilities_do():
    images, classes = torch.randn(2, 3, 4, 4).double(), torch.arange(5).expand(2, 5)
    maps = get_method("lime", grid=2, samples=30).attribute(Seen(), images, classes)
    assert maps.sum(1).abs().max() < 1e-6 * maps.abs().max()


def test_masks_keep_all_once_and_then_each_cell_half_of_the_time():
    model = Seen()
    n = 10_000
    images = torch.ones(1, 3, 4, 4).double()
    get_method("lime", grid=4, samples=n, max_batch=n).attribute(model, images, CLASSES[:1])
    kept = torch.cat(model.inputs)[:, 0].flatten(1)
    assert len(kept) == n
    assert kept[0].all()
    assert (kept[1:].mean(0) - 0.5).abs().max() < 5 * 0.5 / n**0.5
    assert (kept[1:].T.cov() * 4 - torch.eye(16)).abs().max() < 5 / n**0.5 * 2  # independent


@pytest.mark.parametrize(("option", "value"), [("kernel_width", 0.0), ("ridge", -1.0)])
def test_options_out_of_range(option, value):
    with pytest.raises(ConfigError, match=f"{option} must be above 0, got {value}"):
        get_method("lime", **{option: value})
