import math

import pytest
from named_variants import variant

from var_exp.metrics.base import Traits
from var_exp.results.rows import Row
from var_exp.results.summary import SummaryRow, summarise
from var_exp.results.verdicts import by_metric, interval, judge, mean

UP, DOWN = Traits(higher_is_better=True), Traits(higher_is_better=False)


def figure(metric, name, value, low, high, *, pictures=100, p_value=None, **ledger):
    """A figure whose p-value agrees with its interval, unless it is given."""
    if p_value is None:
        p_value = 0.2 if low <= 0 <= high else 0.001
    counts = {"rows": pictures, "pictures": pictures, "p_value": p_value, **ledger}
    return SummaryRow(metric, variant(name), value, low, high, pictures, **counts)


def figures(base, refined, low, high, control=None, beyond=None, metric="insertion_auc", **more):
    rows = [
        figure(metric, "base", base, base - 0.01, base + 0.01),
        figure(metric, "var", refined, refined - 0.01, refined + 0.01),
        figure(metric, "var-base", refined - base, low, high, **more),
    ]
    if control is not None:
        rows.append(figure(metric, "var_same_sparsity", control, control, control))
    if beyond is not None:
        rows.append(figure(metric, "var-var_same_sparsity", sum(beyond) / 2, *beyond))
    return rows


@pytest.mark.parametrize(
    ("traits", "low", "high", "outcome"),
    [
        (UP, 0.1, 0.2, "better"),
        (UP, -0.2, -0.1, "worse"),
        (UP, -0.1, 0.1, "open"),
        (UP, 0.0, 0.1, "open"),
        (DOWN, 0.1, 0.2, "worse"),
        (DOWN, -0.2, -0.1, "better"),
        (DOWN, -0.2, 0.0, "open"),
        (UP, math.nan, math.nan, "open"),
    ],
)
def test_outcome_follows_the_interval_and_the_direction(traits, low, high, outcome):
    middle = (low + high) / 2
    (verdict,) = judge(figures(0.3, 0.3 + middle, low, high), {"insertion_auc": traits})
    assert verdict.outcome == outcome


def test_sentences():
    helps = figures(0.31, 0.91, 0.58, 0.62, control=0.31, metric="grid_pointing_game")
    hurts = figures(0.12, 0.15, 0.02, 0.04, metric="deletion_auc")
    unclear = figures(0.41, 0.414, -0.001, 0.012)
    traits = {"grid_pointing_game": UP, "deletion_auc": DOWN, "insertion_auc": UP}
    assert [str(verdict) for verdict in judge([*unclear, *hurts, *helps], traits)] == [
        "grid_pointing_game: base 0.310 → var 0.910, difference +0.600 [+0.580, +0.620]: "
        "var helps; same-sparsity control 0.310",
        "deletion_auc (lower is better): base 0.120 → var 0.150, difference +0.030 "
        "[+0.020, +0.040]: var hurts",
        "insertion_auc: base 0.410 → var 0.414, difference +0.004 [-0.001, +0.012]: "
        "no difference shown, the interval includes 0",
    ]


@pytest.mark.parametrize(
    ("traits", "beyond", "suffices"),
    [
        (UP, (-0.001, 0.01), True),
        (UP, (0.001, 0.02), False),
        (DOWN, (-0.01, 0.001), True),
        (DOWN, (-0.02, -0.001), False),
        (UP, (math.nan, math.nan), True),
    ],
)
def test_a_control_that_does_as_well_is_said(traits, beyond, suffices):
    """Decided by the paired difference: the control itself may lie inside the wide interval."""
    change = (0.08, 0.12) if traits.higher_is_better else (-0.12, -0.08)
    base = 0.3 if traits.higher_is_better else 0.5
    rows = figures(base, 0.4, *change, control=0.395, beyond=beyond)
    (verdict,) = judge(rows, {"insertion_auc": traits})
    assert verdict.sparsity_suffices == suffices
    assert ("sparsity alone explains it" in str(verdict)) == suffices


def test_a_loss_is_not_explained_by_sparsity():
    rows = figures(0.5, 0.4, -0.2, -0.1, control=0.5, beyond=(-0.2, -0.1))
    (verdict,) = judge(rows, {"insertion_auc": UP})
    assert not verdict.sparsity_suffices


def test_no_interval_is_said():
    (verdict,) = judge(figures(0.3, math.nan, math.nan, math.nan), {"insertion_auc": UP})
    assert "var undefined, difference undefined [no interval]: no verdict, too few" in str(verdict)


