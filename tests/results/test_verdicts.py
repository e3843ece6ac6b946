import math

import pytest
from named_variants import variant

from var_exp.results.summary import SummaryRow
from var_exp.results.verdicts import by_metric, interval, judge, mean


def figures(base, refined, low, high, control=None, beyond=None, metric="insertion_auc"):
    rows = [
        SummaryRow(metric, variant("base"), base, base - 0.01, base + 0.01, 100),
        SummaryRow(metric, variant("var"), refined, refined - 0.01, refined + 0.01, 100),
        SummaryRow(metric, variant("var-base"), refined - base, low, high, 100),
    ]
    if control is not None:
        rows.append(
            SummaryRow(metric, variant("var_same_sparsity"), control, control, control, 100)
        )
    if beyond is not None:
        name = "var-var_same_sparsity"
        rows.append(SummaryRow(metric, variant(name), refined - control, *beyond, 100))
    return rows


@pytest.mark.parametrize(
    ("higher", "low", "high", "outcome"),
    [
        (True, 0.1, 0.2, "better"),
        (True, -0.2, -0.1, "worse"),
        (True, -0.1, 0.1, "open"),
        (True, 0.0, 0.1, "open"),
        (False, 0.1, 0.2, "worse"),
        (False, -0.2, -0.1, "better"),
        (False, -0.2, 0.0, "open"),
        (True, math.nan, math.nan, "open"),
    ],
)
def test_outcome_follows_the_interval_and_the_direction(higher, low, high, outcome):
    (verdict,) = judge(figures(0.3, 0.4, low, high), {"insertion_auc": higher})
    assert verdict.outcome == outcome


def test_sentences():
    helps = figures(0.31, 0.91, 0.58, 0.62, control=0.31, metric="grid_pointing_game")
    hurts = figures(0.12, 0.15, 0.02, 0.04, metric="deletion_auc")
    unclear = figures(0.41, 0.414, -0.001, 0.012)
    directions = {"grid_pointing_game": True, "deletion_auc": False, "insertion_auc": True}
    assert [str(verdict) for verdict in judge([*unclear, *hurts, *helps], directions)] == [
        "grid_pointing_game: base 0.310 → var 0.910, difference +0.600 [+0.580, +0.620]: "
        "var helps; same-sparsity control 0.310",
        "deletion_auc (lower is better): base 0.120 → var 0.150, difference +0.030 "
        "[+0.020, +0.040]: var hurts",
        "insertion_auc: base 0.410 → var 0.414, difference +0.004 [-0.001, +0.012]: "
        "no difference shown, the interval includes 0",
    ]


@pytest.mark.parametrize(
    ("higher", "beyond", "suffices"),
    [
        (True, (-0.001, 0.01), True),
        (True, (0.001, 0.02), False),
        (False, (-0.01, 0.001), True),
        (False, (-0.02, -0.001), False),
        (True, (math.nan, math.nan), True),
    ],
)
def test_a_control_that_does_as_well_is_said(higher, beyond, suffices):
    """Decided by the paired difference: the control itself may lie inside the wide interval."""
    change = (0.08, 0.12) if higher else (-0.12, -0.08)
    base = 0.3 if higher else 0.5
    rows = figures(base, 0.4, *change, control=0.395, beyond=beyond)
    (verdict,) = judge(rows, {"insertion_auc": higher})
    assert verdict.sparsity_suffices == suffices
    assert ("sparsity alone explains it" in str(verdict)) == suffices


def test_a_loss_is_not_explained_by_sparsity():
    rows = figures(0.5, 0.4, -0.2, -0.1, control=0.5, beyond=(-0.2, -0.1))
    (verdict,) = judge(rows, {"insertion_auc": True})
    assert not verdict.sparsity_suffices


def test_no_interval_is_said():
    (verdict,) = judge(figures(0.3, math.nan, math.nan, math.nan), {"insertion_auc": True})
    assert "var undefined, difference undefined [no interval]: no interval, too few" in str(verdict)


def test_no_refiner_no_verdict():
    assert judge(figures(0.3, 0.4, 0.1, 0.2)[:1], {"insertion_auc": True}) == []


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
