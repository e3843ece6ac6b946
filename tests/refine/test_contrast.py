import math

import pytest
import torch

from var_exp.refine.contrast import Contrast


def loop(maps, logits, against):
    """One target and one competitor at a time, in Python floats."""
    result = maps.double().clone()
    for b in range(maps.shape[0]):
        for t in range(maps.shape[1]):
            competitors = [s for s in range(maps.shape[1]) if s != t]
            scores = [logits[b, s].item() for s in competitors]
            if against == "weighted":
                powers = [math.exp(score) for score in scores]
            elif against == "mean":
                powers = [1.0] * len(competitors)
            else:
                powers = [float(score == max(scores)) for score in scores]
            for s, power in zip(competitors, powers, strict=True):
                result[b, t] -= power / math.fsum(powers) * maps[b, s].double()
    return result


@pytest.mark.parametrize("against", ["weighted", "mean", "max"])
@pytest.mark.parametrize("classes", [2, 5])
def test_equals_a_loop(against, classes):
    generator = torch.Generator().manual_seed(1)
    maps = torch.randn(3, classes, 2, 4, 4, generator=generator, dtype=torch.float64)
    logits = torch.randn(3, classes, generator=generator, dtype=torch.float64) * 3
    result = Contrast(against)(maps, logits)
    torch.testing.assert_close(result, loop(maps, logits, against), rtol=1e-12, atol=1e-12)


def test_two_classes_are_mirror_images():
    maps = torch.randn(1, 2, 1, 3, 3)
    for against in ("weighted", "mean", "max"):
        first, second = Contrast(against)(maps, torch.tensor([[3.0, -1.0]]))[0]
        torch.testing.assert_close(first, -second)


def test_rivals_that_tie_share_the_weight():
    maps = torch.tensor([0.0, 2.0, 4.0]).view(1, 3, 1, 1, 1)
    result = Contrast("max")(maps, torch.tensor([[0.0, 1.0, 1.0]]))
    assert result.flatten().tolist() == [-3.0, -2.0, 2.0]


def test_large_logits_do_not_overflow():
    maps = torch.randn(1, 3, 1, 2, 2)
    result = Contrast("weighted")(maps, torch.tensor([[1e4, 5e3, -1e4]]))
    torch.testing.assert_close(result[:, 0], maps[:, 0] - maps[:, 1])


def test_input_is_left_alone_and_autocast_changes_nothing():
    maps, logits = torch.randn(2, 4, 3, 4, 4), torch.randn(2, 4)
    before = maps.clone()
    expected = Contrast()(maps, logits)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        assert torch.equal(Contrast()(maps, logits), expected)
    assert torch.equal(maps, before)


def test_half_precision_is_rounded_once():
    """Sixteen competitors, each too small to move 1 by itself: together they move it by 4 steps."""
    maps = torch.tensor([1.0] + 16 * [2.0**-9]).half().view(1, 17, 1, 1, 1)
    refined = Contrast("mean")(maps)
    assert refined.dtype == torch.float16
    assert refined[0, 0].item() == 1 - 2.0**-9


@pytest.mark.parametrize("against", ["weighted", "mean", "max"])
def test_works_where_the_maps_are(against):
    maps, logits = torch.zeros(2, 3, 1, 4, 4, device="meta"), torch.zeros(2, 3, device="meta")
    assert Contrast(against)(maps, logits).is_meta


def test_mistakes():
    maps = torch.zeros(1, 2, 1, 2, 2)
    for against in ("weighted", "max"):
        with pytest.raises(ValueError, match="needs the logits"):
            Contrast(against)(maps)
    Contrast("mean")(maps)
    with pytest.raises(ValueError, match="against must be one of weighted, mean, max, got 'sum'"):
        Contrast("sum")
