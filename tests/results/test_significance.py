"""Paired tests, Holm's correction, power and ranks against written-out loops and simulation."""

import itertools
import math
from dataclasses import replace

import numpy as np
import pytest
from named_variants import variant
from scipy import stats

from var_exp.results.intervals import estimate
from var_exp.results.rows import Row
from var_exp.results.significance import (
    FEWEST,
    Rank,
    class_scores,
    holm,
    paired_test,
    pictures_needed,
    rank_agreement,
    ranking,
    verdict_level,
)
from var_exp.results.summary import summarise


def column(values):
    """One class of each sample."""
    return {(f"s{i}", 0): float(value) for i, value in enumerate(values)}


def half_defined(seed, count=30, classes=4):
    """Rows of base and var, each undefined here and there; some samples lack classes."""
    generator = np.random.default_rng(seed)
    rows = []
    for sample in range(count):
        for label in range(1 + int(generator.integers(classes))):
            easy = generator.uniform()
            for name, shift in (("base", 0.0), ("var", 0.1)):
                score = easy + shift + generator.normal(0, 0.2)
                undefined = generator.uniform() < 0.3
                score = math.nan if undefined else float(score)
                rows.append(Row(f"s{sample:02d}", label, "game", variant(name), score))
    return rows


def test_a_class_counts_where_both_sides_are_defined():
    """The means of what each side has would say +0.1; of the class that both have, -0.1."""
    rows = [
        Row(id, label, "game", variant(name), score)
        for id in ("a", "b", "c")
        for label, name, score in [
            (0, "base", 0.5),
            (1, "base", 0.1),
            (0, "var", 0.4),
            (1, "var", math.nan),
        ]
    ]
    scores = class_scores(rows)
    columns = {name: scores["game", name] for name in ("base", "var")}
    found = paired_test("var", "base", columns)
    assert found.difference == pytest.approx(-0.1)
    assert (found.n, found.pictures) == (3, 3)


@pytest.mark.parametrize("class_means", [False, True])
@pytest.mark.parametrize("seed", range(4))
def test_a_test_of_half_defined_scores_is_a_loop_and_the_row_of_the_summary(seed, class_means):
    rows = half_defined(seed)
    scores = class_scores(rows)
    columns = {name: scores["game", name] for name in ("base", "var")}
    found = paired_test("var", "base", columns, class_means=class_means)
    gaps = {}
    for left in rows:
        for right in rows:
            same = (left.sample_id, left.class_index) == (right.sample_id, right.class_index)
            if same and (left.variant.name, right.variant.name) == ("var", "base"):
                gap = left.score - right.score
                if not math.isnan(gap):
                    gaps[left.sample_id, left.class_index] = gap
    by_class = {label: [g for (_, of), g in gaps.items() if of == label] for _, label in gaps}
    means = [np.mean(values) for values in by_class.values()]
    expected = np.mean(means) if class_means else np.mean(list(gaps.values()))
    assert found.difference == pytest.approx(expected)
    assert (found.n, found.pictures) == (len(gaps), len({id for id, _ in gaps}))
    figures = summarise(rows, class_means=["game"] if class_means else [])
    (row,) = [figure for figure in figures if figure.variant.name == "var-base"]
    assert (found.difference, found.ci_low, found.ci_high, found.p_value) == (
        row.value,
        row.ci_low,
        row.ci_high,
        row.p_value,
    )
    assert (found.n, found.pictures) == (row.n, row.pictures)


def test_undefined_scores_are_absent():
    rows = [
        Row("a", 0, "game", variant("base"), 0.2),
        Row("b", 0, "game", variant("base"), math.nan, "empty_region"),
        Row("b", 3, "game", variant("base"), math.inf),
        Row("a", 0, "game", variant("var"), 0.9),
    ]
    assert class_scores(rows) == {
        ("game", "base"): {("a", 0): 0.2},
        ("game", "var"): {("a", 0): 0.9},
    }


