"""Tests and ranks over runs, on scores made so that the answer is known."""

import csv

import numpy as np
import pytest
from named_variants import variant

from var_exp.report.comparison_tables import significance_tables
from var_exp.report.tables import markdown
from var_exp.results.comparison import Run, compare, refiner_tests, run_tests, write_tests
from var_exp.results.significance import holm
from var_exp.results.summary import SummaryRow

FIGURES = [
    SummaryRow("game", variant(name), 0, -1, 1, 40)
    for name in ("base", "var", "var-base", "edge_map")
]


def run(label, base, gain):
    generator = np.random.default_rng(len(label))
    scores = {f"s{i}": base + 0.05 * generator.standard_normal() for i in range(40)}
    refined = {
        id: score + gain + 0.02 * generator.standard_normal() for id, score in scores.items()
    }
    columns = {("game", "base"): scores, ("game", "var"): refined, ("game", "edge_map"): scores}
    return Run({"method": label}, FIGURES, columns)


RUNS = [run("gbp", 0.3, 0.5), run("ig", 0.5, 0.0), run("gradcam", 0.6, -0.1)]


def test_a_refiner_without_a_defined_score_is_not_tested():
    empty = Run({"method": "lrp"}, FIGURES, {("game", "base"): RUNS[0].scores["game", "base"]})
    assert refiner_tests([empty], "game") == []
    assert len(refiner_tests([RUNS[0], empty], "game")) == 1
    found = compare([*RUNS, empty], {"game": True})
    assert [len(ranks) for ranks in found.rankings.values()] == [4, 3]


def test_each_refiner_is_tested_against_its_own_base():
    tests = refiner_tests(RUNS, "game")
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
    tests = run_tests(RUNS, "game")
    assert len(tests) == 2 * 3  # base and var, not the control
    assert (tests[0].left, tests[0].right) == ("gbp base", "ig base")
    assert tests[0].difference == pytest.approx(-0.2, abs=0.03)


def test_markdown_ranks_the_runs(tmp_path):
    comparison = compare(RUNS, {"game": True})
    text = "\n".join(map(markdown, significance_tables(comparison)))
    assert "| `gbp` | 3 [3, 3] | 1 [1, 1] |" in text
    assert "| `gradcam` | 1 [1, 1] |" in text
    assert "| game / base | 1.00 |" in text
    write_tests(tmp_path / "tests.csv", comparison)
    with (tmp_path / "tests.csv").open() as file:
        lines = list(csv.DictReader(file))
    assert len(lines) == 3 + 6
    assert lines[0]["left"] == "gbp var"
    assert lines[3]["left"] == "gbp base"


def test_a_single_run_has_no_ranking():
    (table,) = significance_tables(compare(RUNS[:1], {"game": True}))
    assert table.title == "game: refined against base"
