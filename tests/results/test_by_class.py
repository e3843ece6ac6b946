"""Figures of a class are those of its rows alone."""

import numpy as np
import pytest
from named_variants import variant as named

from var_exp.results.by_class import by_class
from var_exp.results.intervals import estimate
from var_exp.results.rows import Row

NAMES = ["cat", "dog", "ant"]


def rows():
    generator = np.random.default_rng(0)
    return [
        Row(f"{i}", label, "m", named(variant), float(generator.random()))
        for i in range(20)
        for label in (0, 1, 2)[: 1 + i % 3]
        for variant in ("base", "var", "cgi", "random_map")
    ]


def test_means_differences_and_counts_are_those_of_a_loop():
    (table,) = by_class(rows(), NAMES).values()
    assert [figures.name for figures in table] == ["ant", "cat", "dog"]
    for figures in table:
        label = NAMES.index(figures.name)
        scores = {
            name: [
                row.score for row in rows() if (row.class_index, row.variant.name) == (label, name)
            ]
            for name in ("base", "var", "cgi")
        }
        assert figures.base.n == len(scores["base"])
        assert figures.base.value == pytest.approx(np.mean(scores["base"]))
        assert list(figures.refined) == ["var", "cgi"]
        for name, (value, difference) in figures.refined.items():
            assert value.value == pytest.approx(np.mean(scores[name]))
            gaps = np.subtract(scores[name], scores["base"])
            assert difference.value == pytest.approx(gaps.mean())
            ends = estimate(gaps, np.arange(len(gaps)))
            assert difference.ci_low == pytest.approx(ends.low)
            assert difference.ci_high == pytest.approx(ends.high)


def test_a_single_class_has_no_breakdown():
    assert by_class([row for row in rows() if row.class_index == 1], NAMES) == {}


def test_undefined_scores_are_counted_not_patched():
    undefined = [Row("0", 0, "m", named("base"), float("nan"), "empty_region")]
    table = by_class([*undefined, Row("1", 1, "m", named("base"), 0.5)], NAMES)["m"]
    assert [figures.base.n for figures in table] == [0, 1]
    assert table[0].base.empty_region == 1
