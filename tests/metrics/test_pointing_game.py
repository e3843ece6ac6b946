import math

import pytest
import torch

from var_exp.metrics import PointingGame
from var_exp.metrics.base import Flag
from var_exp.metrics.pointing_game import pointing_game


def loop(maps, regions, tolerance):
    """Every strongest pixel against every pixel of the region."""
    scores = []
    for saliency, region in zip(maps.double().sum(1), regions, strict=True):
        peaks = (saliency == saliency.max()).nonzero().tolist()
        inside = region.nonzero().tolist()
        hits = [
            any((y - v) ** 2 + (x - u) ** 2 < tolerance**2 for v, u in inside) for y, x in peaks
        ]
        scores.append(sum(hits) / len(hits))
    return torch.tensor(scores, dtype=torch.float64)


@pytest.mark.parametrize("tolerance", [0.5, 1, 2.5, 5, 15, 100])
@pytest.mark.parametrize("levels", [2, 1000])
def test_equals_a_loop_with_and_without_ties(tolerance, levels):
    generator = torch.Generator().manual_seed(int(10 * tolerance) + levels)
    maps = torch.randint(0, levels, (12, 1, 17, 23), generator=generator).double()
    regions = torch.rand(12, 17, 23, generator=generator) > 0.99
    regions[:, 8, 2] = True
    scores = pointing_game(maps, regions, tolerance)
    torch.testing.assert_close(scores, loop(maps, regions, tolerance), rtol=1e-12, atol=0)


def point(y, x, side=40):
    result = torch.zeros(1, side, side)
    result[0, y, x] = 1
    return result


@pytest.mark.parametrize(
    ("peak", "hit"), [((20, 34), 1), ((20, 35), 0), ((29, 31), 1), ((29, 32), 0), ((20, 20), 1)]
)
def test_tolerance_is_strict(peak, hit):
    """15 px: (0, 14) and (9, 11) are nearer; (0, 15) and (9, 12) lie exactly on the circle."""
    assert pointing_game(point(*peak)[None], point(20, 20).bool()).item() == hit


def test_constant_map_scores_the_share_of_accepted_pixels():
    regions = point(20, 20).bool()
    accepted = sum((y - 20) ** 2 + (x - 20) ** 2 < 225 for y in range(40) for x in range(40))
    for value in (0.0, 0.3, -2.0):
        maps = torch.full((1, 3, 40, 40), value)
        assert pointing_game(maps, regions).item() == pytest.approx(accepted / 1600)


def test_resizing_a_constant_map_keeps_its_ties():
    maps = torch.full((1, 1, 7, 7), 0.1)
    regions = point(0, 0).bool()
    expected = pointing_game(torch.ones(1, 1, 40, 40), regions)
    torch.testing.assert_close(pointing_game(maps, regions), expected)


def test_edge_cases_are_flagged():
    maps = torch.stack([point(0, 0), torch.zeros(1, 40, 40), point(0, 0), point(0, 0)])
    maps[3, 0, 5, 5] = math.nan
    regions = point(0, 0).bool().repeat(4, 1, 1)
    regions[2] = False
    metric = PointingGame()
    metric.update(maps=maps, regions=regions)
    scores, flags = metric.latest
    assert flags.tolist() == [
        0,
        Flag.EMPTY_MAP | Flag.TIED,
        Flag.EMPTY_REGION,
        Flag.NON_FINITE,
    ]
    assert scores.isnan().tolist() == [False, False, True, True]


class TorchRay:
    """`torchray.benchmark.pointing_game.PointingGame`, in loops: hits and misses per class."""

    def __init__(self, num_classes, tolerance=15):
        self.tolerance = tolerance
        self.hits, self.misses = [0] * num_classes, [0] * num_classes

    def add(self, saliency, region, label):
        peak = saliency.flatten().argmax().item()  # the first of equal ones
        y, x = divmod(peak, saliency.shape[1])
        inside = region.nonzero().tolist()
        hit = any((v - y) ** 2 + (u - x) ** 2 < self.tolerance**2 for v, u in inside)
        (self.hits if hit else self.misses)[label] += 1

    def accuracy(self):
        pairs = zip(self.hits, self.misses, strict=True)
        return sum(hits / max(1, hits + misses) for hits, misses in pairs) / len(self.hits)


