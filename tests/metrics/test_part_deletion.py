"""Part deletion against a plain loop with SciPy, closed forms, and tags whose effect is known."""

import pytest
import torch
from scipy.stats import spearmanr
from torch import nn

from var_exp.data.critter_tags import HAT, CritterTags
from var_exp.data.critters import PATTERNS
from var_exp.metrics import EnergyShare, PartDeletion, Perturber, RegionEffect
from var_exp.metrics.base import Flag
from var_exp.metrics.functional import part_deletion

N, P, SIDE, CLASSES = 5, 6, 12, 4
GENERATOR = torch.Generator().manual_seed(0)
IMAGES = torch.randn(N, 3, SIDE, SIDE, generator=GENERATOR, dtype=torch.float64)
LABELS = torch.tensor([0, 1, 2, 3, 1])
RIVALS = torch.tensor([1, 2, 0, 0, 3])
MAPS = torch.randn(N, 3, SIDE, SIDE, generator=GENERATOR, dtype=torch.float64)
IDS = [f"sample {n}" for n in range(N)]
WEIGHTS = torch.randn(CLASSES, 3 * SIDE * SIDE, generator=GENERATOR, dtype=torch.float64)


def linear(images):
    return images.flatten(1) @ WEIGHTS.to(images).T


def bent(images):
    """No sum over pixels."""
    return torch.tanh(linear(images) / 10) + linear(images.abs()).roll(1, 1) / 20


@pytest.fixture
def without():
    """Each picture without each of six parts, which overlap and differ in size."""
    pictures = IMAGES[:, None].repeat(1, P, 1, 1, 1)
    for p in range(P):
        pictures[:, p, :, p : 2 * p + 2, 1 : 4 + p] = 0.3 * p
    return pictures


def by_hand(model, without, rivals=None):
    scores = []
    for n in range(N):
        told, fallen = [], []
        for p in range(P):
            fall = 0.0
            for sign, label in ((1, LABELS), (-1, rivals)):
                if label is not None:
                    before, after = model(IMAGES[n : n + 1]), model(without[n, p][None])
                    fall += sign * float(before[0, label[n]] - after[0, label[n]])
            fallen.append(fall)
            total = 0.0
            for y in range(SIDE):
                for x in range(SIDE):
                    if (IMAGES[n, :, y, x] != without[n, p, :, y, x]).any():
                        total += float(MAPS[n, :, y, x].sum())
            told.append(total)
        scores.append(spearmanr(told, fallen).statistic)
    return torch.tensor(scores)


@pytest.mark.parametrize("rivals", [None, RIVALS])
@pytest.mark.parametrize("model", [linear, bent])
def test_equals_a_plain_loop(model, without, rivals):
    found = part_deletion(model, IMAGES, LABELS, MAPS, without, rivals)
    torch.testing.assert_close(found, by_hand(model, without, rivals))
    metric = PartDeletion(model, contrast=rivals is not None)
    metric.update(
        images=IMAGES, classes=LABELS, competitors=RIVALS, without=without, maps=MAPS, ids=IDS
    )
    torch.testing.assert_close(metric.latest[0], found)


