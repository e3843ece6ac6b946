import math
import random
from dataclasses import astuple, replace

import numpy as np
import pytest
import torch
from named_variants import variant as named

from var_exp.metrics.base import Flag, SampleMetric, flag_names
from var_exp.results.intervals import estimate
from var_exp.results.rows import FLAGS, Row
from var_exp.results.summary import (
    SummaryRow,
    read_summary,
    summarise,
    write_summary,
)
from var_exp.types import BadData


def scored(scores, variant="base", metric="m", classes=1):
    """Rows of consecutive samples, `classes` per sample."""
    return [
        Row(f"id-{i // classes}", i % classes, metric, named(variant), float(score))
        for i, score in enumerate(scores)
    ]


def only(rows, **options):
    (figure,) = summarise(rows, **options)
    return figure


def test_a_figure_is_the_estimate_of_its_rows():
    scores = np.random.default_rng(3).beta(2, 5, size=60)
    ours, expected = only(scored(scores, classes=4)), estimate(scores, np.arange(60) // 4)
    assert ours.value == scores.mean()
    assert (ours.pictures, ours.rows) == (15, 60)
    # but for rounding: ids sort as words
    assert [ours.ci_low, ours.ci_high] == pytest.approx([expected.low, expected.high])
    assert math.isnan(ours.p_value)


def test_dependent_classes_widen_the_interval():
    shared = np.random.default_rng(0).normal(size=100)
    clustered = only(scored(np.repeat(shared, 4), classes=4))
    taken_as_independent = only(scored(np.repeat(shared, 4), classes=1))
    ratio = (clustered.ci_high - clustered.ci_low) / (
        taken_as_independent.ci_high - taken_as_independent.ci_low
    )
    assert ratio == pytest.approx(2.0, rel=0.05)  # sqrt(4): four copies carry no more than one


def test_value_is_the_mean_over_rows_not_over_samples():
    rows = [
        Row("a", 0, "m", named("base"), 0.0),
        *(Row("b", c, "m", named("base"), 1.0) for c in range(3)),
    ]
    assert only(rows).value == 0.75


def test_a_mean_over_classes_weighs_every_class_alike():
    """Three classes of 4, 2 and 1 rows, one of them undefined; the fourth has no defined row."""
    scores = {0: [1, 1, 0, 1], 1: [0, math.nan], 2: [0.5], 3: [math.nan]}
    rows = [
        Row(f"id-{i}", index, metric, named(variant), value * factor)
        for index, values in scores.items()
        for i, value in enumerate(values)
        for metric in ("m", "w")
        for variant, factor in (("base", 1.0), ("var", 0.5))
    ]
    figures = summarise(rows, class_means=["m"])
    values = {(figure.metric, figure.variant.name): figure.value for figure in figures}
    assert values["m", "base"] == pytest.approx((3 / 4 + 0 + 1 / 2) / 3)
    assert values["m", "var-base"] == pytest.approx(-(3 / 4 + 0 + 1 / 2) / 6)
    assert values["w", "base"] == pytest.approx(3.5 / 6)
    assert {figure.n for figure in figures} == {6}
    random.Random(0).shuffle(rows)
    assert set(map(repr, summarise(rows, class_means=["m"]))) == set(map(repr, figures))


def test_intervals_end_where_scores_and_their_differences_end():
    values = {"base": (0.2, 0.9, 0.98), "var": (0.9, 0.1, 1.0)}
    rows = [
        Row(f"id-{i}", 0, metric, named(variant), score)
        for variant, scores in values.items()
        for i, score in enumerate(scores)
        for metric in ("auc", "logit")
    ]
    figures = {(f.metric, f.variant.name): f for f in summarise(rows, bounds={"auc": (0.0, 1.0)})}
    for variant, (lowest, highest) in {"base": (0, 1), "var": (0, 1), "var-base": (-1, 1)}.items():
        free, ended = figures["logit", variant], figures["auc", variant]
        assert free.ci_low < lowest
        assert free.ci_high > highest
        assert (ended.ci_low, ended.ci_high) == (lowest, highest)
        assert (ended.value, ended.n) == (free.value, free.n)


class Recording(SampleMetric):
    """Records what it is given."""

    higher_is_better = True

    def update(self, scores, flags, classes, ids):
        self.record(scores, flags, classes, ids)


@pytest.mark.parametrize("average", ["samples", "classes"])
def test_a_metric_and_the_summary_of_its_rows_say_the_same(average):
    """The torchmetrics state, for those who use a metric alone, and the figures of a run."""
    generator = np.random.default_rng(0)
    metric = Recording()
    metric.average = average
    rows = []
    for _ in range(5):
        ids = [f"id-{i}" for i in generator.integers(12, size=7)]
        classes = [int(label) for label in generator.integers(3, size=7)]
        # one score for each id and class, so that a sample that is repeated repeats its score
        scores = [hash_score(id, label) for id, label in zip(ids, classes, strict=True)]
        flags = [Flag.EMPTY_REGION if math.isnan(score) else Flag.TIED for score in scores]
        state = torch.tensor(scores, dtype=torch.float64)
        metric.update(state, torch.tensor(flags), torch.tensor(classes), ids)
        columns = zip(ids, classes, scores, flags, strict=True)
        rows += [
            Row(id, c, "m", named("base"), score, flag_names(flag))
            for id, c, score, flag in columns
        ]
    figure = only(rows, class_means=["m"] if average == "classes" else [])
    assert figure.value == pytest.approx(metric.compute().item(), rel=1e-14)
    ledger = metric.ledger()
    assert (ledger["samples"], ledger["undefined"]) == (figure.rows, figure.rows - figure.n)
    assert 0 < figure.n < figure.rows < len(rows)
    for flag in FLAGS:
        assert ledger[flag] == getattr(figure, flag)


def hash_score(id, label):
    """A score that the sample and the class alone decide, undefined for some."""
    number = (31 * int(id[3:]) + 17 * label) % 23
    return math.nan if number < 4 else number / 23


def test_undefined_rows_are_left_out_and_counted():
    rows = [
        Row("a", 0, "m", named("base"), 1.0, "tied"),
        Row("b", 0, "m", named("base"), 0.0, "empty_map|tied"),
        Row("c", 0, "m", named("base"), math.nan, "empty_region"),
        Row("d", 0, "m", named("base"), math.nan),
        Row("e", 0, "m", named("base"), math.inf),
    ]
    figure = only(rows)
    assert (figure.value, figure.n) == (0.5, 2)
    ledger = (figure.empty_map, figure.empty_region, figure.non_finite, figure.tied)
    assert ledger == (1, 1, 2, 2)
    assert (figure.rows, figure.pictures) == (5, 2)


def test_nothing_defined_is_nan_and_one_sample_has_no_interval():
    nothing = only(scored([math.nan, math.nan]))
    assert nothing.n == 0
    assert all(map(math.isnan, (nothing.value, nothing.ci_low, nothing.ci_high)))
    single = only([*scored([0.25]), *scored([0.5], variant="base")[1:]])
    assert single.value == 0.25
    assert math.isnan(single.ci_low)


def test_difference_is_paired_over_sample_and_class():
    base = scored([0.1, 0.2, 0.3, math.nan], classes=2)
    refined = scored([0.5, math.nan, 0.4, 0.9], variant="var", classes=2)
    refined[0] = replace(refined[0], flags="tied")
    base[0] = replace(base[0], flags="tied|empty_map")
    extra = Row("elsewhere", 0, "m", named("var"), 1.0, "empty_map")  # no base row to pair with
    figures = {f.variant.name: f for f in summarise([*base, *refined, extra])}
    assert figures["var-base"].value == pytest.approx((0.4 + 0.1) / 2)
    assert figures["var-base"].n == 2
    assert (figures["var-base"].tied, figures["var-base"].empty_map) == (1, 1)
    assert (figures["var-base"].rows, figures["var-base"].pictures) == (4, 2)
    assert (figures["var"].rows, figures["var"].pictures) == (5, 3)
    assert figures["var-base"].non_finite == 2
    assert figures["var"].empty_map == 1


def test_interval_of_a_difference_knows_the_pairing():
    generator = np.random.default_rng(0)
    easy = generator.uniform(size=300)  # how easy a picture is moves both scores alike
    base = scored(0.5 * easy)
    refined = scored(0.5 * easy + 0.02 + generator.normal(0, 0.01, size=300), variant="var")
    figures = {f.variant.name: f for f in summarise([*base, *refined])}
    assert figures["var-base"].ci_low > 0.015
    assert figures["var-base"].p_value < 1e-6
    assert figures["var-base"].ci_high < 0.025
    assert figures["base"].ci_high > figures["var"].ci_low  # unpaired, they could not be told apart


def test_order_of_figures_and_rows():
    variants = ["zebra", "base", "random_map", "var", "edge_map"]
    rows = [
        row
        for metric in ("second", "first")
        for variant in variants
        for row in scored(np.random.default_rng(len(variant)).random(40), variant, metric, 4)
    ]
    figures = summarise(rows)
    order = ["base", "zebra", "var", "zebra-base", "var-base", "random_map", "edge_map"]
    assert [(f.metric, f.variant.name) for f in figures] == [
        (metric, variant) for metric in ("first", "second") for variant in order
    ]
    alone = [row for row in rows if row.metric == "second"]
    assert repr(summarise(alone)) == repr(figures[7:])
    random.Random(0).shuffle(rows)
    assert set(map(repr, summarise(rows))) == set(map(repr, figures))


def test_repeats_of_a_distributed_sampler_count_once():
    rows = scored([0.1, 0.2, 0.3])
    assert repr(summarise([*rows, rows[0]])) == repr(summarise(rows))
    undefined = scored([0.1, math.nan])
    assert repr(summarise(undefined * 2)) == repr(summarise(undefined))
    rounded = replace(rows[0], score=0.1 + 1e-9)
    for repeated in ([rounded, *rows], [*rows, rounded]):
        assert repr(summarise(repeated)) == repr(summarise(rows))


@pytest.mark.parametrize(
    ("extra", "message"),
    [
        (
            Row("id-0", 0, "m", named("base"), 0.9),
            "'id-0' has two scores of m for class 0 .* 0.1 and 0.9",
        ),
        (Row("id-0", 0, "m", named("base"), math.nan), "two scores of m"),
        (
            Row("id-9", 0, "m", named("base"), 0.9, "tied|odd"),
            "flag 'odd' is unknown; use empty_map",
        ),
    ],
)
def test_rows_that_do_not_fit_are_refused(extra, message):
    with pytest.raises(ValueError, match=message):
        summarise([*scored([0.1, 0.2]), extra])


def test_no_rows_no_figures():
    assert summarise([]) == []


def test_summary_comes_back_exactly(tmp_path):
    path = tmp_path / "summary.csv"
    figures = [
        SummaryRow("m", named("base"), 1 / 3, 0.1 + 0.2, 0.5, 7, 1, 2, 3, 4, 5, 9, 6, 1 / 7),
        SummaryRow("m", named("var-base"), math.nan, math.nan, math.nan, 0),
    ]
    write_summary(path, figures, record="0123456789ab")
    assert path.read_text().splitlines()[0] == (
        "metric,variant,value,ci_low,ci_high,n,empty_map,empty_region,non_finite,tied,"
        "nothing_positive,role,of,rows,pictures,p_value,record"
    )
    line = f",7,1,2,3,4,5,base,,9,6,{1 / 7},0123456789ab"
    assert path.read_text().splitlines()[1].endswith(line)
    first, second = read_summary(path)
    assert first == figures[0]
    assert repr(astuple(second)) == repr(astuple(figures[1]))


def test_another_file_is_not_a_summary(tmp_path):
    path = tmp_path / "summary.csv"
    path.write_text("metric,value\nm,1\n")
    with pytest.raises(BadData, match=r"must have the columns metric, .* got metric, value"):
        read_summary(path)


def test_an_empty_map_is_not_one_without_anything_positive():
    rows = [
        Row("a", 0, "m", named("base"), 0.0, "empty_map"),
        Row("b", 0, "m", named("base"), 0.0, "nothing_positive"),
        Row("c", 0, "m", named("base"), math.nan, "empty_map"),
    ]
    figure = only(rows)
    assert (figure.empty_map, figure.nothing_positive, figure.rows, figure.n) == (2, 1, 3, 2)
    assert figure.all_empty
    assert not only([*rows, Row("d", 0, "m", named("base"), 0.0)]).all_empty
    assert not SummaryRow("m", named("base"), 0, 0, 0, 0).all_empty


def test_the_refined_map_is_compared_with_its_own_control_pair_by_pair():
    rows = [
        Row(f"s{i}", 0, "game", named(variant), score)
        for i in range(50)
        for variant, score in (
            ("base", i / 50),
            ("var", i / 50 + 0.01),
            ("var_same_sparsity", i / 50 + 0.004),
        )
    ]
    found = {row.variant.name: row for row in summarise(rows)}
    beyond = found["var-var_same_sparsity"]
    assert beyond.value == pytest.approx(0.006)
    assert beyond.ci_low == pytest.approx(beyond.ci_high)  # paired, though the scores spread
    assert beyond.n == 50
