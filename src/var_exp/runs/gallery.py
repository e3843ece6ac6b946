"""The pictures of a run, made when its scores are known: the chosen samples are attributed again.

The same model, method, class rule and refiners give the same maps as in the run, so nothing needs
to be kept while it runs, and a run that was interrupted or shared by several processes shows what
any other would.
"""

from collections.abc import Iterator, Sequence
from dataclasses import replace

import torch

from var_exp.data.batches import collate, to_display
from var_exp.models import probabilities as by_head
from var_exp.models.declared import Head
from var_exp.modules.attribution import AttributionModule
from var_exp.modules.variants import Attributed, Variants
from var_exp.refine.shared import shared_evidence
from var_exp.refine.var import VAR
from var_exp.report.panel_picture import panel_picture
from var_exp.report.panels import Panel
from var_exp.report.thumbnails import thumbnail
from var_exp.results.drawings import Drawings
from var_exp.results.saved_maps import MapWriter
from var_exp.results.selection import Pick
from var_exp.runs.experiment import Experiment
from var_exp.types import Batch
from var_exp.variants import BASE


def gallery(
    experiment: Experiment, module: AttributionModule, picks: Sequence[Pick], batch_size: int
) -> list[Panel]:
    """Base and refined maps of every competing class of the chosen samples.

    Args:
        experiment: What the run was made of.
        module: Its attribution, on the device where it ran.
        picks: Samples of the experiment's data set.
        batch_size: Most samples that are attributed together.

    Returns:
        One panel per pick, in their order. Samples may differ in size and number of classes.
    """
    dataset = experiment.dataset
    places = {dataset.sample_id(index): index for index in range(len(dataset))} if picks else {}
    panels: dict[str, Panel] = {}
    for start in range(0, len(picks), batch_size):
        chosen = {pick.sample_id: pick for pick in picks[start : start + batch_size]}
        samples = [dataset[places[name]] for name in chosen]
        for batch in collate(samples, experiment.spec):
            attributed = module.attribute(batch.to(module.device), controls=False)
            labels = batch.asking(attributed.logits.cpu()).classes.tolist()
            for panel, asked in zip(
                panels_of(experiment, module, batch, attributed), labels, strict=True
            ):
                panels[panel.sample_id] = _scored(panel, asked, chosen[panel.sample_id])
    return [panels[pick.sample_id] for pick in picks]


def panels_of(
    experiment: Experiment, module: AttributionModule, batch: Batch, attributed: Attributed
) -> Iterator[Panel]:
    """Base and refined maps of every competing class, a panel for each sample of a batch."""
    every = replace(attributed, shown=attributed.classes.shape[1])
    variants = Variants(every, module.refiners, controls=False, seed=module.seed)
    names = experiment.model_names or experiment.dataset.class_names
    labels = batch.asking(attributed.logits.cpu()).classes.tolist()
    images = to_display(batch.images, experiment.spec).cpu()
    probabilities = by_head(attributed.logits, experiment.head).gather(1, attributed.classes)
    settings = competition(experiment)
    competing = attributed.maps[:, : attributed.classes.shape[1]].float()
    shared = None if settings is None else shared_evidence(competing, settings).cpu()
    for row, name in enumerate(batch.ids):
        yield Panel(
            sample_id=name,
            image=images[row],
            class_names=_named(experiment, labels[row], attributed.classes[row].tolist()),
            asked=batch.classes.shape[1],
            regions=None if batch.regions is None else batch.regions[row].cpu(),
            maps={variant: maps[row].float().cpu() for variant, maps in variants.items()},
            predicted=_prediction(attributed.logits[row], names, experiment.head),
            competition=settings,
            competitions={
                name: one for name, one in experiment.refiners.items() if isinstance(one, VAR)
            },
            probabilities=probabilities[row].tolist(),
            source=experiment.title,
            shared=None if shared is None else shared[row],
        )


def _scored(panel: Panel, asked: Sequence[int], pick: Pick) -> Panel:
    """The panel with why it was chosen, and the scores of the classes asked about."""
    scores = {
        name: [pick.scores.get((name, label), float("nan")) for label in asked]
        for name in panel.maps
    }
    return replace(panel, kind=pick.kind, scores=scores, metric=pick.metric)


def save_maps(
    experiment: Experiment,
    module: AttributionModule,
    writer: MapWriter,
    drawings: Drawings | None,
    batch: Batch,
    attributed: Attributed,
    variants: Variants,
) -> None:
    """Write the maps of one batch: the base of all competing classes, refined those asked about.

    So another run can let them compete again; see `var_exp.methods.saved`.

    Args:
        experiment: What the run is made of.
        module: Its attribution.
        writer: Where they go.
        drawings: Where the maps of all competing classes are drawn as well, one picture for each
            sample; None draws none.
        batch: What was attributed.
        attributed: What came out.
        variants: And what was made of that.
    """
    asked, competing = batch.classes.shape[1], attributed.classes.shape[1]
    kept = {BASE: attributed.maps[:, :competing]}
    kept |= {name: variants[name][:, :asked] for name in module.refiners}
    if drawings is not None:
        for panel in panels_of(experiment, module, batch, attributed):
            pictures = panel_picture(panel), thumbnail(panel)
            drawings.write(panel.sample_id, *pictures, panel.sentence)
    writer.write(batch.ids, attributed.classes, kept)


def _named(experiment: Experiment, labels: Sequence[int], classes: Sequence[int]) -> list[str]:
    """Names of the competing classes; where the data's differ, those asked about have both."""
    ours = experiment.dataset.class_names
    names = [(experiment.model_names or ours)[number] for number in classes]
    asked = [
        ours[label] if ours[label] == answers else f"{ours[label]} ({answers})"
        for label, answers in zip(labels, names, strict=False)  # those asked about come first
    ]
    return asked + names[len(asked) :]


def competition(experiment: Experiment) -> VAR | None:
    """Settings of the run's class competition: its first VAR; None where no classes compete."""
    if not experiment.method.class_specific:
        return None
    return next((one for one in experiment.refiners.values() if isinstance(one, VAR)), VAR())


def _prediction(logits: torch.Tensor, names: Sequence[str], head: Head) -> str:
    """The most likely class and its probability."""
    probability, label = by_head(logits[None], head)[0].max(0)
    return f"{names[int(label)]} ({probability.item():.2f})"
