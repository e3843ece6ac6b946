"""What a run found, all of it computed from its store."""

from collections.abc import Mapping
from dataclasses import dataclass
from math import isqrt

import numpy as np
import torch

from var_exp.metrics.base import SampleMetric, Traits
from var_exp.metrics.curve_metric import CurveMetric
from var_exp.metrics.segmentation import Segmentation
from var_exp.results.curves import Curves, MeanMatrix
from var_exp.results.store import Store
from var_exp.results.summary import SummaryRow, summarise


@dataclass(frozen=True)
class Results:
    """What is reported of a run.

    Attributes:
        summary: Figures of every metric and variant.
        traits: What each metric is, in the order of the configuration.
        curves: Mean curves, one set of lines per metric that has them.
        matrices: Mean matrices, one set per metric that has them.
        chance: Score of a map without information, for the metrics where that is the area asked.
        facts: What else a reader should know, label to text.
    """

    summary: list[SummaryRow]
    traits: dict[str, Traits]
    curves: list[Curves]
    matrices: list[MeanMatrix]
    chance: dict[str, float]
    facts: dict[str, str]

    @property
    def directions(self) -> dict[str, bool]:
        """Whether higher is better, by metric."""
        return {name: its.higher_is_better for name, its in self.traits.items()}


def results_of(
    store: Store,
    metrics: Mapping[str, SampleMetric],
    *,
    asks_prediction: bool = False,
) -> Results:
    """Read a store in which every sample is done.

    Args:
        store: What was measured.
        metrics: The metrics by name, for what they are and how they draw.
        asks_prediction: Whether what the model predicts was asked about, so that it says nothing
            that the top-1 class is among those asked.
    """
    area = store.facts("area")
    bounds = {name: metric.bounds for name, metric in metrics.items()}
    class_means = [name for name, metric in metrics.items() if metric.average == "classes"]
    at_random = [name for name, metric in metrics.items() if metric.chance_is_area]
    return Results(
        summary=[
            figure
            for name in store.metrics()  # one at a time, which bounds the memory
            for figure in summarise(store.rows(name), class_means=class_means, bounds=bounds)
        ],
        traits={name: metric.traits for name, metric in metrics.items()},
        curves=_curves(store, metrics),
        matrices=_matrices(store, metrics),
        chance=dict.fromkeys(at_random, float(area.mean())) if len(area) else {},
        facts={**_facts(store, asks_prediction), **_pooled(store, metrics)},
    )


def _curves(store: Store, metrics: Mapping[str, SampleMetric]) -> list[Curves]:
    drawn = {name: metric for name, metric in metrics.items() if isinstance(metric, CurveMetric)}
    means = store.means("curves") if drawn else {}
    return [
        Curves(
            title=name,
            x_label=metric.x_label,
            y_label=metric.y_label(),
            x=metric.places(),
            lines={
                variant.name: mean.tolist()
                for (owner, variant), mean in means.items()
                if owner == name
            },
        )
        for name, metric in drawn.items()
    ]


def _matrices(store: Store, metrics: Mapping[str, SampleMetric]) -> list[MeanMatrix]:
    """Of the base and the refiners; a measure whose samples differ in their number has none."""
    found = []
    for name, metric in metrics.items():
        means = store.means(metric.matrix_state) if metric.matrix_state else {}
        values = {
            variant.name: mean.reshape(isqrt(len(mean)), -1).tolist()
            for (owner, variant), mean in means.items()
            if owner == name and variant.role in ("base", "refined")
        }
        if values:
            found.append(MeanMatrix(name, *metric.matrix_axes, values))
    return found


def _pooled(store: Store, metrics: Mapping[str, SampleMetric]) -> dict[str, str]:
    """What segmentation papers print: the figure of the pixels of all pictures together."""
    pooling = {name: metric for name, metric in metrics.items() if isinstance(metric, Segmentation)}
    means = store.means(Segmentation.matrix_state) if pooling else {}
    return {
        f"{name}, pooled over pixels": ", ".join(
            f"{variant.name} {float(metric.pooled_of(torch.tensor(mean.reshape(2, 2)))):.4f}"
            for (owner, variant), mean in means.items()
            if owner == name and variant.role in ("base", "refined")
        )
        for name, metric in pooling.items()
    }


def _facts(store: Store, asks_prediction: bool) -> dict[str, str]:
    facts = {}
    if not asks_prediction:
        facts["top-1 class is one of those asked"] = f"{store.facts('top1_asked').mean():.3f}"
    error = store.facts("completeness_error")
    if (defined := ~np.isnan(error)).any():
        # the median, since a logit that hardly changes makes a huge relative error
        facts["completeness error, median |relative|"] = f"{np.median(error[defined]):.1e}"
    return facts
