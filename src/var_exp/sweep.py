"""Several runs in one table, one picture and one page, and what failed by name.

It ends every sweep (`-m`). For runs gathered by hand, or a sweep once more:

    python -m var_exp.sweep runs/evaluate/gbp_critters_cnn runs/evaluate/ig_critters_cnn --out both
"""

import argparse
import os
import sys
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import yaml
from hydra.experimental.callback import Callback
from lightning.pytorch.utilities import rank_zero_only
from omegaconf import DictConfig
from rich.console import Console

import var_exp.metrics
from var_exp.metrics.base import Traits
from var_exp.report.comparison_figure import comparison_picture
from var_exp.report.comparison_tables import comparison_tables, significance_tables
from var_exp.report.sweep_page import write_sweep_report
from var_exp.report.tables import write_tables
from var_exp.results.comparison import Comparison, Run, compare, write_comparison, write_tests
from var_exp.results.headlines import headlines
from var_exp.results.rows import read_rows
from var_exp.results.significance import class_scores
from var_exp.results.summary import read_summary
from var_exp.runs.config import FAILED
from var_exp.runs.launchers import wait_for_every_run, when_it_gives_up
from var_exp.runs.networks import network_label
from var_exp.runs.run_record import RunRecord
from var_exp.text import without_folders
from var_exp.types import BadData, VarExpError

_CHOICES = ("method", "model", "data", "layout", "classes")
"""Groups whose choice may tell two runs apart even where neither names it."""
_IRRELEVANT = ("hydra", "logger", "title", "pictures")
"""Options that no figure depends on."""


class MergeRuns(Callback):
    """Hydra callback that writes the sweep's tables, tests, picture and page into its folder.

    The command ends with exit code 1 when a run failed.
    """

    def on_multirun_start(self, config: DictConfig, **kwargs: Any) -> None:
        """See to it that a run that is killed does not take the others' results along.

        Where a launcher gives up all the same, Hydra has no callback: its error ends the program.
        """
        folder = Path(config.hydra.sweep.dir).absolute()
        wait_for_every_run(config.hydra.launcher._target_)
        when_it_gives_up(folder, lambda: merge([folder], folder))

    def on_multirun_end(self, config: DictConfig, **kwargs: Any) -> None:
        """Merge what the runs wrote; once, where several processes share each run."""
        if getattr(rank_zero_only, "rank", 0):
            return
        folder = Path(config.hydra.sweep.dir)
        try:
            failed = merge([folder], folder)
        except VarExpError as error:  # Hydra would make a warning of it, and exit with 0
            print(f"error: {error}", file=sys.stderr)
            sys.exit(1)
        if failed:
            sys.exit(1)


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


def merge(folders: Sequence[Path], out: Path) -> dict[str, str]:
    """Merge the finished runs below some folders; returns the failed ones with the reason.

    Args:
        folders: Of single runs, or of sweeps.
        out: Folder that takes sweep.md, .tex, .csv, .png, .pdf, .svg, sweep_tests.csv, report.html.

    Raises:
        BadData: no run in a folder, or files that are not those of a run.
    """
    jobs = [job for folder in folders for job in find_jobs(folder)]
    names = label_jobs(jobs)
    finished = [job for job in jobs if job.finished]
    failed = {
        " ".join(f"{key}={value}" for key, value in labels.items()): job.reason
        for job, labels in zip(jobs, names, strict=True)
        if not job.finished
    }
    console = Console(markup=False, highlight=False)
    if finished:
        out.mkdir(parents=True, exist_ok=True)
        runs = [
            read_run(job, labels, out)
            for job, labels in zip(jobs, names, strict=True)
            if job.finished
        ]
        traits: dict[str, Traits] = {}
        for job in finished:
            traits |= traits_of(job)
        comparison = _write(out, runs, traits, failed, _shared(jobs))
        for metric in traits:
            for headline in headlines(comparison, metric):
                console.print(str(headline), soft_wrap=True)
        console.print(f"{len(finished)} of {len(jobs)} runs merged into {out}: ", end="")
        console.print(
            "report.html, sweep.{md,tex,csv,png,pdf,svg}, sweep_tests.csv", soft_wrap=True
        )
    for name, reason in failed.items():
        console.print(f"failed: {name}: {reason}", style="red", soft_wrap=True, highlight=False)
    return failed


def _write(
    out: Path,
    runs: Sequence[Run],
    traits: Mapping[str, Traits],
    failed: Mapping[str, str],
    shared: Mapping[str, str],
) -> Comparison:
    """Every file of a comparison, from one set of tests."""
    comparison = compare(runs, traits)
    write_comparison(out / "sweep.csv", runs)
    write_tests(out / "sweep_tests.csv", comparison)
    tables = [*comparison_tables(comparison), *significance_tables(comparison)]
    write_tables(out / "sweep", tables)
    directions = {metric: its.higher_is_better for metric, its in traits.items()}
    if directions:
        comparison_picture(out / "sweep", runs, directions)
    write_sweep_report(
        out / "report.html",
        comparison,
        title=f"{len(runs)} runs by {' and '.join(runs[0].labels)}",
        failed=without_folders(failed),
        shared=shared,
    )
    return comparison


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


def _shared(jobs: Sequence[Job]) -> dict[str, str]:
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


def main(arguments: Sequence[str] | None = None) -> int:
    """Merge the runs that the command line names; 0 when all of them had finished."""
    parser = argparse.ArgumentParser(
        prog="python -m var_exp.sweep", description="Runs side by side: tables, picture, page."
    )
    parser.add_argument("folders", nargs="+", type=Path, help="of runs, or of a sweep")
    parser.add_argument("--out", type=Path, help="where the page goes; default: the one folder")
    options = parser.parse_args(arguments)
    if options.out is None and len(options.folders) > 1:
        parser.error("several folders: name the one that takes the page, --out FOLDER.")
    try:
        return int(bool(merge(options.folders, options.out or options.folders[0])))
    except (VarExpError, OSError) as error:
        print(f"error: {error}", file=sys.stderr)
        return 2


if __name__ == "__main__":
    sys.exit(main())
