import itertools
import math

import pytest
import torch

from var_exp.refine.var import VAR, class_distribution, entropy_map, winner_map
from var_exp.registry import from_alias

MAGNITUDES = {"abs": abs, "signed": float, "positive": lambda a: max(a, 0.0)}


def loop(maps, temperature, tau, magnitude, scale, channels):
    """The formula in Python floats, location by location."""
    maps = maps.double()
    if channels == "sum":
        maps = maps.sum(2, keepdim=True)
    refined = torch.zeros_like(maps)
    batch, count, *rest = maps.shape
    for b in range(batch):
        values = [abs(v) for v in maps[b].flatten().tolist()]
        unit = 1.0
        if scale == "max":
            unit = max(values) or 1.0
        elif scale == "rms":
            unit = math.sqrt(math.fsum(v * v for v in values) / len(values)) or 1.0
        units = [unit] * count
        if scale == "class_rms":
            for k in range(count):
                own = maps[b, k].flatten().tolist()
                units[k] = math.sqrt(math.fsum(v * v for v in own) / len(own)) or 1.0
        for place in itertools.product(*map(range, rest)):
            row = [maps[(b, k, *place)].item() for k in range(count)]
            rivals = [MAGNITUDES[magnitude](a / unit) for a, unit in zip(row, units, strict=True)]
            powers = [math.exp(temperature * rival) for rival in rivals]
            for k, value in enumerate(row):
                share = powers[k] / math.fsum(powers)
                refined[(b, k, *place)] = value * share * (share - 1 / count > tau)
    return refined


def random_maps(*shape, seed=0, dtype=torch.float64):
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed), dtype=dtype) * 0.3


@pytest.mark.parametrize("magnitude", ["abs", "signed", "positive"])
@pytest.mark.parametrize("scale", ["none", "max", "rms", "class_rms"])
@pytest.mark.parametrize("channels", ["separate", "sum"])
def test_equals_the_formula(magnitude, scale, channels):
    maps = random_maps(2, 3, 2, 3, 4)
    options = {"magnitude": magnitude, "scale": scale, "channels": channels}
    refined = VAR(temperature=4.0, tau=0.05, **options)(maps)
    torch.testing.assert_close(refined, loop(maps, 4.0, 0.05, **options), rtol=1e-12, atol=1e-15)
    assert (refined == 0).any()
    assert (refined != 0).any()


def test_default_is_the_published_code_to_the_last_bit():
    maps = random_maps(2, 4, 3, 16, 16, dtype=torch.float32)
    share = torch.softmax(10.0 * maps.abs(), dim=1)
    assert torch.equal(VAR()(maps), maps * share * ((share - 1 / 4) > 0.01))


def test_target_and_input_are_left_alone():
    maps = random_maps(1, 4, 1, 5, 5)
    before = maps.clone()
    for magnitude, scale in itertools.product(("abs", "signed", "positive"), ("none", "max")):
        VAR(magnitude=magnitude, scale=scale)(maps)
        assert torch.equal(maps, before)


@pytest.mark.parametrize(("classes", "tau"), [(2, 0.01), (4, 0.01), (8, 0.01), (4, 0.1)])
def test_raw_value_must_pass_the_threshold_of_its_scale(classes, tau):
    """With silent competitors exp(T a) / (exp(T a) + K - 1) - 1/K > tau, solved for a."""
    share = tau + 1 / classes
    threshold = math.log(share * (classes - 1) / (1 - share)) / 10
    maps = torch.zeros(1, classes, 1, 1, 2, dtype=torch.float64)
    maps[0, 0, 0, 0, 0], maps[0, 0, 0, 0, 1] = threshold * (1 - 1e-9), threshold * (1 + 1e-9)
    assert (VAR(tau=tau)(maps)[0, 0] != 0).tolist() == [[[False, True]]]
    assert threshold == pytest.approx(tau * classes**2 / ((classes - 1) * 10), rel=0.3)


def test_gate_is_strict():
    """Two equal classes of two hold exactly 1/K, which is not above it even at tau = 0."""
    maps = torch.ones(1, 2, 1, 1, 1)
    assert VAR(tau=0.0)(maps).count_nonzero() == 0


def test_strong_negative_target_wins_and_keeps_its_sign_with_abs_only():
    maps = torch.tensor([-1.0, 0.2]).view(1, 2, 1, 1, 1)
    assert VAR()(maps)[0, 0].item() == pytest.approx(-1.0, abs=1e-3)
    assert VAR(magnitude="signed")(maps)[0, 0].item() == 0
    assert VAR(magnitude="signed")(maps)[0, 1].item() == pytest.approx(0.2, abs=1e-3)
    assert VAR(magnitude="positive")(maps)[0, 1].item() > 0


@pytest.mark.parametrize("scale", ["max", "rms", "class_rms"])
@pytest.mark.parametrize("factor", [1e-30, 1e-3, 1e6])
def test_scaled_mode_knows_no_units(scale, factor):
    maps = random_maps(3, 4, 3, 6, 6, dtype=torch.float32)
    variant = VAR(scale=scale)
    torch.testing.assert_close(variant(maps * factor) / factor, variant(maps), rtol=1e-4, atol=1e-6)


def test_paper_mode_loses_small_maps():
    maps = random_maps(1, 4, 3, 6, 6)
    assert VAR()(maps * 1e-3).count_nonzero() == 0
    assert VAR(scale="max")(maps * 1e-3).count_nonzero() > 0


