"""The parts of a run, built from a checked configuration and known to fit together."""

import inspect
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import nn

from var_exp.classes import ClassMapping, ClassRule
from var_exp.data.datamodule import collate
from var_exp.data.unreadable import first_readable
from var_exp.methods import Method
from var_exp.metrics import Perturber
from var_exp.metrics.base import SampleMetric
from var_exp.models import class_names, input_spec
from var_exp.refine.base import Refiner
from var_exp.registry import build
from var_exp.types import Batch, ConfigError, InputSpec, Logits, SampleDataset

GIVEN = {
    "data": {"spec", "num_classes", "model_names"},
    "layout": {"dataset", "spec", "model", "workers"},
    "method": {"seed"},
    "classes": {"siblings", "seed"},
    "metric": {"model", "seed"},
    "logger": {"save_dir"},
}
"""Arguments that the program itself hands to the targets of a group."""


@dataclass(frozen=True)
class Experiment:
    """What to attribute, how to let classes compete, what to measure.

    Attributes:
        model: Frozen classifier in eval mode.
        spec: What the model expects to see.
        dataset: Samples in their layout.
        method: Attribution method.
        rule: Which classes compete.
        refiners: Variant name -> refiner.
        make_metrics: Builds a fresh set of metrics by name.
        skipped: Why, by id, of the pictures that were left out before.
        notes: What else a reader should know of the data, label to text.
        class_mapping: Which classes of the model answer for the data's.
        model_names: Names of the model's classes; none when they are the data's.
    """

    model: nn.Module
    spec: InputSpec
    dataset: SampleDataset
    method: Method
    rule: ClassRule
    refiners: Mapping[str, Refiner]
    make_metrics: Callable[[], dict[str, SampleMetric]]
    skipped: Mapping[str, str] = field(default_factory=dict)
    notes: Mapping[str, str] = field(default_factory=dict)
    class_mapping: ClassMapping = field(default_factory=ClassMapping)
    model_names: Sequence[str] = ()


def prepare(root: Mapping[str, Any]) -> Experiment:
    """Build the parts and try them on the first sample, so that errors come before the work.

    Args:
        root: Checked configuration, a node per group.

    Raises:
        VarExpError: the first part that cannot be had or does not fit, in one sentence.
    """
    model: nn.Module = build(root["model"], where="model")
    spec = input_spec(model)
    data: SampleDataset = build(
        root["data"],
        where="data",
        spec=spec,
        num_classes=getattr(model, "num_classes", None),
        model_names=class_names(model),
    )
    if not isinstance(data, SampleDataset):
        raise ConfigError(
            f"{type(data).__name__} is no SampleDataset; derive your class from "
            "var_exp.types.SampleDataset, which has a default for all but five members."
        )
    dataset: SampleDataset = build(
        root["layout"],
        where="layout",
        dataset=data,
        spec=spec,
        model=model,
        workers=root["workers"],
    )
    seed = root["seed"]
    perturber = Perturber(model, spec.std)  # one, so that all metrics and variants share its work
    experiment = Experiment(
        model=model,
        spec=spec,
        dataset=dataset,
        method=build(root["method"], where="method", seed=seed),
        rule=build(root["classes"], where="classes", siblings=data.siblings, seed=seed),
        refiners={
            name: build(node, where=f"refine.{name}")
            for name, node in root["refine"].items()
            if name != "none"  # the base map, which is always scored
        },
        make_metrics=lambda: {
            name: build(node, where=f"metric.{name}", model=perturber, seed=seed)
            for name, node in root["metric"].items()
        },
        skipped=dataset.skipped,
        notes=dataset.notes,
        class_mapping=ClassMapping(dataset.members),
        model_names=dataset.model_names,
    )
    if experiment.refiners and not experiment.method.class_specific:
        raise ConfigError(
            f"{type(experiment.method).__name__} gives all classes the same map, so they cannot "
            "compete; use refine=[none], or another method."
        )
    (batch,) = collate([first_readable(dataset)], spec)
    logits = _try_model(experiment, batch)
    meant, _ = experiment.class_mapping(logits)
    asked = experiment.class_mapping.meanings(batch.asking(logits).named)
    experiment.rule(meant, asked, batch.ids)
    if dataset.fewest is not None:
        fewest = experiment.class_mapping.meanings(dataset.fewest[None])
        experiment.rule(meant, fewest, batch.ids)
    experiment.method.check(model, batch.images)
    _check_metrics(experiment, batch)
    return experiment


def _try_model(experiment: Experiment, batch: Batch) -> Logits:
    height, width = batch.images.shape[-2:]
    try:
        with torch.no_grad():
            logits: Logits = experiment.model(batch.images)
    except (RuntimeError, AssertionError, ValueError) as error:
        raise ConfigError(
            f"the model cannot take pictures of {height} x {width} px ({error}); "
            "use layout.cell=rescaled, layout=single, or another model."
        ) from error
    names = experiment.model_names or experiment.dataset.class_names
    if logits.ndim != 2 or logits.shape[1] != len(names):
        raise ConfigError(
            f"the model has {logits.shape[-1]} classes and the data {len(names)}; "
            "choose data= and model= that belong together."
        )
    return logits


def _check_metrics(experiment: Experiment, batch: Batch) -> None:
    metrics = experiment.make_metrics()
    if not metrics:
        raise ConfigError(
            "metric=[] leaves nothing to measure; choose some, such as metric=[grid_pointing_game]."
        )
    lacking = _lacking(batch)
    for name, metric in metrics.items():
        for argument in inspect.signature(metric.update).parameters:
            if argument in lacking:
                raise ConfigError(f"metric {name} needs {lacking[argument]}.")


def _lacking(batch: Batch) -> dict[str, str]:
    """What metrics may ask for and this run cannot give: argument -> what it is, and the fix."""
    places = batch.regions
    apart = places is not None and places.shape[1] > 1 and not (places.sum(1) > 1).any()
    lacking = {
        "regions": (
            places is None,
            "to know where the classes are and these data do not say; use layout=grid, or metrics "
            "such as metric=[insertion_auc,deletion_auc]",
        ),
        "scope": (
            batch.scope is None,
            "to know the object that is asked about and these data do not say; use "
            "data=critter_siblings, layout=pair, or metric=[energy_pointing_game]",
        ),
        "asked": (batch.classes.shape[1] < 2, "several classes in one picture; use layout=grid"),
        "cells": (
            not apart,
            "several classes in one picture, each in a place of its own; use layout=grid or "
            "layout=pair",
        ),
    }
    return {argument: sentence for argument, (lacks, sentence) in lacking.items() if lacks}
