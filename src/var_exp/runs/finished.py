"""A finished run that can be looked at again: its options, scores, and maps made anew."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import yaml
from omegaconf import OmegaConf

from var_exp.data.batches import collate
from var_exp.report.panels import Panel
from var_exp.results.rows import Row, read_rows
from var_exp.results.selection import Pick, pick_at_random, pick_samples
from var_exp.runs.config import check
from var_exp.runs.evaluation import attribution_module
from var_exp.runs.experiment import Experiment, prepare
from var_exp.runs.gallery import gallery
from var_exp.runs.jobs import Job, traits_of
from var_exp.runs.schema import GIVEN, EvaluateConfig
from var_exp.types import BadData, Batch


@dataclass(frozen=True)
class FinishedRun:
    """A run that can be looked at again.

    Attributes:
        job: Its folder and options.
        labels: What sets it apart from the other runs of the figure.
    """

    job: Job
    labels: Mapping[str, str]

    @property
    def name(self) -> str:
        """As it stands in the figure."""
        return " ".join(self.labels.values())

    @property
    def place(self) -> tuple[str, str]:
        """Where it stands in a grid: what is said beside the picture, and over its column.

        Methods are columns where they differ, networks and all else are rows.
        """
        head = "method" if "method" in self.labels else next(iter(self.labels))
        beside = [text for key, text in self.labels.items() if key != head]
        return " ".join(beside), self.labels[head]

    @cached_property
    def root(self) -> dict[str, Any]:
        """Its configuration, checked again."""
        text = (self.job.folder / "config.yaml").read_text(encoding="utf-8")
        return check(OmegaConf.create(dict(yaml.safe_load(text))), EvaluateConfig, GIVEN)

    @cached_property
    def experiment(self) -> Experiment:
        """Its parts, built again."""
        return prepare(self.root)

    @cached_property
    def rows(self) -> list[Row]:
        """Its scores."""
        return read_rows(self.job.folder / "scores.csv")

    @property
    def refiners(self) -> list[str]:
        """The refiners it scored."""
        return list(self.root["refine"])

    def picks(self, count: int) -> list[str]:
        """Samples that its report would show first."""
        dataset, shown = self.experiment.dataset, {"count": count, "seed": self.root["seed"]}
        chosen = pick_at_random(map(dataset.sample_id, range(len(dataset))), **shown)
        for metric, its in list(traits_of(self.job).items())[:1]:  # the first one decides
            higher = its.higher_is_better
            chosen = pick_samples(self.rows, metric=metric, higher_is_better=higher, **shown)
        return [pick.sample_id for pick in chosen]

    def panels(self, ids: Sequence[str]) -> list[Panel]:
        """Maps of some samples, made again as in the run, with the scores that it gave them."""
        metric = next(iter(traits_of(self.job)), "")
        scores = {
            id: {
                (row.variant.name, row.class_index): row.score
                for row in self.rows
                if row.sample_id == id and row.metric == metric
            }
            for id in ids
        }
        if missing := [id for id in ids if not scores[id]]:
            known = ", ".join(sorted({row.sample_id for row in self.rows})[:5])
            raise BadData(
                f"{self.job.folder} has no sample '{missing[0]}'; it has {known} … (scores.csv)."
            )
        module = attribution_module(self.root, self.experiment)
        picks = [Pick(id, "random", metric, scores[id]) for id in ids]
        return gallery(self.experiment, module, picks, self.root["batch_size"])

    def batch(self, id: str) -> Batch:
        """One sample as the model sees it."""
        dataset = self.experiment.dataset
        ids = dataset.ids()
        if id not in ids:
            raise BadData(f"{self.job.folder} has no sample '{id}'; see its scores.csv.")
        (batch,) = collate([dataset[ids.index(id)]], self.experiment.spec)
        return batch