def test_scale_belongs_to_one_image():
    maps = random_maps(2, 4, 3, 6, 6)
    maps[1] *= 1000
    both = VAR(scale="max")(maps)
    assert torch.equal(both[:1], VAR(scale="max")(maps[:1]))


def test_each_class_in_its_own_unit_may_be_larger_without_winning():
    maps = random_maps(2, 4, 3, 6, 6)
    sizes = torch.tensor([1.0, 8.0, 0.01, 3.0])[:, None, None, None]
    variant = VAR(scale="class_rms")
    torch.testing.assert_close(variant(maps * sizes), variant(maps) * sizes)


def test_shares_sum_to_one_and_saturate():
    maps = random_maps(2, 5, 3, 4, 4, dtype=torch.float32)
    shares = class_distribution(maps * 1e6)
    torch.testing.assert_close(shares.sum(1), torch.ones(2, 3, 4, 4))
    assert shares.min() >= 0
    zero = class_distribution(torch.zeros(1, 4, 1, 2, 2), scale="rms")
    assert torch.equal(zero, torch.full((1, 4, 1, 2, 2), 0.25))


def test_shares_by_themselves_are_those_of_the_paper_and_refuse_what_they_do_not_know():
    maps = random_maps(1, 3, 2, 3, 3)
    powers = (10.0 * maps.abs()).exp()
    torch.testing.assert_close(class_distribution(maps), powers / powers.sum(1, keepdim=True))
    for option in ("magnitude", "scale", "channels"):
        with pytest.raises(ValueError, match=f"{option} must be one of"):
            class_distribution(maps, **{option: "ABS"})


def test_half_precision_competes_in_float32():
    maps = random_maps(1, 4, 3, 8, 8, dtype=torch.float32).to(torch.bfloat16)
    assert class_distribution(maps).dtype == torch.float32
    refined = VAR()(maps)
    assert refined.dtype == torch.bfloat16
    assert torch.equal(refined, VAR()(maps.float()).to(torch.bfloat16))


def test_what_is_not_finite_stays_visible():
    for bad in (math.nan, math.inf, -math.inf):
        maps = random_maps(1, 3, 1, 2, 2)
        maps[0, 0, 0, 0, 0] = bad
        for variant in (VAR(), VAR(scale="max"), VAR(scale="rms"), VAR(magnitude="signed")):
            assert not variant(maps)[0, 0, 0, 0, 0].isfinite()
        assert VAR()(maps)[0, :, 0, 1].isfinite().all()


def test_winner_and_entropy():
    shares = torch.tensor([[1.0, 0.0], [0.2, 0.8], [0.5, 0.5]]).T.view(1, 2, 1, 1, 3)
    assert winner_map(shares).tolist() == [[[[0, 1, -1]]]]
    expected = [0.0, -0.2 * math.log(0.2) - 0.8 * math.log(0.8), math.log(2)]
    assert entropy_map(shares)[0, 0, 0].tolist() == pytest.approx(expected)


def test_winner_agrees_with_a_loop():
    shares = class_distribution(random_maps(2, 4, 3, 5, 5))
    winners = winner_map(shares)
    assert winners.dtype == torch.int64
    for b, c, y, x in itertools.product(range(2), range(3), range(5), range(5)):
        row = shares[b, :, c, y, x].tolist()
        assert winners[b, c, y, x] == row.index(max(row))


@pytest.mark.parametrize(
    ("options", "text"),
    [
        ({"temperature": 0.0}, "temperature must be positive"),
        ({"temperature": math.inf}, "temperature must be positive"),
        ({"tau": -0.1}, r"tau must be in \[0, 1\)"),
        ({"tau": 1.0}, r"tau must be in \[0, 1\)"),
        ({"magnitude": "square"}, "magnitude must be one of abs, signed, positive, got 'square'"),
        ({"scale": "mean"}, "scale must be one of"),
        ({"channels": "mean"}, "channels must be one of"),
    ],
)
def test_options_out_of_range(options, text):
    with pytest.raises(ValueError, match=text):
        VAR(**options)


@pytest.mark.slow
def test_guided_backprop_of_a_resnet_equals_the_formula():
    """The whole way of the paper: torchvision's ResNet, four classes, the published formula."""
    torchvision = pytest.importorskip("torchvision")
    torch.manual_seed(0)
    model = torchvision.models.resnet18(weights=None).eval()
    images = torch.randn(1, 3, 64, 64)
    maps = from_alias("method", "gbp").attribute(model, images, torch.tensor([[1, 20, 300, 999]]))
    maps = maps[..., ::4, ::4] * 5  # some locations are enough for the loop; some must pass
    refined, expected = VAR()(maps), loop(maps, 10.0, 0.01, "abs", "none", "separate")
    # In float32 a share within rounding of the gate may fall to either side.
    decided = (class_distribution(maps.double()) - 1 / 4 - 0.01).abs() > 1e-6
    assert decided.float().mean() > 0.999
    torch.testing.assert_close(refined.double()[decided], expected[decided], rtol=1e-5, atol=1e-9)
    assert 0.01 < (refined != 0).float().mean() < 0.99


def test_the_scaled_setting_is_that_of_the_alias_and_as_measured():
    """docs/refine.md chose it on critters; another temperature would be other results."""
    assert VAR.scaled() == from_alias("refine", "var_scaled")
    assert VAR.scaled() == VAR(3.0, 0.01, "signed", "rms", "sum")


def test_the_scaled_setting_is_that_of_its_configuration():
    assert VAR.scaled() == from_alias("refine", "var_scaled")
