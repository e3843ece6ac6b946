"""The pictures of a run, made when its scores are known: the chosen samples are attributed again.

The same model, method, class rule and refiners give the same maps as in the run, so nothing needs
to be kept while it runs, and a run that was interrupted or shared by several processes shows what
any other would.
"""

from collections.abc import Sequence
from dataclasses import replace

import torch

from var_exp.data.datamodule import collate, to_display
from var_exp.experiment import Experiment
from var_exp.modules.attribution import AttributionModule
from var_exp.modules.variants import Variants
from var_exp.refine.var import VAR
from var_exp.report.panels import Panel
from var_exp.report.selection import Pick
from var_exp.types import Sample


def gallery(
    experiment: Experiment, module: AttributionModule, picks: Sequence[Pick]
) -> list[Panel]:
    """Base and refined maps of every competing class of the chosen samples.

    Args:
        experiment: What the run was made of.
        module: Its attribution, on the device where it ran.
        picks: Samples of the experiment's data set.

    Returns:
        One panel per pick, in their order. Samples may differ in size and number of classes.
    """
    dataset = experiment.dataset
    places = {dataset.sample_id(index): index for index in range(len(dataset))} if picks else {}
    return [_panel(experiment, module, dataset[places[pick.sample_id]], pick) for pick in picks]


def _panel(experiment: Experiment, module: AttributionModule, sample: Sample, pick: Pick) -> Panel:
    (batch,) = collate([sample], experiment.spec)
    attributed = module.attribute(batch.to(module.device), controls=False)
    (classes,) = attributed.classes.tolist()
    variants = Variants(
        replace(attributed, shown=len(classes)), module.refiners, controls=False, seed=module.seed
    )
    names, asked = experiment.dataset.class_names, len(sample.classes)
    return Panel(
        sample_id=sample.id,
        image=to_display(batch.images, experiment.spec)[0],
        class_names=[names[label] for label in classes],
        asked=asked,
        regions=sample.regions,
        maps={name: maps[0].float().cpu() for name, maps in variants.items()},
        predicted=_prediction(attributed.logits[0], names),
        kind=pick.kind,
        scores={
            name: [pick.scores.get((name, label), float("nan")) for label in classes[:asked]]
            for name in variants
        },
        metric=pick.metric,
        competition=competition(experiment),
    )


def competition(experiment: Experiment) -> VAR | None:
    """Settings of the run's class competition: its first VAR; None where no classes compete."""
    if not experiment.method.class_specific:
        return None
    return next((one for one in experiment.refiners.values() if isinstance(one, VAR)), VAR())


def _prediction(logits: torch.Tensor, names: Sequence[str]) -> str:
    """The most likely class and its probability."""
    probability, label = logits.float().softmax(0).max(0)
    return f"{names[int(label)]} ({probability.item():.2f})"
