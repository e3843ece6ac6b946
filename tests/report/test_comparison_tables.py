"""Runs side by side, against figures written down by hand."""

import csv
from dataclasses import replace

import numpy as np
import pytest
from named_variants import variant
from PIL import Image

from var_exp.metrics.base import Traits
from var_exp.report.comparison_figure import comparison_picture
from var_exp.report.comparison_tables import comparison_tables
from var_exp.report.tables import markdown
from var_exp.results.comparison import Run, compare, write_comparison
from var_exp.results.summary import SummaryRow

UP, DOWN = Traits(higher_is_better=True), Traits(higher_is_better=False)


def figure(name, value, low, high, **ledger):
    p_value = 0.3 if low <= 0 <= high else 0.0001
    counts = {"rows": 60, "pictures": 60, "p_value": p_value, **ledger}
    return SummaryRow("game", variant(name), value, low, high, 60, **counts)


def run(method, base, var, sparse, difference, empty=0):
    """A run whose figures and scores say the same: its differences have the interval's spread."""
    low, value, high = difference
    figures = [
        figure("base", base, base - 0.01, base + 0.01),
        figure("var", var, var - 0.01, var + 0.01, empty_map=empty, nothing_positive=empty),
        figure("var-base", value, low, high),
        figure("var_same_sparsity", sparse, sparse, sparse),
        figure("random_map", 0.25, 0.25, 0.25),
    ]
    spread = (high - low) / 4 * 60**0.5
    scores = {
        ("game", "base"): {(f"s{i}", 0): base for i in range(60)},
        ("game", "var"): {(f"s{i}", 0): base + value + spread * (-1) ** i for i in range(60)},
    }
    return Run({"method": method}, figures, scores)


def lines_of(runs, traits):
    """Lines of the one table that there is."""
    (table,) = comparison_tables(compare(runs, traits))
    return markdown(table).splitlines()


RUNS = [
    run("gbp", 0.3, 0.9, 0.4, (0.55, 0.6, 0.65), empty=3),
    run("ig", 0.5, 0.4, 0.5, (-0.12, -0.1, -0.08)),
    run("rise", 0.5, 0.51, 0.5, (-0.01, 0.01, 0.03)),
]


def test_table_says_what_is_better_worse_and_open():
    (table,) = comparison_tables(compare(RUNS, {"game": UP}))
    assert table.title == "game (higher is better)"
    lines = lines_of(RUNS, {"game": UP})
    assert lines[0] == "| method | base | `var` |"
    assert lines[2] == "| `gbp` | 0.300 | **0.900** +0.600 [+0.550, +0.650] ∅6 |"
    assert lines[3] == "| `ig` | 0.500 | ~~0.400~~ -0.100 [-0.120, -0.080] |"
    assert lines[4] == "| `rise` | 0.500 | 0.510 +0.010 [-0.010, +0.030] |"


def test_what_sparsity_explains_is_marked():
    first, name = RUNS[0], "var-var_same_sparsity"
    explained = replace(first, summary=[*first.summary, figure(name, 0.01, -0.01, 0.03)])
    beaten = replace(first, summary=[*first.summary, figure(name, 0.01, 0.001, 0.03)])
    assert "+0.650] = ∅6 |" in lines_of([explained], {"game": UP})[2]
    assert "+0.650] ∅6 |" in lines_of([beaten], {"game": UP})[2]


def test_direction_turns_better_into_worse():
    lines = lines_of(RUNS, {"game": DOWN})
    assert "~~0.900~~" in lines[2]
    assert "**0.400**" in lines[3]


def test_marks_are_those_of_the_corrected_tests():
    """One of thirteen runs has an interval that hardly excludes 0: a chance find."""
    many = [run(f"m{i}", 0.5, 0.51, 0.5, (-0.01, 0.01, 0.03)) for i in range(12)]
    chance = run("found", 0.5, 0.52, 0.5, (0.001, 0.021, 0.041))
    assert "**" in lines_of([chance], {"game": UP})[2]
    assert "**" not in "".join(lines_of([chance, *many], {"game": UP}))


def test_a_run_without_a_metric_or_a_refiner_has_a_gap():
    other = Run({"method": "rollout"}, [SummaryRow("game", variant("base"), 0.2, 0.1, 0.3, 8)])
    lines = lines_of([*RUNS, other], {"game": UP})
    assert "| `rollout` | 0.200 | - |" in lines


def test_file_holds_every_figure(tmp_path):
    write_comparison(tmp_path / "sweep.csv", RUNS)
    with (tmp_path / "sweep.csv").open() as file:
        lines = list(csv.DictReader(file))
    assert len(lines) == 15
    assert lines[6]["method"] == "ig"
    assert lines[6]["variant"] == "var"
    assert float(lines[6]["value"]) == 0.4
    assert int(lines[1]["empty_map"]) == 3


@pytest.fixture(scope="module")
def picture(tmp_path_factory):
    """Files of the picture by kind."""
    stem = tmp_path_factory.mktemp("picture") / "sweep"
    files = comparison_picture(stem, RUNS, {"game": True})
    return {file.suffix: file for file in files}


def test_fonts_are_embedded_and_the_files_the_same_in_every_repeat(picture, tmp_path):
    assert b"/FontFile2" in picture[".pdf"].read_bytes()
    assert b"<text" not in picture[".svg"].read_bytes()
    for file in comparison_picture(tmp_path / "sweep", RUNS, {"game": True}):
        assert file.read_bytes() == picture[file.suffix].read_bytes()


def test_every_run_has_its_dots(picture):
    pixels = np.asarray(Image.open(picture[".png"]).convert("RGB")).astype(int)
    red = (abs(pixels - (0xB2, 0x18, 0x2B)).sum(2) < 30).sum(1) > 10  # rows of pixels with a dot
    dots = np.flatnonzero(np.diff(np.concatenate([[0], red, [0]])) == 1)
    assert len(dots) == len(RUNS) + 1  # and the legend's
