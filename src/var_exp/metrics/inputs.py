"""What a metric may ask for: its `update` names these as arguments, and a run hands them over.

N is the number of maps, one for each class that is asked about in each picture of a batch.
"""

import inspect
from collections.abc import Callable
from dataclasses import dataclass

from var_exp.conf_files import did_you_mean
from var_exp.metrics.base import SampleMetric
from var_exp.types import Batch, ConfigError


def _never(batch: Batch) -> bool:
    return False


def _not_apart(batch: Batch) -> bool:
    """Whether the classes asked about do not have each a place of its own."""
    places = batch.regions
    return places is None or places.shape[1] < 2 or bool((places.sum(1) > 1).any())


@dataclass(frozen=True)
class Input:
    """One thing that a metric may ask for.

    Attributes:
        meaning: What it is.
        missing: Whether a run with such batches cannot give it.
        need: What is needed then, and what to do: the end of "metric x needs ...".
    """

    meaning: str
    missing: Callable[[Batch], bool] = _never
    need: str = ""


INPUTS = {
    "maps": Input("[N, c, H, W], the maps to score, raw and signed"),
    "classes": Input("[N] int64, the class of each map"),
    "ids": Input("N strings, the sample of each map"),
    "images": Input("[N, C, H, W], the pictures, normalised as the model expects"),
    "base_maps": Input("[N, c, H, W], the base map of each, whatever is scored"),
    "competitors": Input("[N] int64, the strongest other competing class of each, by its logit"),
    "asked": Input(
        "[N, A] int64, all classes that are asked about in the picture of each map",
        lambda batch: batch.classes.shape[1] < 2,
        "several classes in one picture; use layout=grid",
    ),
    "own": Input("[N] int64, which of the A classes asked about each map belongs to"),
    "regions": Input(
        "[N, H, W] bool, where the class of each map is",
        lambda batch: batch.regions is None,
        "to know where the classes are and these data do not say; use layout=grid, or metrics such "
        "as metric=[insertion_auc,deletion_auc]",
    ),
    "cells": Input(
        "[N, A, H, W] bool, where each of the A classes asked about is, without overlap",
        _not_apart,
        "several classes in one picture, each in a place of its own; use layout=grid or "
        "layout=pair",
    ),
    "scope": Input(
        "[N, H, W] bool, the object of which the region is a part",
        lambda batch: batch.scope is None,
        "to know the object that is asked about and these data do not say; use "
        "data=critter_siblings, layout=pair, or metric=[energy_pointing_game]",
    ),
    "without": Input(
        "[N, P, C, H, W], each picture without each of P things in it, normalised; the first "
        "without what its region shows",
        lambda batch: batch.without is None,
        "pictures without a part, which can be had where pictures are drawn; use "
        "experiment=part_deletion or experiment=shortcut",
    ),
    "other_maps": Input("[N, c, H, W], the map of another competing class of the same picture"),
    "reattribute": Input(
        "a `var_exp.metrics.reattribution.Reattribute`, which attributes the batch again with "
        "another model or other pictures"
    ),
}
"""All that there is, by name."""


def inputs_of(name: str, metric: SampleMetric) -> dict[str, bool]:
    """What a metric asks for, and whether it can do without.

    Args:
        name: Of the metric, for the error message.
        metric: The metric.

    Raises:
        ConfigError: it asks for what no run can give.
    """
    asked = {
        key: parameter.default is not parameter.empty
        for key, parameter in inspect.signature(metric.update).parameters.items()
        if parameter.kind not in (parameter.VAR_POSITIONAL, parameter.VAR_KEYWORD)
    }
    for key in asked:
        if key not in INPUTS:
            raise ConfigError(
                f"metric {name} asks for '{key}' in its update, which no run can give"
                f"{did_you_mean(key, list(INPUTS))}; it may ask for {', '.join(INPUTS)}."
            )
    return asked


def check_inputs_of(name: str, metric: SampleMetric, batch: Batch) -> None:
    """Refuse a metric that needs what a run with such batches cannot give.

    Raises:
        ConfigError: it does, or asks for what no run can give.
    """
    for key, optional in inputs_of(name, metric).items():
        if not optional and INPUTS[key].missing(batch):
            raise ConfigError(f"metric {name} needs {INPUTS[key].need}.")
