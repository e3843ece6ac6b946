"""Finer-CAM against GradCAM of its score written out, its two published versions, and its edges."""

from dataclasses import replace

import pytest
import torch
from torch import nn

from var_exp.methods import get_method

METHOD = get_method("finer_cam")
PAPER = get_method("finer_cam", weighting="uniform", alpha=0.6)


def nearest(logits, chosen, count):
    """Classes of nearest logit, by sorting."""
    others = [i for i in range(len(logits)) if i != chosen]
    values = logits.tolist()
    return sorted(others, key=lambda i: abs(values[i] - values[chosen]))[:count]


def of_the_code(logits, chosen, alpha=1.0, count=3):
    """Σ p_i (y_t - α y_i) / Σ p_i, p differentiated."""
    p = logits.exp() / logits.exp().sum()
    rivals = nearest(logits, chosen, count)
    margin = sum(p[i] * (logits[chosen] - alpha * logits[i]) for i in rivals)
    return margin / sum(p[i] for i in rivals)


def of_the_paper(logits, chosen):
    """Mean of y_t - 0.6 y_i."""
    return sum(logits[chosen] - 0.6 * logits[i] for i in nearest(logits, chosen, 3)) / 3


def assert_gradcam_of(method, score, network, images, classes):
    cams = method.coarse(network.model, images, classes)
    for b, row in enumerate(classes.tolist()):
        for k, chosen in enumerate(row):
            features, gradient = network.seen(images[b], lambda y, t=chosen: score(y, t))
            expected = sum(a * g.mean() for a, g in zip(features, gradient, strict=True))
            torch.testing.assert_close(cams[b, k], expected)
    maps = method.attribute(network.model, images, classes)
    expected = nn.functional.interpolate(cams, (32, 32), mode="bilinear").float()
    torch.testing.assert_close(maps[:, :, 0], expected)


def test_default_equals_the_published_code(network, images, classes):
    assert_gradcam_of(METHOD, of_the_code, network, images, classes)


def test_the_papers_version(network, images, classes):
    assert_gradcam_of(PAPER, of_the_paper, network, images, classes)


def test_other_numbers_of_references_and_strengths(network, images, classes):
    few = replace(METHOD, references=1, alpha=0.5)
    assert_gradcam_of(few, lambda y, t: of_the_code(y, t, 0.5, 1), network, images, classes)
    every = replace(METHOD, references=100)  # the model has 9 others
    assert_gradcam_of(every, lambda y, t: of_the_code(y, t, 1.0, 9), network, images, classes)


def test_without_comparison_it_is_gradcam(network, images, classes):
    for method in (METHOD, PAPER):
        torch.testing.assert_close(
            replace(method, alpha=0.0).coarse(network.model, images, classes),
            get_method("gradcam").coarse(network.model, images, classes),
        )


def test_unlikely_classes_are_not_faded(network, images, classes):
    """Next to a class that takes all the probability, Σ p_i of the others is below 1e-40."""
    head = [module for module in network.model.modules() if isinstance(module, nn.Linear)][-1]
    with torch.no_grad():
        head.bias[0] += 100.0
    assert_gradcam_of(METHOD, of_the_code, network, images, classes.where(classes != 0, 2))


def test_one_logit_is_two_classes(images):
    model = nn.Sequential(nn.Conv2d(3, 2, 8), nn.Flatten(), nn.Linear(1250, 1)).double()
    METHOD.check(model, images[:1])
    maps = METHOD.attribute(model, images, torch.tensor([[0, 1]] * len(images)))
    torch.testing.assert_close(maps[:, 0], -maps[:, 1])  # z/2 against -z/2


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"alpha": -0.1}, "alpha must be 0 or more, got -0.1; set alpha=1"),
        ({"alpha": float("nan")}, "alpha must be 0 or more, got nan"),
        ({"references": 0}, "references must be at least 1, got 0"),
        ({"weighting": "mean"}, "weighting must be one of probability, uniform, got 'mean'"),
    ],
)
def test_options_out_of_range(options, message):
    with pytest.raises(ValueError, match=message):
        replace(METHOD, **options)