def test_the_effect_is_the_share_of_ranks_that_speak_for_left():
    gaps = np.array([0.3, -0.1, 0.45, 0.2, 0.75, -0.05, 0.6])
    found = paired_test("x", "y", {"x": column(gaps), "y": column(np.zeros(7))})
    ranks = [sorted(abs(gaps)).index(abs(gap)) + 1 for gap in gaps]
    signed = sum(rank * np.sign(gap) for rank, gap in zip(ranks, gaps, strict=True))
    assert found.effect == pytest.approx(signed / sum(ranks))
    assert found.p_value == estimate(gaps, np.arange(7)).p_value
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
    assert paired_test("x", "y", {"x": x, "y": {("s0", 0): 0.1}}) is None
    assert paired_test("x", "y", {"x": x, "y": {}}) is None


def test_no_difference_is_no_evidence():
    found = paired_test("x", "y", {"x": column([0.5] * 9), "y": column([0.5] * 9)})
    assert (found.p_value, found.effect, found.needed) == (1.0, 0.0, None)


def test_a_test_of_few_pictures_decides_nothing():
    nine, ten = (
        paired_test("x", "y", {"x": column(np.linspace(0.3, 0.4, n)), "y": column([0] * n)})
        for n in (9, 10)
    )
    assert nine.p_value < 1e-6
    assert [verdict_level(n) for n in (0, 9, 10, 49, 50)] == [0, 0, 0.02, 0.02, 0.05]
    assert not replace(nine, p_holm=0.0).decides
    assert replace(ten, p_holm=0.019).decides
    assert not replace(ten, p_holm=0.02).decides
    assert not ten.decides  # not corrected yet


def test_holm_by_its_definition():
    generator = np.random.default_rng(1)
    p_values = generator.random(12) ** 3
    corrected = holm(p_values)
    for i, p in enumerate(p_values):
        # the largest of (number of p-values >= q) * q over the q that are at most p
        expected = max((p_values >= q).sum() * q for q in p_values[p_values <= p])
        assert corrected[i] == pytest.approx(min(expected, 1.0))
    assert holm([]) == []


@pytest.mark.parametrize(("size", "tests"), [(0.3, 1), (0.3, 10), (0.7, 1), (1.2, 1)])
def test_needed_pictures_find_the_difference_in_four_of_five_studies(size, tests):
    """By the t-test of many simulated studies, at the level of a verdict over so many tests."""
    needed = pictures_needed(size, 1.0, tests=tests)
    studies = np.random.default_rng(2).normal(size, 1.0, (4000, needed))
    p_values = stats.ttest_1samp(studies, 0, axis=1).pvalue
    found = np.mean(p_values < verdict_level(needed) / tests)
    assert found == pytest.approx(0.8, abs=0.04)


@pytest.mark.parametrize("pictures", [10, 20, 200])
@pytest.mark.parametrize(
    "draw",
    [
        lambda g, n: g.normal(size=n),
        lambda g, n: g.standard_t(3, size=n),
        lambda g, n: g.exponential(size=n) - 1,
        lambda g, n: g.lognormal(size=n) - math.exp(0.5),
    ],
    ids=["gaussian", "heavy tails", "skewed", "very skewed"],
)
def test_verdicts_on_nothing_are_rare(draw, pictures):
    """Differences whose true mean is 0; Wilcoxon's test finds the skewed ones in up to 97 %."""
    generator = np.random.default_rng(7)
    trials = [estimate(draw(generator, pictures), np.arange(pictures)) for _ in range(1500)]
    wrong = np.mean([found.p_value < verdict_level(pictures) for found in trials])
    assert wrong <= 0.06


def test_needed_pictures_have_bounds():
    assert pictures_needed(100.0, 1.0) == FEWEST
    assert pictures_needed(0.0, 1.0) is None
    assert pictures_needed(0.1, math.nan) is None
    counts = [pictures_needed(size, 1.0) for size in np.linspace(0.2, 2, 60)]
    assert counts == sorted(counts, reverse=True)
    assert pictures_needed(0.01, 1.0) > 70_000


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
    assert ranking({"x": {("a", 0): 1.0}, "y": {("b", 0): 1.0}}, True) == []


