"""What a run found is what loops over its maps and rows give."""

import math

import pytest
import torch
from named_variants import variant as named

from var_exp.metrics import (
    DeletionAUC,
    GridConfusion,
    GridPointingGame,
    InsertionAUC,
    Segmentation,
)
from var_exp.metrics.base import Recorded
from var_exp.results.aggregate import results_of
from var_exp.results.batch_scores import BatchScores
from var_exp.results.store import Store


def cells(count, side=4):
    """`count` columns of pixels, one per cell."""
    place = torch.arange(count * side) // side
    return (place[None] == torch.arange(count)[:, None])[:, None].expand(-1, 3, -1)


def committed(samples):
    """A store of maps [A, 1, h, w] per sample, under the variants base and var."""
    store = Store(None, [f"{i}" for i in range(len(samples))])
    for i, maps in enumerate(samples):
        count = len(maps)
        scored = BatchScores([f"{i}"])
        for variant, drawn in (("base", maps), ("var", maps.relu() ** 2)):
            metric = GridConfusion()
            metric.update(
                maps=drawn,
                cells=cells(count)[None].expand(count, -1, -1, -1),
                own=torch.arange(count),
            )
            owners, classes = [f"{i}"] * count, list(range(count))
            scored.add("confusion", named(variant), owners, classes, metric.drain())
        scored.note("top1_asked", torch.ones(1))
        store.commit(scored)
    return store


def found(samples):
    metrics = {"confusion": GridConfusion(), "game": GridPointingGame()}
    return results_of(committed(samples), metrics).matrices


def test_matrices_are_the_mean_shares_of_a_loop():
    generator = torch.Generator().manual_seed(0)
    samples = [torch.randn(3, 1, 3, 12, generator=generator).double() for _ in range(5)]
    (matrix,) = found(samples)
    assert (matrix.title, list(matrix.values)) == ("confusion", ["base", "var"])
    for variant, power in (("base", 1), ("var", 2)):
        for i in range(3):
            for j in range(3):
                shares = []
                for maps in samples:
                    positive = maps[i, 0].relu() ** power
                    shares.append(positive[:, 4 * j : 4 * j + 4].sum() / positive.sum())
                mean = sum(shares) / len(shares)
                assert abs(matrix.values[variant][i][j] - mean) < 1e-6


def test_samples_with_different_numbers_of_cells_have_no_matrix():
    assert found([torch.rand(2, 1, 3, 8), torch.rand(3, 1, 3, 12)]) == []


def recorded(scores, **details):
    scores = torch.tensor(scores, dtype=torch.float64)
    return Recorded(scores, torch.zeros(len(scores), dtype=torch.int64), details)


def test_each_measure_has_its_own_matrix_of_base_and_refiners_alone():
    store, metrics = Store(None, ["a"]), {"one": GridConfusion(), "two": GridConfusion()}
    scored = BatchScores(["a"])
    for metric, share in (("one", 0.25), ("two", 0.75)):
        for variant in ("base", "var", "edge_map", "var_same_sparsity"):
            given = {GridConfusion.matrix_state: torch.full((2, 4), share)}
            scored.add(metric, named(variant), ["a", "a"], [0, 1], recorded([0, 0], **given))
    scored.note("top1_asked", torch.ones(1))
    store.commit(scored)
    for matrix, share in zip(results_of(store, metrics).matrices, (0.25, 0.75), strict=True):
        whole = [[share, share], [share, share]]
        assert matrix.values == {"base": whole, "var": whole}


