"""Paired tests, Holm's correction, power and ranks against written-out formulas and simulation."""

from itertools import product

import numpy as np
import pytest
from named_variants import variant
from scipy import stats

from var_exp.results.rows import Row
from var_exp.results.significance import (
    Rank,
    holm,
    paired_test,
    rank_agreement,
    ranking,
    sample_scores,
    samples_needed,
)


def column(values):
    return {f"s{i}": float(value) for i, value in enumerate(values)}


def test_a_sample_counts_once_with_the_mean_over_its_classes():
    rows = [
        Row("a", 0, "game", variant("base"), 0.2),
        Row("a", 1, "game", variant("base"), 0.6),
        Row("b", 0, "game", variant("base"), float("nan"), "empty_region"),
        Row("b", 3, "game", variant("base"), 1.0),
        Row("c", 0, "game", variant("base"), float("nan")),
        Row("a", 0, "game", variant("var"), 0.9),
    ]
    scores = sample_scores([*rows, rows[0]])  # a repeat counts once
    assert scores == {
        ("game", "base"): {"a": pytest.approx(0.4), "b": 1.0},
        ("game", "var"): {"a": 0.9},
    }


def test_wilcoxon_equals_the_sum_over_all_sign_patterns():
    """With n differences of distinct size, each of the 2^n signs is equally likely under H0."""
    gaps = np.array([0.3, -0.1, 0.45, 0.2, 0.75, -0.05, 0.6])
    ranks = stats.rankdata(np.abs(gaps))
    observed = (ranks * np.sign(gaps)).sum()
    sums = np.array([(ranks * signs).sum() for signs in product([-1, 1], repeat=len(gaps))])
    expected = np.mean(np.abs(sums) >= abs(observed))
    found = paired_test("x", "y", {"x": column(gaps), "y": column(np.zeros(7))})
    assert found.p_value == pytest.approx(expected)
    assert found.effect == pytest.approx(observed / ranks.sum())
    assert found.difference == pytest.approx(gaps.mean())
    assert found.n == 7


def test_order_of_the_columns_turns_the_signs():
    generator = np.random.default_rng(0)
    columns = {"x": column(generator.random(30)), "y": column(generator.random(30))}
    there, back = paired_test("x", "y", columns), paired_test("y", "x", columns)
    assert there.difference == pytest.approx(-back.difference)
    assert there.effect == pytest.approx(-back.effect)
    assert there.p_value == pytest.approx(back.p_value)
    assert there.ci_low == pytest.approx(-back.ci_high)


def test_only_common_samples_count():
    x, y = column([0.1, 0.5, 0.9]), column([0.2, 0.4])
    assert paired_test("x", "y", {"x": x, "y": y}).n == 2
    assert paired_test("x", "y", {"x": x, "y": {"s0": 0.1}}) is None


def test_no_difference_is_no_evidence():
    found = paired_test("x", "y", {"x": column([0.5] * 9), "y": column([0.5] * 9)})
    assert (found.p_value, found.effect, found.needed) == (1.0, 0.0, None)


def test_holm_by_its_definition():
    generator = np.random.default_rng(1)
    p_values = generator.random(12) ** 3
    corrected = holm(p_values)
    for i, p in enumerate(p_values):
        # the largest of (number of p-values >= q) * q over the q that are at most p
        expected = max((p_values >= q).sum() * q for q in p_values[p_values <= p])
        assert corrected[i] == pytest.approx(min(expected, 1.0))
    assert holm([]) == []


def test_needed_samples_find_the_difference_in_four_of_five_studies():
    generator = np.random.default_rng(2)
    gaps = generator.normal(0.3, 1.0, 100_000)
    needed = samples_needed(gaps)
    studies = generator.normal(0.3, 1.0, (4000, needed))
    z = studies.mean(1) / (studies.std(1, ddof=1) / np.sqrt(needed))
    assert np.mean(np.abs(z) > stats.norm.ppf(0.975)) == pytest.approx(0.8, abs=0.03)


def test_ranks_and_their_intervals():
    generator = np.random.default_rng(3)
    noise = generator.normal(0, 0.1, 200)
    columns = {
        "far": column(0.9 + noise),
        "near": column(0.5 + generator.normal(0, 0.1, 200)),
        "nearer": column(0.5 + generator.normal(0, 0.1, 200)),
    }
    found = {rank.name: rank for rank in ranking(columns, True)}
    assert (found["far"].rank, found["far"].low, found["far"].high) == (1, 1, 1)
    assert (found["near"].low, found["near"].high) == (2, 3)
    worst_first = ranking(columns, False)
    assert worst_first[-1].name == "far"
    assert ranking({"x": {"a": 1.0}, "y": {"b": 1.0}}, True) == []


def test_equal_columns_share_their_rank():
    found = ranking({"x": column([1, 2]), "y": column([1, 2])}, True)
    assert [rank.rank for rank in found] == [1.5, 1.5]


def test_agreement_is_the_share_of_pairs_in_the_same_order():
    def ranks(*names):
        return [Rank(name, 0.0, place, place, place) for place, name in enumerate(names)]

    tau = rank_agreement(
        {"one": ranks("a", "b", "c", "d"), "two": ranks("a", "b", "d", "c"), "x": ranks(*"dcba")}
    )
    np.testing.assert_allclose(tau[0], [1.0, (5 - 1) / 6, -1.0])
    np.testing.assert_allclose(tau, tau.T)
    assert np.isnan(rank_agreement({"one": ranks("a")})).all()
