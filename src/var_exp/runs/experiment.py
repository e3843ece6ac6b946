"""The parts of a run, built from a checked configuration and known to fit together."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from torch import nn

from var_exp.classes import ClassMapping, ClassRule, Named, TopK
from var_exp.data.batches import collate
from var_exp.data.imagenet_classes import names_of_classes
from var_exp.data.questions import AskedAbout, check_pictures
from var_exp.data.unreadable import first_readable
from var_exp.methods import Method
from var_exp.methods.preparation import prepare as made_ready
from var_exp.metrics import Perturber
from var_exp.metrics.base import SampleMetric
from var_exp.metrics.inputs import check_inputs_of, inputs_of
from var_exp.models import (
    class_names,
    classes_of,
    declare,
    describe,
    head_of,
    input_spec,
    returning_logits,
)
from var_exp.models.declared import Head
from var_exp.refine.base import Refiner, takes_logits
from var_exp.registry import build, from_alias
from var_exp.types import (
    PREDICTED,
    Batch,
    ConfigError,
    InputSpec,
    Logits,
    SampleDataset,
    UnsupportedModel,
)


@dataclass(frozen=True)
class Experiment:
    """What to attribute, how to let classes compete, what to measure.

    Attributes:
        model: Frozen classifier in eval mode, as it was given.
        ready: The same made ready for the method, see `var_exp.prepare`; or the model itself.
        spec: What the model expects to see.
        dataset: Samples in their layout.
        method: Attribution method.
        rule: Which classes compete.
        refiners: Variant name -> refiner.
        make_metrics: Builds a fresh set of metrics by name.
        skipped: Why, by id, of the pictures that were left out before.
        notes: What else a reader should know of the data and the parts, label to text.
        class_mapping: Which classes of the model answer for the data's.
        model_names: Names of the model's classes; none when they are the data's.
        own_pictures: Whether somebody wants to see pictures rather than scores: the data have no
            labels, the classes were named, or nothing is measured.
        asks_prediction: Whether what the model predicts is asked about, for lack of labels.
        title: What made the maps, in words, such as "gbp on resnet50".
    """

    model: nn.Module
    ready: nn.Module
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
    own_pictures: bool = False
    asks_prediction: bool = False
    title: str = ""

    @property
    def head(self) -> Head:
        """How the model's logits become probabilities."""
        return head_of(self.model)


def prepare(root: Mapping[str, Any]) -> Experiment:
    """Build the parts and try them on the first sample, so that errors come before the work.

    Args:
        root: Checked configuration, a node per group.

    Raises:
        VarExpError: the first part that cannot be had or does not fit, in one sentence.
    """
    model: nn.Module = returning_logits(build(root["model"], where="model"))
    spec = input_spec(model)
    _check_input(spec)
    data: SampleDataset = build(
        root["data"],
        where="data",
        spec=spec,
        num_classes=classes_of(model),
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
    method: Method = build(root["method"], where="method", seed=seed)
    # where nothing is measured the maps are those of `explain`, to the last digit
    ready = made_ready(model, method) if root["prepare"] and root["metric"] else model
    perturber = Perturber(ready, spec.std)  # one, so that all metrics and variants share its work
    known = names_of_classes(None, dataset.class_names)
    rule: ClassRule = build(
        root["classes"], where="classes", siblings=data.siblings, seed=seed, known=known
    )
    unlabelled = data.label(0) == PREDICTED
    own_pictures = isinstance(rule, Named) or unlabelled or not root["metric"]
    if isinstance(rule, Named):
        check_pictures(list(rule.of_picture), dataset, str(rule.file))
        dataset = AskedAbout(dataset, rule.question)
    refiners = {name: build(node, where=f"refine.{name}") for name, node in root["refine"].items()}
    experiment = Experiment(
        model=model,
        ready=ready,
        spec=spec,
        dataset=dataset,
        method=method,
        rule=rule,
        refiners=refiners,
        make_metrics=lambda: {
            name: build(node, where=f"metric.{name}", model=perturber, seed=seed)
            for name, node in root["metric"].items()
        },
        skipped=dataset.skipped,
        notes={**dataset.notes, **_capped(rule, dataset), **_unsuited(method, refiners)},
        class_mapping=ClassMapping(dataset.members),
        model_names=dataset.model_names,
        own_pictures=own_pictures,
        asks_prediction=unlabelled and not isinstance(rule, Named),
        title=root["title"],
    )
    if experiment.refiners and not experiment.method.class_specific:
        raise ConfigError(
            f"{type(experiment.method).__name__} gives all classes the same map, so they cannot "
            "compete; use refine=none, or another method."
        )
    (batch,) = collate([first_readable(dataset)], spec)
    names = experiment.model_names or experiment.dataset.class_names
    logits = _try_model(model, batch, names)
    meant, _ = experiment.class_mapping(logits)
    asked = experiment.class_mapping.meanings(batch.asking(logits).named)
    experiment.rule(meant, asked, batch.ids)
    if dataset.fewest is not None:
        fewest = experiment.class_mapping.meanings(dataset.fewest[None])
        experiment.rule(meant, fewest, batch.ids)
    experiment.method.check(model, batch.images)
    for refiner in experiment.refiners.values():
        takes_logits(refiner)
    for name, metric in experiment.make_metrics().items():
        check_inputs_of(name, metric, batch)
        if "reattribute" in inputs_of(name, metric) and not experiment.method.attributes_anew:
            raise ConfigError(
                f"metric {name} asks for the maps of another model or picture, and saved maps are "
                "of one; leave it out, or use the method that made them."
            )
    return experiment


def _capped(rule: ClassRule, dataset: SampleDataset) -> dict[str, str]:
    """That fewer classes compete than was asked for, where there are no more."""
    count = len(dataset.class_names)
    if not isinstance(rule, TopK) or rule.k <= count:
        return {}
    return {"classes that compete": f"{count}, all that there are (classes.k={rule.k})"}


def _unsuited(method: Method, refiners: Mapping[str, Refiner]) -> dict[str, str]:
    """That the maps of a method suit another refiner than those that are asked for."""
    usual = method.refiner == Method.refiner
    if usual or not refiners or from_alias("refine", method.refiner) in refiners.values():
        return {}
    suited = f"refine=[{','.join([*refiners, method.refiner])}]"
    return {
        f"maps of {type(method).__name__}": "larger everywhere for a probable class, so that it "
        f"wins everywhere; take {suited} (docs/refine.md)"
    }


def _check_input(spec: InputSpec) -> None:
    """Refuse a model whose pictures the data cannot give.

    Raises:
        ConfigError: other than three channels.
    """
    if len(spec.mean) != 3:
        raise ConfigError(
            f"the model takes pictures of {len(spec.mean)} channels, and data have three; explain "
            "tensors of your own with method.attribute, or use another model."
        )


def _try_model(model: nn.Module, batch: Batch, names: Sequence[str]) -> Logits:
    """Logits of a batch, of a model that gives them from here on; refuses what does not fit.

    Raises:
        ConfigError: the model cannot take these pictures, or the data name other classes.
    """
    try:
        seen, logits = describe(model, batch.images)
    except UnsupportedModel as error:
        raise ConfigError(str(error)) from error
    if seen.num_classes != len(names):
        raise ConfigError(
            f"the model has {seen.num_classes} classes and the data {len(names)}; "
            "choose data= and model= that belong together."
        )
    declare(model, head=seen.head)
    return logits
