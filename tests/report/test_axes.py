import math
from dataclasses import replace
from math import nan

import numpy as np
import pytest
from named_variants import variant

from var_exp.report.axes import axis_of, axis_over, curve_axis, curve_points, matrix_depth
from var_exp.results.curves import Curves, MeanMatrix, read_curves, write_curves
from var_exp.results.summary import SummaryRow
from var_exp.types import BadData


@pytest.mark.parametrize(
    "values",
    [[0.0, 1.0], [0.2512, 0.2513], [-0.02, 0.6], [5.0], [1e-9, 2e-9], [-3e5, 4e5, math.nan], []],
)
def test_axis_covers_its_values_with_few_ticks(values):
    axis = axis_over(values)
    assert 2 <= len(axis.ticks) <= 7
    assert (np.diff(axis.ticks) > 0).all()
    places = [axis.at(value) for value in values if math.isfinite(value)]
    assert all(2.9 <= place <= 97.1 for place in places)
    assert (axis.at(axis.ticks[0]), axis.at(axis.ticks[-1])) == (3.0, 97.0)


def test_axis_of_figures_covers_intervals_and_marks():
    rows = [
        SummaryRow("m", variant("var"), 0.9, 0.85, 0.95, 10),
        SummaryRow("m", variant("x"), *[math.nan] * 3, 0),
    ]
    axis = axis_of(rows, 0.25)
    assert axis.ticks[0] <= 0.25
    assert axis.ticks[-1] >= 0.95


def test_points_of_a_curve():
    curves = Curves("t", "x", "y", [0, 1, 4], {"base": [0.0, 1.0, 0.5], "var": [0, math.nan, 1]})
    assert curve_axis(curves).ticks[0] == 0
    assert curve_axis(curves).ticks[-1] == 1
    assert curve_points(curves, "base") == "0.00,100.00 25.00,0.00 100.00,50.00"
    assert curve_points(curves, "var") == "0.00,100.00 100.00,0.00"


def test_curves_that_do_not_fit_are_refused():
    with pytest.raises(ValueError, match="line 'var' of curves 't' must have 2 values, got 3"):
        Curves("t", "x", "y", [0, 1], {"var": [0, 1, 2]})
    with pytest.raises(ValueError, match="two places or more, got 1"):
        Curves("t", "x", "y", [0], {})


def test_a_matrix_is_coloured_by_its_largest_entry_of_any_variant():
    matrix = MeanMatrix("m", "row", "column", {"base": [[0.5, nan], [0.0, 0.25]], "var": [[-2.0]]})
    assert [matrix_depth(matrix, value) for value in (0.5, nan, 0.0, -2.0)] == [25, 0, 0, 100]
    assert matrix_depth(MeanMatrix("m", "row", "column", {"base": [[0.0]]}), 0.0) == 0


def test_curves_are_read_back_as_they_were_written(tmp_path):
    curves = [
        Curves("a", "share", "p", [0, 0.5, 1], {"base": [0.1, 1 / 3, 1], "var": [0, 0.25, 0.5]}),
        Curves("b", "stage", "rank", [0, 1], {"base": [1, float("nan")]}),
    ]
    write_curves(tmp_path / "curves.csv", curves)
    read = read_curves(tmp_path / "curves.csv")
    assert read[0] == curves[0]
    assert str(read[1]) == str(replace(curves[1], x=[0.0, 1.0], lines={"base": [1.0, math.nan]}))
    assert read_curves(tmp_path / "none.csv") == []
    (tmp_path / "curves.csv").write_text("a,b\n")
    with pytest.raises(BadData, match="must have the columns metric"):
        read_curves(tmp_path / "curves.csv")
