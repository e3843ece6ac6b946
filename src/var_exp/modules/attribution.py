"""Attribution, competition and measurement of one batch after another. Owns no formula."""

import sys
from collections import deque
from collections.abc import Callable, Collection, Mapping, Sequence
from functools import partial
from typing import Any, cast

import torch
from jaxtyping import Int
from lightning import LightningModule
from lightning.pytorch.plugins import MixedPrecision
from torch import Tensor, nn
from torchmetrics import MetricCollection

from var_exp.classes import ClassMapping, ClassRule, random_others
from var_exp.engine.chunks import ChunkLimit
from var_exp.methods import Method
from var_exp.methods.completeness import completeness_error
from var_exp.metrics.base import SampleMetric
from var_exp.metrics.inputs import inputs_of
from var_exp.models.precision import run_forward_in
from var_exp.modules.reattribution import Reattribution
from var_exp.modules.variants import Attributed, Variants
from var_exp.refine.base import Refiner
from var_exp.results.batch_scores import BatchScores
from var_exp.types import Batch, Classes, Logits
from var_exp.variants import BASE, check_refiner_names, variants_of

_MAP_BYTES = 2**28  # most raw maps of all competing classes held at once: 256 MiB


class AttributionModule(LightningModule):
    """Scores base maps, every refiner and the controls on the same attributions, in one pass.

    Args:
        model: Frozen classifier, images to logits; what is explained and asked.
        method: Attribution method.
        rule: Which classes compete.
        refiners: Name of the variant -> refiner.
        make_metrics: Builds a fresh set of metrics by name; called once per variant.
        class_mapping: Which classes of the model answer for those of the data; None: the same.
        controls: Score the controls as well.
        random_competitors: Ids of the samples on which random classes compete as well, the one
            control that costs backward passes; None for all.
        as_given: The network that `model` was made from (`var_exp.prepare`), for the measures that
            draw its parameters anew; None: the model itself.
        seed: Of the random competitors and maps, always combined with the sample's id.

    Attributes:
        keep: Takes what each batch adds to the run, such as `Store.commit`; None keeps nothing.
        keep_maps: Takes the maps of each batch before that; None keeps none.
        measures: The metrics by name, as the base map has them.
    """

    def __init__(
        self,
        model: nn.Module,
        method: Method,
        rule: ClassRule,
        refiners: Mapping[str, Refiner],
        make_metrics: Callable[[], dict[str, SampleMetric]],
        *,
        class_mapping: ClassMapping | None = None,
        controls: bool = True,
        random_competitors: Collection[str] | None = None,
        as_given: nn.Module | None = None,
        seed: int = 0,
    ) -> None:
        super().__init__()
        self.strict_loading = False  # a checkpoint holds nothing, see `on_save_checkpoint`
        self.model = model
        self.as_given = model if as_given is None else as_given
        self.method = method
        self.rule = rule
        self.refiners = refiners
        self.class_mapping = class_mapping or ClassMapping()
        self.seed = seed
        self.keep: Callable[[BatchScores], None] | None = None
        self.keep_maps: Callable[[Batch, Attributed, Variants], None] | None = None
        check_refiner_names(list(refiners))
        self.variants = {v.name: v for v in variants_of(list(refiners), controls=controls)}
        measures = {name: _about(name, make_metrics()) for name in self.variants}
        self.measures = measures[BASE]
        self.controls = controls and bool(self.measures)  # nothing is measured against them else
        self._random_competitors = random_competitors
        self._wanted = {
            argument
            for name, metric in self.measures.items()
            for argument in inputs_of(name, metric)
        }
        self._compares_classes = "other_maps" in self._wanted
        self._reattribution = None
        if "reattribute" in self._wanted:
            self._reattribution = Reattribution(method, model, self._variants, self.as_given)
        self.scores: dict[str, MetricCollection] = {
            # Equal states on a first batch would make torchmetrics share them between measures.
            name: MetricCollection(dict(metrics), compute_groups=False)
            for name, metrics in measures.items()
        }
        self.registered = nn.ModuleList(self.scores.values())  # so that they move with the module
        self._limit = ChunkLimit(sys.maxsize, "batch_size")
        self._fitting: dict[tuple[object, ...], int] = {}

    def attribute(self, batch: Batch, *, controls: bool) -> Attributed:
        """Raw maps of the classes that compete, and for controls also of random ones.

        Those where all samples of the batch are among `random_competitors`.
        """
        logits, classes, random_classes = self.competing(batch, controls=controls)
        every = torch.cat([classes, random_classes], 1)
        maps = self.method.attribute(self.model, batch.images, every, ids=batch.ids)
        # those asked about, and one more where maps of two classes are compared
        shown = min(batch.classes.shape[1] + self._compares_classes, classes.shape[1])
        return Attributed(
            batch.images, batch.ids, logits, classes, random_classes, maps, shown, batch.regions
        )

    def setup(self, stage: str) -> None:
        """Let the model, and nothing else, compute in the trainer's precision."""
        precision = self.trainer.precision_plugin
        if isinstance(precision, MixedPrecision):
            for network in {self.model, self.as_given}:
                run_forward_in(network, precision.forward_context)

    def test_step(self, batches: Sequence[Batch], index: int) -> None:
        """Score what was loaded together, one batch of equal shapes after another.

        In parts where the maps of all competing classes are large, or memory runs out.
        """
        with torch.autocast(self.device.type, enabled=False):  # Lightning's, see `setup`
            for part in (part for batch in batches for part in self._parts(batch)):
                step = partial(self._step, part)
                deque(self._limit.chunks(len(part.ids), step, self._at_once(part)), maxlen=0)

    def meets_random(self, id: str) -> bool:
        """Whether random classes compete on a sample as well."""
        possible = self.controls and bool(self.refiners) and self.method.attributes_anew
        return possible and (self._random_competitors is None or id in self._random_competitors)

    def _parts(self, batch: Batch) -> list[Batch]:
        """Samples of a batch on which random classes compete as well, and the others."""
        chosen = torch.tensor([self.meets_random(id) for id in batch.ids])
        if chosen.all() or not chosen.any():
            return [batch]
        return [batch.at(rows.nonzero().flatten()) for rows in (chosen, ~chosen)]

    def competing(self, batch: Batch, *, controls: bool) -> tuple[Logits, Classes, Classes]:
        """Logits, the classes that compete, and random ones among the others."""
        with torch.no_grad():
            logits = self.model(batch.images)
        meant, answering = self.class_mapping(logits)
        asked = self.class_mapping.meanings(batch.asking(logits).named)
        competing = self.rule(meant, asked, batch.ids)
        outside = self._random_classes(competing, meant.shape[1], batch.ids, controls=controls)
        return logits, answering.gather(1, competing), answering.gather(1, outside)

    def _at_once(self, batch: Batch) -> int:
        """How many images' maps may be held together; found out once for each kind of batch."""
        kind = (batch.images.shape[1:], batch.named.shape[1], self.meets_random(batch.ids[0]))
        if kind not in self._fitting:
            _, classes, random_classes = self.competing(
                batch.at(torch.zeros(1, dtype=torch.int64)), controls=self.controls
            )
            bytes_per_map = batch.images[0].numel() * 4
            maps = _MAP_BYTES // bytes_per_map
            self._fitting[kind] = max(1, maps // (classes.shape[1] + random_classes.shape[1]))
        return self._fitting[kind]

    def _step(self, whole: Batch, rows: Int[Tensor, " n"]) -> None:
        """Attribute images of a batch once, score every variant, commit what came out."""
        batch = whole.at(rows)
        for metrics in self.scores.values():
            metrics.reset()  # of what a step that ran out of memory left
        if self._reattribution is not None:
            self._reattribution.forget()  # likewise
        scored = BatchScores(batch.ids)
        attributed = self.attribute(batch, controls=self.controls)
        top1 = attributed.logits.argmax(1, keepdim=True)
        asked = attributed.classes[:, : batch.classes.shape[1]]
        scored.note("top1_asked", (top1 == asked).any(1))
        sums = self.method.sums(self.model, batch.images, attributed.logits)
        if sums is not None:
            every = torch.cat([attributed.classes, attributed.random_classes], 1)
            error = completeness_error(attributed.maps, every, sums)
            scored.note("completeness_error", error.abs())
        variants = self._variants(attributed)
        self._score(variants, attributed, batch, scored)
        if self.keep_maps is not None:
            self.keep_maps(batch, attributed, variants)
        if self.keep is not None:
            self.keep(scored)

    def on_save_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        """Leave the model out of what Lightning saves before SLURM queues a run again."""
        checkpoint["state_dict"] = {}

    def _random_classes(
        self, classes: Classes, num_classes: int, ids: Sequence[str], *, controls: bool
    ) -> Classes:
        """Random classes outside the competition, for the control; none when it holds them all."""
        wanted = classes.shape[1] - 1 if controls and all(map(self.meets_random, ids)) else 0
        count = min(wanted, num_classes - classes.shape[1])
        return random_others(classes, num_classes, count, ids, self.seed)

    def _variants(self, attributed: Attributed) -> Variants:
        return Variants(attributed, self.refiners, controls=self.controls, seed=self.seed)

    def _score(
        self, variants: Variants, attributed: Attributed, batch: Batch, scored: BatchScores
    ) -> None:
        """Score every variant; what metrics may ask for is listed in `var_exp.metrics.inputs`."""
        if not self.measures:
            return
        asked = batch.classes.shape[1]
        competitors = _strongest_competitors(attributed.classes, attributed.logits, asked)
        owners = [id for id in batch.ids for _ in range(asked)]
        classes = attributed.classes[:, :asked].flatten()
        labels = batch.asking(attributed.logits).classes.flatten().tolist()
        known: dict[str, Any] = {
            "classes": classes,
            "competitors": competitors.flatten(),
            "ids": owners,
            "base_maps": variants[BASE][:, :asked].flatten(0, 1),
            "asked": attributed.classes[:, :asked].repeat_interleave(asked, 0),
            "own": torch.arange(asked, device=classes.device).repeat(len(batch.ids)),
        }
        if "images" in self._wanted:  # a copy for each class asked about
            known["images"] = batch.images.repeat_interleave(asked, 0)
        if batch.regions is not None:
            known["regions"] = batch.regions.flatten(0, 1)
            if "cells" in self._wanted:  # the places of all classes asked about
                known["cells"] = batch.regions[:, None].expand(-1, asked, -1, -1, -1).flatten(0, 1)
            scored.note("area", batch.regions.float().mean((2, 3)))
        if batch.scope is not None:
            known["scope"] = batch.scope.flatten(0, 1)
        if batch.without is not None:
            known["without"] = batch.without.repeat_interleave(asked, 0)
        for variant, maps in variants.items():
            metrics = self.scores[variant]
            if self._compares_classes:  # with the map of the next class
                known["other_maps"] = maps.roll(-1, 1)[:, :asked].flatten(0, 1)
            if self._reattribution is not None:
                known["reattribute"] = self._reattribution.of(attributed, variant, asked)
            metrics.update(maps=maps[:, :asked].flatten(0, 1), **known)
            for name, metric in metrics.items():
                recorded = cast(SampleMetric, metric).drain()
                scored.add(name, self.variants[variant], owners, labels, recorded)
        if self._reattribution is not None:
            self._reattribution.forget()


def _about(variant: str, metrics: Mapping[str, SampleMetric]) -> dict[str, SampleMetric]:
    """The metrics of a variant: what is about the model is scored once, with the base."""
    return {name: m for name, m in metrics.items() if variant == BASE or not m.about_model}


def _strongest_competitors(classes: Classes, logits: Tensor, asked: int) -> Classes:
    """The strongest other competing class [B, A] of each class asked about, by its logit."""
    strength = logits.gather(1, classes)[:, None].expand(-1, asked, -1)
    itself = torch.eye(asked, classes.shape[1], dtype=torch.bool, device=classes.device)
    return classes.gather(1, strength.masked_fill(itself, -torch.inf).argmax(2))