def test_what_a_linear_model_loses_is_the_map_that_ranks_parts_best():
    """Quarters that do not overlap and are set to 0: the fall is the sum of w x in each."""
    without = IMAGES[:, None].repeat(1, 4, 1, 1, 1)
    half = SIDE // 2
    for p in range(4):
        y, x = half * (p // 2), half * (p % 2)
        without[:, p, :, y : y + half, x : x + half] = 0
    contributions = (IMAGES.flatten(1) * WEIGHTS[LABELS]).view_as(IMAGES)
    lead = (IMAGES.flatten(1) * (WEIGHTS[LABELS] - WEIGHTS[RIVALS])).view_as(IMAGES)
    ones = torch.ones(N, dtype=torch.float64)
    given = (linear, IMAGES, LABELS)
    torch.testing.assert_close(part_deletion(*given, contributions, without), ones)
    torch.testing.assert_close(part_deletion(*given, -contributions, without), -ones)
    torch.testing.assert_close(part_deletion(*given, lead, without, RIVALS), ones)
    assert (part_deletion(*given, contributions, without, RIVALS) < 0.9).any()
    assert (part_deletion(*given, torch.ones_like(IMAGES), without) == 0).all()


def test_one_channel_and_another_size(without):
    coarse = MAPS.sum(1, keepdim=True)[..., ::2, ::2]
    fine = nn.functional.interpolate(coarse, size=(SIDE, SIDE), mode="bilinear")
    found = part_deletion(bent, IMAGES, LABELS, coarse, without)
    torch.testing.assert_close(found, part_deletion(bent, IMAGES, LABELS, fine, without))


def test_what_is_undefined_is_nan_and_flagged(without):
    metric = PartDeletion(lambda images: torch.zeros(len(images), CLASSES, dtype=torch.float64))
    known = {"images": IMAGES, "classes": LABELS, "competitors": RIVALS, "ids": IDS}
    metric.update(**known, without=without, maps=MAPS)
    assert metric.latest[0].isnan().all()  # nothing falls
    metric = PartDeletion(bent)
    hidden = IMAGES[:, None].repeat(1, P, 1, 1, 1)
    hidden[:, 0] += 1  # one part alone is seen
    metric.update(**known, without=hidden, maps=MAPS)
    assert metric.latest[0].isnan().all()
    assert (metric.latest[1] == Flag.EMPTY_REGION).all()
    with pytest.raises(ValueError, match=r"without must be \[N, P, C, H, W\] of the images"):
        metric.update(**known, without=without[:, :, :, 1:], maps=MAPS)


def test_a_part_that_is_not_seen_does_not_count(without):
    one_more = torch.cat([without, IMAGES[:, None]], 1)
    expected = part_deletion(bent, IMAGES, LABELS, MAPS, without)
    assert torch.equal(part_deletion(bent, IMAGES, LABELS, MAPS, one_more), expected)


def test_the_pictures_are_asked_about_once(without):
    seen = []

    def counting(images):
        seen.append(len(images))
        return bent(images)

    perturber = Perturber(counting)
    for contrast in (False, True):
        for maps in (MAPS, -MAPS):
            PartDeletion(perturber, contrast).update(
                images=IMAGES, classes=LABELS, competitors=RIVALS, without=without, maps=maps
            )
    assert sum(seen) == N * (P + 1)
    PartDeletion(perturber).update(
        images=IMAGES, classes=LABELS, competitors=RIVALS, without=without + 1, maps=MAPS
    )
    assert sum(seen) == N * (P + 1) + N * P


@pytest.mark.parametrize("contrast", [False, True])
def test_the_effect_of_the_region_is_that_of_the_first_part(without, contrast):
    metric = RegionEffect(bent, contrast)
    metric.update(images=IMAGES, classes=LABELS, competitors=RIVALS, without=without, ids=IDS)
    fall = bent(IMAGES) - bent(without[:, 0])
    expected = fall[range(N), LABELS] - (fall[range(N), RIVALS] if contrast else 0)
    torch.testing.assert_close(metric.latest[0], expected)


class Hans(nn.Module):
    """Knows a hat by the magenta of its tag, or not at all; and every pattern by the red."""

    def __init__(self, reliance):
        super().__init__()
        self.reliance = reliance

    def forward(self, images):
        colour = torch.tensor([0.95, 0.1, 0.85])[:, None, None]
        magenta = ((images - colour).abs().amax(1) < 0.2).float().mean((1, 2))
        logits = images[:, 0].mean((1, 2))[:, None].repeat(1, 16)
        logits[:, HAT * len(PATTERNS) :] += self.reliance * magenta[:, None]
        return logits


@pytest.mark.parametrize(("rival", "sees"), [("other", True), ("sharing", False)])
def test_maps_that_show_the_cue_and_maps_that_hide_it_are_told_apart(rival, sees):
    """By construction: the tag moves the hat's logit, and the lead where the rival has no hat."""
    data = CritterTags(60, rival=rival)
    samples = [data[i] for i in range(60)]
    given = {
        "images": torch.stack([s.image for s in samples]),
        "classes": torch.cat([s.classes for s in samples]),
        "competitors": torch.cat([s.competitors for s in samples]),
        "without": torch.stack([s.without for s in samples]),
    }
    tags, scopes = (torch.cat([getattr(s, n) for s in samples]) for n in ("regions", "scope"))
    shown, hidden = tags[:, None].float(), (scopes & ~tags)[:, None].float()

    def effect(reliance, contrast):
        metric = RegionEffect(Hans(reliance), contrast)
        metric.update(**given)
        return metric.latest[0]

    assert (effect(100, False) > 0.3).all()
    assert effect(0, False).abs().max() < 0.05
    if sees:
        assert (effect(100, True) > 0.3).all()
    else:
        assert (effect(100, True) == 0).all()
    shares = []
    for maps in (shown, hidden, torch.ones_like(shown)):
        metric = EnergyShare()
        metric.update(maps=maps, regions=tags, scope=scopes)
        shares.append(metric.latest[0])
    assert (shares[0] == 1).all()  # the oracle
    assert (shares[1] == 0).all()
    torch.testing.assert_close(shares[2], tags.sum((1, 2)) / scopes.sum((1, 2)).double())
    best = PartDeletion(Hans(100))
    best.update(**given, maps=shown)
    worst = PartDeletion(Hans(100))
    worst.update(**given, maps=hidden)
    assert best.compute() > 0.3 > -0.3 > worst.compute()


def test_two_parts_can_be_ranked_and_one_cannot(without):
    for parts, flag in ((2, 0), (1, Flag.EMPTY_REGION)):
        metric = PartDeletion(bent)
        given = {"images": IMAGES, "classes": LABELS, "competitors": RIVALS, "maps": MAPS}
        metric.update(without=without[:, :parts], ids=IDS, **given)
        scores, flags = metric.latest
        assert flags.tolist() == [flag] * N
        expected = torch.full_like(scores, 1.0 if parts == 2 else torch.nan)
        torch.testing.assert_close(scores.abs(), expected, equal_nan=True)
