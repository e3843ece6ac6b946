"""Tests and ranks over runs, on scores made so that the answer is known."""

import csv
import itertools
from dataclasses import replace

import numpy as np
import pytest
from named_variants import variant
from scipy import stats

from var_exp.metrics.base import Traits
from var_exp.report.comparison_tables import significance_tables
from var_exp.report.tables import markdown
from var_exp.results.comparison import (
    Comparison,
    Run,
    compare,
    letter_display,
    refiner_tests,
    run_tests,
    write_comparison,
    write_tests,
)
from var_exp.results.significance import PairedTest, Rank, holm, pictures_needed
from var_exp.results.summary import SummaryRow

FIGURES = [
    SummaryRow("game", variant(name), 0, -1, 1, 40)
    for name in ("base", "var", "var-base", "edge_map")
]


def run(label, base, gain):
    generator = np.random.default_rng(len(label))
    scores = {(f"s{i}", 0): base + 0.05 * generator.standard_normal() for i in range(40)}
    refined = {
        unit: score + gain + 0.02 * generator.standard_normal() for unit, score in scores.items()
    }
    columns = {("game", "base"): scores, ("game", "var"): refined, ("game", "edge_map"): scores}
    return Run({"method": label}, FIGURES, columns)


UP = Traits(higher_is_better=True)
RUNS = [run("gbp", 0.3, 0.5), run("ig", 0.5, 0.0), run("gradcam", 0.6, -0.1)]


def test_a_refiner_without_a_defined_score_is_not_tested():
    empty = Run({"method": "lrp"}, FIGURES, {("game", "base"): RUNS[0].scores["game", "base"]})
    assert refiner_tests([empty], "game", UP) == []
    assert len(refiner_tests([RUNS[0], empty], "game", UP)) == 1
    found = compare([*RUNS, empty], {"game": UP})
    assert [len(ranks) for ranks in found.rankings.values()] == [4, 3]


def test_each_refiner_is_tested_against_its_own_base():
    tests = refiner_tests(RUNS, "game", UP)
    assert [(test.left, test.right) for test in tests] == [
        ("gbp var", "gbp base"),
        ("ig var", "ig base"),
        ("gradcam var", "gradcam base"),
    ]
    assert tests[0].difference == pytest.approx(0.5, abs=0.02)
    assert tests[0].p_holm < 0.001 < 0.05 < tests[1].p_holm
    assert tests[2].effect == -1.0
    assert [test.p_holm for test in tests] == holm([test.p_value for test in tests])


def test_every_pair_of_runs_on_each_variant():
    tests = run_tests(RUNS, "game", UP)
    assert len(tests) == 2 * 3  # base and var, not the control
    assert (tests[0].left, tests[0].right) == ("gbp base", "ig base")
    assert tests[0].difference == pytest.approx(-0.2, abs=0.03)


def test_two_runs_are_compared_and_one_is_not():
    assert [(test.left, test.right) for test in run_tests(RUNS[:2], "game", UP)] == [
        ("gbp base", "ig base"),
        ("gbp var", "ig var"),
    ]
    assert run_tests(RUNS[:1], "game", UP) == []
    # a variant that only one of them scored
    bare = Run({"method": "lrp"}, FIGURES[:1], {("game", "base"): RUNS[0].scores["game", "base"]})
    assert [test.left for test in run_tests([RUNS[0], bare], "game", UP)] == ["gbp base"]


def test_a_run_gives_the_verdict_of_each_refiner_in_the_direction_of_the_metric():
    def figure(name, value, low, high):
        return SummaryRow("game", variant(name), value, low, high, 60, pictures=60, p_value=0.001)

    figures = [
        figure("base", 0.5, 0.4, 0.6),
        figure("var", 0.3, 0.2, 0.4),
        figure("var-base", -0.2, -0.3, -0.1),
    ]
    one = Run({"method": "x"}, figures)
    for up, outcome in ((True, "worse"), (False, "better")):
        verdicts = one.verdicts("game", Traits(higher_is_better=up))
        assert {name: verdict.outcome for name, verdict in verdicts.items()} == {"var": outcome}
    assert one.verdicts("absent", UP) == {}


def test_pictures_needed_count_the_tests_of_the_family():
    """More tests, a smaller level each, more pictures."""
    close = run("rise", 0.5, 0.006)
    alone, *_ = refiner_tests([close], "game", UP)
    among, *_ = refiner_tests([close, *RUNS[1:], *RUNS[1:]], "game", UP)
    deviation = (alone.ci_high - alone.ci_low) / 2 / stats.t.ppf(0.975, 39) * 40**0.5
    assert alone.difference == among.difference
    assert among.needed > 1.3 * alone.needed
    assert alone.needed == pytest.approx(pictures_needed(alone.difference, deviation), rel=0.1)


def test_letters_join_neighbours_that_are_not_told_apart():
    """Of few pictures no run is told from another."""
    scores = {"a": 0.9, "bb": 0.5, "ccc": 0.5, "dddd": 0.1}
    runs = [run(name, base, 0.1) for name, base in scores.items()]
    letters = letter_display(compare(runs, {"game": UP}), "game", "base")
    assert letters == {"a": "a", "bb": "b", "ccc": "b", "dddd": "c"}
    few = [
        replace(one, scores={k: dict(list(v.items())[:9]) for k, v in one.scores.items()})
        for one in runs
    ]
    assert set(letter_display(compare(few, {"game": UP}), "game", "base").values()) == {"a"}