@pytest.fixture
def game():
    """Thirty maps of three classes, 20, 8 and 2 times, by which the regions are harder to hit."""
    generator = torch.Generator().manual_seed(0)
    classes = torch.tensor([0] * 20 + [1] * 8 + [2] * 2)
    maps = torch.rand(30, 1, 40, 40, generator=generator)
    regions = torch.zeros(30, 40, 40, dtype=torch.bool)
    for region, label in zip(regions, classes.tolist(), strict=True):
        region[: 18 - 8 * label, : 18 - 8 * label] = True
    return {"maps": maps, "regions": regions, "classes": classes}


@pytest.mark.parametrize("tolerance", [5, 15])
def test_the_mean_over_classes_is_that_of_torchray(game, tolerance):
    theirs = TorchRay(3, tolerance)
    for saliency, region, label in zip(
        game["maps"][:, 0], game["regions"], game["classes"].tolist(), strict=True
    ):
        theirs.add(saliency, region, label)
    metrics = {name: PointingGame(tolerance, name) for name in ("samples", "classes")}
    for metric in metrics.values():
        metric.update(**game)
    assert metrics["classes"].compute().item() == pytest.approx(theirs.accuracy(), abs=1e-12)
    assert metrics["samples"].compute().item() == pytest.approx(sum(theirs.hits) / 30, abs=1e-12)
    assert metrics["samples"].compute() != metrics["classes"].compute()
    rates = {k: h / (h + m) for k, h, m in zip(range(3), theirs.hits, theirs.misses, strict=True)}
    assert metrics["samples"].by_class() == pytest.approx(rates)


def test_a_class_never_seen_is_left_out_of_the_mean(game):
    """TorchRay counts it as missed, so on part of a data set its figure is lower by seen / all."""
    theirs = TorchRay(20)
    metric = PointingGame(average="classes")
    metric.update(**game)
    for saliency, region, label in zip(
        game["maps"][:, 0], game["regions"], game["classes"].tolist(), strict=True
    ):
        theirs.add(saliency, region, label)
    assert theirs.accuracy() == pytest.approx(metric.compute().item() * 3 / 20)
    game["regions"][-2:] = False  # class 2 is asked about, but nobody knows where it is
    metric.reset()
    metric.update(**game)
    assert set(metric.by_class()) == {0, 1}
    assert metric.compute().item() == pytest.approx(sum(metric.by_class().values()) / 2)


def test_where_torchray_and_quantus_are_wrong():
    """A constant map points nowhere: TorchRay takes its first pixel, Quantus calls it a hit."""
    flat = torch.zeros(1, 1, 40, 40)
    near, far = point(0, 0).bool(), point(39, 39).bool()
    for region, hit in ((near, 1), (far, 0)):
        theirs = TorchRay(1)
        theirs.add(flat[0, 0], region[0], 0)
        assert theirs.accuracy() == hit
        quantus = bool((region & (flat[:, 0] == flat.max())).any())
        assert quantus
    assert pointing_game(flat, near).item() == pointing_game(flat, far).item()
    assert 0 < pointing_game(flat, near).item() < 0.2


def test_classes_of_one_picture_and_maps_without_class():
    metric = PointingGame(average="classes")
    metric.update(maps=torch.zeros(2, 1, 4, 4), regions=torch.ones(2, 4, 4).bool())
    assert metric.by_class() == {-1: 1.0}
    assert metric.compute() == 1


def test_an_unknown_average():
    with pytest.raises(ValueError, match="average must be samples or classes, got 'class'"):
        PointingGame(average="class")


@pytest.mark.parametrize("tolerance", [0, -1, math.nan])
def test_mistakes(tolerance):
    with pytest.raises(ValueError, match="tolerance must be a positive number of pixels"):
        PointingGame(tolerance)
