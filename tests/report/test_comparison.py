"""Runs side by side, against figures written down by hand."""

import csv
from dataclasses import replace

import numpy as np
import pytest
from PIL import Image

from var_exp.report.comparison import Run, comparison_picture, markdown, write_comparison
from var_exp.report.statistics import SummaryRow


def rows(base, var, sparse, difference, empty=0):
    """A metric's figures as a run would have them."""
    low, value, high = difference
    return [
        SummaryRow("game", "base", base, base - 0.01, base + 0.01, 8),
        SummaryRow("game", "var", var, var - 0.01, var + 0.01, 8, empty_map=empty),
        SummaryRow("game", "var-base", value, low, high, 8),
        SummaryRow("game", "var_same_sparsity", sparse, sparse, sparse, 8),
        SummaryRow("game", "random_map", 0.25, 0.25, 0.25, 8),
    ]


RUNS = [
    Run({"method": "gbp"}, rows(0.3, 0.9, 0.4, (0.55, 0.6, 0.65), empty=3)),
    Run({"method": "ig"}, rows(0.5, 0.4, 0.5, (-0.12, -0.1, -0.08))),
    Run({"method": "rise"}, rows(0.5, 0.51, 0.5, (-0.01, 0.01, 0.03))),
]


def test_table_says_what_is_better_worse_and_open():
    lines = markdown(RUNS, {"game": True}).splitlines()
    assert lines[0] == "## game (higher is better)"
    assert lines[2] == "| method | base | `var` |"
    assert lines[4] == "| `gbp` | 0.300 | **0.900** +0.600 [+0.550, +0.650] ∅3 |"
    assert lines[5] == "| `ig` | 0.500 | ~~0.400~~ -0.100 [-0.120, -0.080] |"
    assert lines[6] == "| `rise` | 0.500 | 0.510 +0.010 [-0.010, +0.030] |"


def test_what_sparsity_explains_is_marked():
    beyond = SummaryRow("game", "var-var_same_sparsity", 0.01, -0.01, 0.03, 8)
    explained = Run({"method": "gbp"}, [*RUNS[0].summary, beyond])
    beaten = Run({"method": "gbp"}, [*RUNS[0].summary, replace(beyond, ci_low=0.001)])
    assert "+0.650] = ∅3 |" in markdown([explained], {"game": True})
    assert "+0.650] ∅3 |" in markdown([beaten], {"game": True})


def test_direction_turns_better_into_worse():
    lines = markdown(RUNS, {"game": False}).splitlines()
    assert "~~0.900~~" in lines[4]
    assert "**0.400**" in lines[5]


def test_a_run_without_a_metric_or_a_refiner_has_a_gap():
    other = Run({"method": "rollout"}, [SummaryRow("game", "base", 0.2, 0.1, 0.3, 8)])
    lines = markdown([*RUNS, other], {"game": True}).splitlines()
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


@pytest.mark.parametrize("kind", ["png", "pdf", "svg"])
def test_picture_is_written(tmp_path, kind):
    comparison_picture(tmp_path / f"sweep.{kind}", RUNS, {"game": True})
    assert (tmp_path / f"sweep.{kind}").stat().st_size > 3000


def test_every_run_has_its_dots(tmp_path):
    comparison_picture(tmp_path / "sweep.png", RUNS, {"game": True})
    pixels = np.asarray(Image.open(tmp_path / "sweep.png").convert("RGB")).astype(int)
    red = (abs(pixels - (0xC1, 0x27, 0x2D)).sum(2) < 30).sum(1) > 10  # rows of pixels with a dot
    dots = np.flatnonzero(np.diff(np.concatenate([[0], red, [0]])) == 1)
    assert len(dots) == len(RUNS) + 1  # and the legend's
