"""Runs on the disk, finished or not: what was chosen for each, and what it wrote."""

import os
import sys
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import yaml

import var_exp.metrics
from var_exp.metrics.base import Traits
from var_exp.results.comparison import Run
from var_exp.results.rows import read_rows
from var_exp.results.significance import class_scores
from var_exp.results.summary import read_summary
from var_exp.runs.config import FAILED
from var_exp.runs.networks import network_label
from var_exp.runs.run_record import RunRecord
from var_exp.text import without_folders
from var_exp.types import BadData

_CHOICES = ("method", "model", "data", "layout", "classes")
"""Groups whose choice may tell two runs apart even where neither names it."""
_IRRELEVANT = ("hydra", "logger", "title", "pictures")
"""Options that no figure depends on."""


@dataclass(frozen=True)
class Job:
    """The folder of a run, finished or not.

    Attributes:
        folder: Where it lies.
        options: What was chosen: groups and overrides, by key.
        config: The configuration that Hydra composed.
        broken: Why it cannot be read; "" when it can.
    """

    folder: Path
    options: Mapping[str, str] = field(default_factory=dict)
    config: Mapping[str, Any] = field(default_factory=dict)
    broken: str = ""

    @property
    def finished(self) -> bool:
        """Whether it came to its end."""
        return not self.broken and (self.folder / "summary.csv").exists()

    @property
    def reason(self) -> str:
        """Why it is not finished."""
        file = self.folder / FAILED
        if self.broken:
            return self.broken
        return file.read_text(encoding="utf-8").strip() if file.exists() else "it did not finish"

    def option(self, key: str) -> str:
        """What was chosen for a key, or its default."""
        if key in self.options:
            return str(without_folders(self.options[key]))
        value: Any = self.config  # by hand: resolving it would run what a stranger wrote there
        for name in key.split("."):
            value = value.get(name) if isinstance(value, Mapping) else None
        return "default" if value is None else str(without_folders(value))


def find_jobs(folder: Path) -> list[Job]:
    """Folders of runs at or below a folder, those of a sweep in its order."""
    if not folder.is_dir():
        raise BadData(f"there is no folder {folder}; name folders of runs or of a sweep.")
    found = sorted({path.parent for path in folder.glob("**/.hydra")}, key=_number)
    if not found:
        raise BadData(f"{folder} holds no run (no .hydra); name folders that evaluate.py wrote.")
    return [_job(each) for each in found]


def _job(folder: Path) -> Job:
    hydra = folder / ".hydra"
    try:
        lines: list[str] = yaml.safe_load((hydra / "overrides.yaml").read_text()) or []
        choices = yaml.safe_load((hydra / "hydra.yaml").read_text())["hydra"]["runtime"]["choices"]
        config: dict[str, Any] = yaml.safe_load((hydra / "config.yaml").read_text())
        if not all(isinstance(each, dict) for each in (choices, config)):
            raise TypeError("no configuration of a run")
        pairs = [line.lstrip("+~").partition("=") for line in lines]
    except (
        *(OSError, KeyError, TypeError, ValueError, AttributeError, RecursionError),
        yaml.YAMLError,
    ) as error:
        # A run that was killed as it began: the others' results are not to suffer.
        return Job(folder, broken=f"{hydra} is not readable ({type(error).__name__}: {error})")
    chosen = {key: str(choices[key]) for key in _CHOICES if choices.get(key) is not None}
    options = chosen | {key: value for key, _, value in pairs}
    if "model" in chosen:  # the network itself, also where its alias was given another name
        model = config.get("model")
        name = options.pop("model.name", model.get("name") if isinstance(model, dict) else None)
        options["model"] = network_label(chosen["model"], name)
    return Job(folder, options, config)


def _number(job: Path) -> tuple[int, str]:
    """Order of a job's folder, which starts with its number."""
    digits = job.name.partition("_")[0]
    return (int(digits) if digits.isdigit() else sys.maxsize, str(job))


def _keys(jobs: Sequence[Job]) -> list[str]:
    """What was chosen in any of the jobs and can move a figure; what a user named comes first."""
    keys = dict.fromkeys(key for job in jobs for key in job.options)
    return [key for key in keys if key.split(".")[0] not in _IRRELEVANT]


def label_jobs(jobs: Sequence[Job]) -> list[dict[str, str]]:
    """What sets each job apart from the others: the options that differ, else its folder."""
    varied = [key for key in _keys(jobs) if len({job.option(key) for job in jobs}) > 1]
    labels = [{key: job.option(key) for key in varied} for job in jobs]
    alike = Counter(tuple(each.values()) for each in labels)
    if max(alike.values()) > 1 or not varied:
        for job, each in zip(jobs, labels, strict=True):
            each["run"] = job.folder.name
    return labels


def shared_options(jobs: Sequence[Job]) -> dict[str, str]:
    """The options that all jobs have in common."""
    return {
        key: jobs[0].option(key)
        for key in _keys(jobs)
        if len({job.option(key) for job in jobs}) == 1
    }


def read_run(job: Job, labels: Mapping[str, str], out: Path) -> Run:
    """What a finished run wrote, to be compared in the folder `out`."""
    return Run(
        labels,
        read_summary(job.folder / "summary.csv"),
        class_scores(read_rows(job.folder / "scores.csv")),
        Path(os.path.relpath(job.folder, out)).as_posix(),
    )


def traits_of(job: Job) -> dict[str, Traits]:
    """What each metric is that a run was configured with.

    Nothing is imported that the run's configuration names: it may be a stranger's.

    Raises:
        BadData: the run does not say it.
    """
    file = job.folder / "config.yaml"
    try:
        metrics = dict(yaml.safe_load(file.read_text(encoding="utf-8"))["metric"])
    except (OSError, ValueError, KeyError, TypeError, RecursionError, yaml.YAMLError) as error:
        raise BadData(f"cannot read {file} ({type(error).__name__}); run it again.") from error
    told = RunRecord(job.folder).traits()
    return {name: told[name] if name in told else _of_ours(job, name, metrics) for name in metrics}


def _of_ours(job: Job, name: str, metrics: Mapping[str, Any]) -> Traits:
    """What a metric of this package is, for runs that did not record it."""
    node = metrics[name] if isinstance(metrics[name], dict) else {}
    package, _, kind = str(node.get("_target_", "")).rpartition(".")
    if package != "var_exp.metrics" or kind not in var_exp.metrics.__all__:
        raise BadData(
            f"{job.folder} does not say whether more of {name} is better, and what its "
            "configuration names is not imported for that; finish the run anew with this version."
        )
    metric = getattr(var_exp.metrics, kind)
    average = node.get("average", metric.average)
    return Traits(bool(metric.higher_is_better), average, metric.rewards_sparsity)