@pytest.mark.parametrize(
    ("pictures", "p_value", "low", "said"),
    [
        (9, 0.0001, 0.08, "no verdict, 9 pictures are too few; needed: 10"),
        (10, 0.0001, 0.08, "var helps"),
        (20, 0.03, 0.005, "p = 0.03 is not below the 0.02 asked of 20 pictures; needed: 4"),
        (49, 0.019, 0.005, "var helps"),
        (50, 0.03, 0.005, "var helps"),
        (50, 0.051, -0.001, "no difference shown, the interval includes 0"),
    ],
)
def test_a_verdict_takes_pictures(pictures, p_value, low, said):
    rows = figures(0.3, 0.4, low, 0.2 - low, pictures=pictures, p_value=p_value)
    (verdict,) = judge(rows, {"insertion_auc": UP})
    assert said in verdict.conclusion
    assert (verdict.outcome == "better") == (said == "var helps")


@pytest.mark.parametrize(
    ("low", "high", "said"),
    [(-0.1, 0.5, "; needed: 17"), (-0.1, 1.0, "; needed: 84"), (-1.0, 1.0, "")],
)
def test_an_interval_that_a_bound_has_cut_does_not_hide_how_far_scores_vary(low, high, said):
    """By the formula: half of the width whole, the wider side where cut, nothing where both are."""
    rows = figures(0.3, 0.5, low, high, pictures=5)
    unit = Traits(higher_is_better=True, bounds=(0.0, 1.0))
    (verdict,) = judge(rows, {"insertion_auc": unit})
    assert verdict.conclusion == f"no verdict, 5 pictures are too few{said}"


def test_a_measure_that_rewards_sparsity_gives_no_verdict():
    sparse = Traits(higher_is_better=True, rewards_sparsity=True)
    (verdict,) = judge(figures(0.3, 0.9, 0.5, 0.7), {"insertion_auc": sparse})
    assert verdict.outcome == "open"
    assert verdict.conclusion == "no verdict, the measure rewards sparsity by definition"


@pytest.mark.parametrize(("flags", "outcome"), [("empty_map", "open"), ("", "worse")])
def test_maps_that_are_all_empty_give_no_verdict(flags, outcome):
    """From rows to the sentence; one map that is not empty, and there is a verdict."""
    rows = [
        Row(f"s{i:02d}", 0, "game", variant(name), score, odd)
        for i in range(20)
        for name, score, odd in (
            ("base", 0.3 + 0.01 * i, ""),
            ("var", 0.0, flags if i == 7 else ("empty_map", "nothing_positive")[i % 2]),
        )
    ]
    (verdict,) = judge(summarise(rows), {"game": UP})
    assert verdict.outcome == outcome
    assert (verdict.conclusion == "no verdict, every refined map is empty") == (outcome == "open")


def test_no_refiner_no_verdict():
    assert judge(figures(0.3, 0.4, 0.1, 0.2)[:1], {"insertion_auc": UP}) == []


def test_metrics_follow_the_order_of_the_directions():
    rows = [*figures(0.3, 0.4, 0, 1, metric="a"), *figures(0.3, 0.4, 0, 1, metric="b")]
    assert list(by_metric(rows, {"b": True, "unused": True, "a": False})) == ["b", "a"]
    with pytest.raises(ValueError, match="metric 'a' must have a direction, got only those of b"):
        by_metric(rows, {"b": True})


@pytest.mark.parametrize(
    ("value", "low", "high", "text"),
    [
        (0.5, 0.25, 0.75, "+0.500 [+0.250, +0.750]"),
        (-0.0001121, -0.0001496, -0.0000771, "-0.00011 [-0.00015, -0.00008]"),
        (-0.00012, -0.0101, 0.0104, "+0.000 [-0.010, +0.010]"),
        (0.3083, 0.3074, 0.3091, "+0.308 [+0.307, +0.309]"),
        (1e-12, 0.0, 2e-12, "+0.000000 [+0.000000, +0.000000]"),
        (0.25, 0.25, 0.25, "+0.250 [+0.250, +0.250]"),
        (math.nan, math.nan, math.nan, "undefined [no interval]"),
    ],
)
def test_decimals_follow_the_interval(value, low, high, text):
    row = SummaryRow("m", variant("var-base"), value, low, high, 100)
    assert f"{mean(row, signed=True)} {interval(row, signed=True)}" == text
