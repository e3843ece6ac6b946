"""Runs side by side, against figures written down by hand."""

import csv
from dataclasses import replace

import numpy as np
import pytest
from named_variants import variant
from PIL import Image

from var_exp.report.comparison_figure import comparison_picture
from var_exp.report.comparison_tables import comparison_tables
from var_exp.report.tables import markdown
from var_exp.results.comparison import Run, write_comparison
from var_exp.results.summary import SummaryRow


def rows(base, var, sparse, difference, empty=0):
    """A metric's figures as a run would have them."""
    low, value, high = difference
    return [
        SummaryRow("game", variant("base"), base, base - 0.01, base + 0.01, 8),
        SummaryRow("game", variant("var"), var, var - 0.01, var + 0.01, 8, empty_map=empty),
        SummaryRow("game", variant("var-base"), value, low, high, 8),
        SummaryRow("game", variant("var_same_sparsity"), sparse, sparse, sparse, 8),
        SummaryRow("game", variant("random_map"), 0.25, 0.25, 0.25, 8),
    ]


def lines_of(runs, higher_is_better):
    """Lines of the one table that there is."""
    (table,) = comparison_tables(runs, higher_is_better)
    return markdown(table).splitlines()


RUNS = [
    Run({"method": "gbp"}, rows(0.3, 0.9, 0.4, (0.55, 0.6, 0.65), empty=3)),
    Run({"method": "ig"}, rows(0.5, 0.4, 0.5, (-0.12, -0.1, -0.08))),
    Run({"method": "rise"}, rows(0.5, 0.51, 0.5, (-0.01, 0.01, 0.03))),
]


def test_table_says_what_is_better_worse_and_open():
    (table,) = comparison_tables(RUNS, {"game": True})
    assert table.title == "game (higher is better)"
    lines = lines_of(RUNS, {"game": True})
    assert lines[0] == "| method | base | `var` |"
    assert lines[2] == "| `gbp` | 0.300 | **0.900** +0.600 [+0.550, +0.650] ∅3 |"
    assert lines[3] == "| `ig` | 0.500 | ~~0.400~~ -0.100 [-0.120, -0.080] |"
    assert lines[4] == "| `rise` | 0.500 | 0.510 +0.010 [-0.010, +0.030] |"


def test_what_sparsity_explains_is_marked():
    beyond = SummaryRow("game", variant("var-var_same_sparsity"), 0.01, -0.01, 0.03, 8)
    explained = Run({"method": "gbp"}, [*RUNS[0].summary, beyond])
    beaten = Run({"method": "gbp"}, [*RUNS[0].summary, replace(beyond, ci_low=0.001)])
    assert "+0.650] = ∅3 |" in lines_of([explained], {"game": True})[2]
    assert "+0.650] ∅3 |" in lines_of([beaten], {"game": True})[2]


def test_direction_turns_better_into_worse():
    lines = lines_of(RUNS, {"game": False})
    assert "~~0.900~~" in lines[2]
    assert "**0.400**" in lines[3]


def test_a_run_without_a_metric_or_a_refiner_has_a_gap():
    other = Run({"method": "rollout"}, [SummaryRow("game", variant("base"), 0.2, 0.1, 0.3, 8)])
    lines = lines_of([*RUNS, other], {"game": True})
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
