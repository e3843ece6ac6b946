"""Against Captum's infidelity on the same squares, a loop, and what is known in closed form."""

import pytest
import torch
from captum.metrics import infidelity as captum_infidelity

from var_exp.metrics import Infidelity, Perturber
from var_exp.metrics.base import Flag
from var_exp.metrics.infidelity import infidelity
from var_exp.seeds import sample_generator

SAMPLES = 20


def squares(name, size, seed=0):
    """The squares of one sample as masks [samples, 8, 6]."""
    draws = torch.rand(3, SAMPLES, generator=sample_generator(seed, name))
    masks = torch.zeros(SAMPLES, 8, 6, dtype=torch.bool)
    for mask, side, top, left in zip(masks, *draws.tolist(), strict=True):
        side = 1 + int(side * max(1, int(6 * size)))
        top, left = int(top * (8 - side + 1)), int(left * (6 - side + 1))
        mask[top : top + side, left : left + side] = True
    return masks


def by_captum(model, image, label, attribution, masks, reading):
    """Captum with the best factor, on given squares; it wants one channel per weight."""

    def perturb(repeated):
        missing = masks[:, None].expand_as(repeated)
        changed = repeated.masked_fill(missing, 0)
        change = missing.double() if reading == "contributions" else repeated - changed
        return change, changed

    value = captum_infidelity(
        model,
        perturb,
        image[None],
        attribution[None],
        target=int(label),
        n_perturb_samples=SAMPLES,
        normalize=True,
    )
    return value.item()


@pytest.mark.parametrize("reading", ["contributions", "gradients"])
@pytest.mark.parametrize("size", [0.2, 0.5, 1.0])
def test_equals_captum_on_the_same_squares(small_model, small_scene, reading, size):
    images, classes, maps = small_scene
    ids = ["a", "b", "c"]
    got = infidelity(small_model, *small_scene, SAMPLES, size, reading, ids=ids)
    for i, name in enumerate(ids):
        masks = squares(name, size)
        expected = by_captum(small_model, images[i], classes[i], maps[i], masks, reading)
        assert got[i].item() == pytest.approx(expected, rel=1e-9)


def test_one_channel_stands_for_all(small_model, small_scene):
    images, classes, maps = small_scene
    single = maps[:, :1]
    for reading in ("contributions", "gradients"):
        one = infidelity(small_model, images, classes, single, SAMPLES, 0.5, reading)
        every = single.expand(-1, 3, -1, -1)
        three = infidelity(small_model, images, classes, every, SAMPLES, 0.5, reading)
        torch.testing.assert_close(one, three)


def test_the_truth_about_a_linear_score_has_no_error():
    weights = torch.randn(3, 8, 6, generator=torch.Generator().manual_seed(0)).double()

    def linear(images):
        value = (images * weights).sum((1, 2, 3))
        return torch.stack([value, -3 * value], 1)

    images = torch.randn(1, 3, 8, 6, generator=torch.Generator().manual_seed(1)).double()
    classes = torch.tensor([1])
    for reading, truth in (("gradients", weights), ("contributions", weights * images[0])):
        for factor in (1, -1, 1e-6):  # the unit of a map does not matter, nor its sign
            error = infidelity(linear, images, classes, factor * truth[None], reading=reading)
            assert error.item() == pytest.approx(0, abs=1e-18)
        wrong = infidelity(linear, images, classes, truth[None].flip(2), reading=reading)
        assert wrong.item() > 0.1
    mean = infidelity(linear, images, classes, weights[None], reading="gradients", baseline="mean")
    assert mean.item() == pytest.approx(0, abs=1e-18)


def test_an_empty_map_has_the_error_of_saying_nothing(small_model, small_scene):
    images, classes, maps = small_scene
    maps[0], maps[1, 0, 0, 0] = 0, torch.nan
    metric = Infidelity(small_model, samples=SAMPLES)
    metric.update(images=images, classes=classes, maps=maps, ids=["a", "b", "c"])
    scores, flags = metric.latest
    assert flags.tolist() == [Flag.EMPTY_MAP, Flag.NON_FINITE, 0]
    assert scores.isnan().tolist() == [False, True, False]
    missing = squares("a", 0.5)[:, None]
    with torch.no_grad():
        left = small_model(images[:1].masked_fill(missing, 0))[:, classes[0]]
        whole = small_model(images[:1])[:, classes[0]]
    assert scores[0].item() == pytest.approx((whole - left).square().mean().item())


def test_squares_belong_to_the_sample(small_model, small_scene):
    images, classes, maps = small_scene
    together = infidelity(small_model, images, classes, maps, SAMPLES, ids=["a", "b", "a"])
    alone = infidelity(small_model, images[1:2], classes[1:2], maps[1:2], SAMPLES, ids=["b"])
    torch.testing.assert_close(together[1:2], alone)
    shared = Perturber(small_model)
    for seed in (0, 1):  # a seed is part of what is remembered
        got = infidelity(shared, images, classes, maps, SAMPLES, ids=["a", "b", "a"], seed=seed)
        fresh = infidelity(small_model, images, classes, maps, SAMPLES, ids=list("aba"), seed=seed)
        torch.testing.assert_close(got, fresh)
    assert not torch.equal(got, together)


def test_baselines_and_numbers_of_squares_are_told_apart(small_model, small_scene):
    shared = Perturber(small_model)
    for options in ({}, {"baseline": "mean"}, {"samples": 5}, {"size": 0.9}):
        options = {"samples": SAMPLES, **options}
        got = infidelity(shared, *small_scene, **options)
        torch.testing.assert_close(got, infidelity(small_model, *small_scene, **options))


def test_mistakes(small_model, small_scene):
    with pytest.raises(ValueError, match=r"size must be a share .* in \(0, 1\], got 0"):
        infidelity(small_model, *small_scene, size=0)
    with pytest.raises(ValueError, match="reading must be contributions or gradients, got 'x'"):
        Infidelity(small_model, reading="x")
    with pytest.raises(ValueError, match="samples must be at least 1"):
        Infidelity(small_model, samples=0)
    with pytest.raises(ValueError, match="needs a baseline that is one picture"):
        Infidelity(small_model, reading="gradients", baseline="noisy_linear")