@pytest.mark.parametrize("seed", range(6))
def test_intervals_of_ranks_are_those_of_every_resample(seed):
    """All 5^5 resamples of five pictures, where none of the probabilities is near 2.5 %."""
    generator = np.random.default_rng(seed)
    scores = generator.random((5, 4)) + np.linspace(0, 0.4, 4)
    columns = {name: column(scores[:, i]) for i, name in enumerate("abcd")}
    drawn = np.array(list(itertools.product(range(5), repeat=5)))
    ranks = stats.rankdata(-scores[drawn].mean(1), axis=1)
    for found in ranking(columns, True):
        own = ranks[:, "abcd".index(found.name)]
        below = {rank: (own <= rank).mean() for rank in np.unique(own)}
        above = {rank: (own >= rank).mean() for rank in np.unique(own)}
        assert below[found.low] > 0.025 - 0.01
        assert above[found.high] > 0.025 - 0.01
        assert (own < found.low).mean() < 0.025 + 0.01
        assert (own > found.high).mean() < 0.025 + 0.01


@pytest.mark.parametrize("options", [{}, {"resamples": 37, "seed": 5}])
def test_intervals_of_ranks_are_percentiles_of_a_loop(options):
    """Seven columns that chance ranks; the ends are ranks."""
    count, seed = options.get("resamples", 2000), options.get("seed", 0)
    scores = np.random.default_rng(9).normal(size=(6, 7))
    draws = np.random.default_rng(seed)
    drawn = []
    for _ in range(count):
        means = scores[draws.integers(6, size=6)].mean(0)
        drawn.append([1 + sum(other > mean for other in means) for mean in means])
    found = {rank.name: rank for rank in ranking(
        {f"c{i}": column(values) for i, values in enumerate(scores.T)}, True, **options
    )}  # fmt: skip
    for i, ranks in enumerate(np.sort(np.array(drawn).T)):
        assert found[f"c{i}"].low == ranks[math.floor(0.025 * (count - 1))]
        assert found[f"c{i}"].high == ranks[math.ceil(0.975 * (count - 1))]


def test_equal_columns_share_their_rank():
    found = ranking({"x": column([1, 2]), "y": column([1, 2])}, True)
    assert [rank.rank for rank in found] == [1.5, 1.5]


def test_ranks_are_of_the_classes_that_all_columns_have():
    x = {("a", 0): 0.2, ("a", 1): 0.9, ("b", 0): 0.3}
    y = {("a", 0): 0.1, ("b", 0): 0.2, ("b", 1): 0.9}
    found = ranking({"x": x, "y": y}, True)
    assert [(rank.name, rank.value) for rank in found] == [
        ("x", pytest.approx(0.25)),
        ("y", pytest.approx(0.15)),
    ]
    three = {"x": {("a", 0): 1.0, ("b", 0): 0.0, ("c", 1): 0.0}}
    assert ranking(three, True, class_means=True)[0].value == pytest.approx(0.25)
    assert ranking(three, True)[0].value == pytest.approx(1 / 3)


def test_agreement_is_the_share_of_pairs_in_the_same_order():
    def ranks(*names):
        return [Rank(name, 0.0, place, place, place) for place, name in enumerate(names)]

    tau = rank_agreement(
        {"one": ranks("a", "b", "c", "d"), "two": ranks("a", "b", "d", "c"), "x": ranks(*"dcba")}
    )
    np.testing.assert_allclose(tau[0], [1.0, (5 - 1) / 6, -1.0])
    np.testing.assert_allclose(tau, tau.T)
    assert np.isnan(rank_agreement({"one": ranks("a")})).all()


def test_a_ranking_of_ties_agrees_with_nothing():
    tied = [Rank(name, 0.0, 1.5, 1, 2) for name in "ab"]
    apart = [Rank(name, 0.0, place, 1, 2) for place, name in enumerate("ab", 1)]
    tau = rank_agreement({"tied": tied, "apart": apart})
    np.testing.assert_array_equal(tau, [[math.nan, math.nan], [math.nan, 1.0]])