def test_a_run_may_have_two_letters():
    def test(left, right, p):
        return PairedTest(left, right, 0.1, 0, 0.2, p, 0.1, 60, 60, 10, p)

    ranks = [Rank(name, 0.0, place, 1, 3) for place, name in enumerate("xyz", 1)]
    tests = [test("x m", "y m", 0.2), test("z m", "y m", 0.3), test("x m", "z m", 0.01)]
    comparison = Comparison([], {"game": UP}, {}, {"game": tests}, {("game", "m"): ranks})
    assert letter_display(comparison, "game", "m") == {"x": "a", "y": "ab", "z": "b"}
    assert letter_display(comparison, "game", "absent") == {}


@pytest.mark.parametrize("seed", range(12))
def test_letters_are_the_largest_sets_of_runs_that_are_alike(seed):
    """Brute force over all sets of seven runs; told apart by chance, whatever their places."""
    generator = np.random.default_rng(seed)
    names, pairs = list("tuvwxyz"), list(itertools.combinations("tuvwxyz", 2))
    apart = {pair for pair in pairs if generator.random() < (seed + 1) / 14}
    tests = [
        PairedTest(f"{left} m", f"{right} m", 0.1, 0, 0.2, p, 0.1, 60, 60, 10, p)
        for left, right in (pair if generator.random() < 0.5 else pair[::-1] for pair in pairs)
        for p in [0.04 if tuple(sorted((left, right))) in apart else 0.06]
    ]
    ranks = [Rank(name, 0.0, place, 1, 7) for place, name in enumerate(names, 1)]
    comparison = Comparison([], {"game": UP}, {}, {"game": tests}, {("game", "m"): ranks})
    letters = letter_display(comparison, "game", "m")
    sets = [set(chosen) for size in range(1, 8) for chosen in itertools.combinations(names, size)]
    alike = [one for one in sets if not any(set(pair) <= one for pair in apart)]
    largest = [one for one in alike if not any(one < other for other in alike)]
    found = {letter for of in letters.values() for letter in of}
    assert sorted(sorted(n for n in names if letter in letters[n]) for letter in found) == sorted(
        map(sorted, largest)
    )
    for pair in pairs:
        assert bool(set(letters[pair[0]]) & set(letters[pair[1]])) is (pair not in apart)
    assert "a" in letters["t"]  # the best has the first


def test_letters_go_on_after_z():
    names = [f"run {number:02d}" for number in range(54)]
    tests = [
        PairedTest(f"{left} m", f"{right} m", 0.1, 0, 0.2, 0.0, 0.1, 60, 60, 10, 0.0)
        for place, left in enumerate(names)
        for right in names[place + 1 :]
    ]
    ranks = [Rank(name, 0.0, place, 1, 54) for place, name in enumerate(names, 1)]
    comparison = Comparison([], {"game": UP}, {}, {"game": tests}, {("game", "m"): ranks})
    letters = letter_display(comparison, "game", "m")
    expected = [*"abcdefghijklmnopqrstuvwxyz", *("a" + c for c in "abcdefghijklmnopqrstuvwxyz")]
    assert [letters[name] for name in names] == [*expected, "ba", "bb"]


def test_a_metric_averaged_by_class_is_compared_so():
    rows = {("a", 0): 0.0, ("b", 0): 0.0, ("c", 0): 0.0, ("d", 1): 1.0, ("e", 1): 1.0}
    base = dict.fromkeys(rows, 0.0)
    figures = [SummaryRow("game", variant(name), 0, -1, 1, 5) for name in ("base", "var")]
    runs = [Run({"method": "x"}, figures, {("game", "base"): base, ("game", "var"): rows})]
    (plain,) = refiner_tests(runs, "game", UP)
    (by_class,) = refiner_tests(runs, "game", Traits(higher_is_better=True, average="classes"))
    assert (plain.difference, by_class.difference) == (pytest.approx(0.4), pytest.approx(0.5))
    two = [*runs, Run({"method": "y"}, figures, {("game", "var"): rows, ("game", "base"): base})]
    for average, mean in (("samples", 0.4), ("classes", 0.5)):
        found = compare(two, {"game": Traits(higher_is_better=True, average=average)})
        ranks = found.rankings["game", "var"]
        assert [rank.value for rank in ranks] == [pytest.approx(mean)] * 2


def test_the_file_of_a_comparison_has_every_figure_of_every_run(tmp_path):
    write_comparison(tmp_path / "all.csv", RUNS[:2])
    with (tmp_path / "all.csv").open(newline="") as file:
        lines = list(csv.DictReader(file))
    assert [(line["method"], line["metric"], line["variant"]) for line in lines] == [
        (name, "game", figure.variant.name) for name in ("gbp", "ig") for figure in FIGURES
    ]
    assert {(line["value"], line["ci_low"], line["ci_high"], line["n"]) for line in lines} == {
        ("0", "-1", "1", "40")
    }


def test_markdown_ranks_the_runs(tmp_path):
    comparison = compare(RUNS, {"game": UP})
    text = "\n".join(map(markdown, significance_tables(comparison)))
    assert "| `gbp` | 3 [3, 3] | 1 [1, 1] |" in text
    assert "| `gradcam` | 1 [1, 1] |" in text
    assert "| game / base | 1.00 |" in text
    write_tests(tmp_path / "tests.csv", comparison)
    with (tmp_path / "tests.csv").open() as file:
        lines = list(csv.DictReader(file))
    assert len(lines) == 3 + 6
    assert [line["metric"] for line in lines] == ["game"] * 9
    assert lines[0]["left"] == "gbp var"
    assert lines[3]["left"] == "gbp base"


def test_a_single_run_has_no_ranking():
    (table,) = significance_tables(compare(RUNS[:1], {"game": UP}))
    assert table.title == "game: refined against base"
