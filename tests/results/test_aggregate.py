"""Matrices of a run are the means that a loop over its maps gives."""

import torch
from named_variants import variant as named

from var_exp.metrics import GridConfusion, GridPointingGame, Segmentation
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