def test_curves_are_the_means_of_each_variant_and_only_of_measures_that_have_them():
    def model(images):
        return images.flatten(1)[:, :2]

    metrics = {
        "insertion": InsertionAUC(model, steps=2),
        "deletion": DeletionAUC(model, steps=2, score="logit"),
        "game": GridPointingGame(),
    }
    store = Store(None, ["a", "b"])
    for id, height in (("a", 0.0), ("b", 1.0)):
        scored = BatchScores([id])
        for name, lift in (("insertion", 1), ("deletion", 2)):
            for variant, factor in (("base", 1), ("var", 3)):
                curve = torch.tensor([[height, 0.5, lift * factor]])
                scored.add(name, named(variant), [id], [0], recorded([0], curves=curve))
        scored.add("game", named("base"), [id], [0], recorded([0.5]))
        scored.note("top1_asked", torch.ones(1))
        store.commit(scored)
    insertion, deletion = results_of(store, metrics).curves
    assert (insertion.title, insertion.x_label) == ("insertion", "share of the pixels")
    assert insertion.x == deletion.x == [0, 0.5, 1]
    assert insertion.y_label == "mean probability of the class"
    assert (deletion.title, deletion.y_label) == ("deletion", "mean logit of the class")
    assert insertion.lines == {"base": [0.5, 0.5, 1], "var": [0.5, 0.5, 3]}
    assert deletion.lines == {"base": [0.5, 0.5, 2], "var": [0.5, 0.5, 6]}


def test_figures_and_facts_are_those_of_plain_loops():
    store = Store(None, list("abcd"))
    scores, right, errors = [0.2, 0.4, 0.9, 0.1], [1, 0, 1, 1], [0.1, math.nan, 0.3, 0.2]
    for id, score, top1, error in zip("abcd", scores, right, errors, strict=True):
        scored = BatchScores([id])
        for metric, factor in (("game", 1), ("other", 2)):
            scored.add(metric, named("base"), [id], [0], recorded([factor * score]))
        scored.note("top1_asked", torch.tensor([top1]))
        scored.note("completeness_error", torch.tensor([error]))
        store.commit(scored)
    metrics = {"game": GridPointingGame(), "other": GridPointingGame()}
    found = results_of(store, metrics)
    assert [(row.metric, row.variant.name, row.n) for row in found.summary] == [
        ("game", "base", 4),
        ("other", "base", 4),
    ]
    assert [row.value for row in found.summary] == [pytest.approx(0.4), pytest.approx(0.8)]
    assert found.facts == {
        "top-1 class is one of those asked": "0.750",
        "completeness error, median |relative|": "2.0e-01",
    }
    assert found.directions == {"game": True, "other": True}
    asked = results_of(store, metrics, asks_prediction=True)
    assert list(asked.facts) == ["completeness error, median |relative|"]


def test_segmentation_figures_are_pooled_over_the_pixels_of_all_pictures():
    """By counting: the mean over pictures is another figure."""
    generator = torch.Generator().manual_seed(0)
    maps = torch.randn(7, 1, 6, 6, generator=generator)
    regions = torch.rand(7, 6, 6, generator=generator) < torch.linspace(0.1, 0.9, 7)[:, None, None]
    store, metric = Store(None, [f"{i}" for i in range(7)]), Segmentation("miou")
    for i in range(7):
        metric.update(maps=maps[i : i + 1], regions=regions[i : i + 1])
        scored = BatchScores([f"{i}"])
        scored.add("miou", named("base"), [f"{i}"], [0], metric.drain())
        scored.note("top1_asked", torch.ones(1))
        store.commit(scored)
    marked = maps[:, 0] > maps.mean((2, 3))[:, :, None]
    ious = [
        (marked == side)[regions == side].sum().item()
        / ((marked == side) | (regions == side)).sum().item()
        for side in (True, False)
    ]
    told = results_of(store, {"miou": Segmentation("miou")}).facts["miou, pooled over pixels"]
    assert told == f"base {sum(ious) / 2:.4f}"


def test_chance_is_the_mean_area_for_the_metrics_of_which_it_is():
    metrics = {"game": GridPointingGame(), "confusion": GridConfusion()}
    assert not GridConfusion().chance_is_area
    store = Store(None, ["a", "b"])
    for id, area in (("a", 0.25), ("b", 0.5)):
        scored = BatchScores([id])
        scored.note("top1_asked", torch.ones(1))
        scored.note("area", torch.tensor([area]))
        store.commit(scored)
    assert results_of(store, metrics).chance == {"game": 0.375}
    assert results_of(committed([torch.rand(2, 1, 3, 8)]), metrics).chance == {}
