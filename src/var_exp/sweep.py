"""The end of a `-m` sweep: its runs in one table and one picture, and what failed by name."""

import logging
import sys
from pathlib import Path
from typing import Any

import yaml
from hydra.experimental.callback import Callback
from omegaconf import DictConfig
from rich.console import Console

from var_exp.config import FAILED
from var_exp.registry import locate
from var_exp.report.comparison import Run, comparison_picture, markdown, write_comparison
from var_exp.report.comparison_tests import (
    refiner_tests,
    run_tests,
    significance_markdown,
    write_tests,
)
from var_exp.report.rows import read_rows
from var_exp.report.significance import sample_scores
from var_exp.report.statistics import read_summary

_log = logging.getLogger(__name__)


class MergeRuns(Callback):
    """Hydra callback that writes the sweep's tables, tests and picture into its folder.

    The command ends with exit code 1 when a run failed.
    """

    def on_multirun_end(self, config: DictConfig, **kwargs: Any) -> None:
        """Merge what the runs wrote."""
        folder = Path(config.hydra.sweep.dir)
        failed = merge(folder)
        if failed:
            sys.exit(1)


def merge(folder: Path) -> dict[str, str]:
    """Merge the finished runs of a sweep's folder; returns the failed ones with the reason.

    A run is a folder that Hydra made (it holds `.hydra`); what sets the runs apart are the
    overrides that differ between them.
    """
    jobs = sorted(
        (path.parent for path in folder.glob("**/.hydra")), key=lambda job: _number(job.name)
    )
    overrides = {job: _overrides(job) for job in jobs}
    keys = list(dict.fromkeys(key for given in overrides.values() for key in given))
    varied = [key for key in keys if len({given.get(key) for given in overrides.values()}) > 1]
    labels = {
        job: {key: given.get(key, "default") for key in varied} or {"run": job.name}
        for job, given in overrides.items()
    }
    finished = [job for job in jobs if (job / "summary.csv").exists()]
    console = Console()
    if finished:
        runs = [
            Run(
                labels[job],
                read_summary(job / "summary.csv"),
                sample_scores(read_rows(job / "scores.csv")),
            )
            for job in finished
        ]
        directions: dict[str, bool] = {}
        for job in finished:
            directions |= _directions(job)
        write_comparison(folder / "sweep.csv", runs)
        tests = {m: [*refiner_tests(runs, m), *run_tests(runs, m)] for m in directions}
        write_tests(folder / "sweep_tests.csv", tests)
        text = f"{markdown(runs, directions)}\n{significance_markdown(runs, directions)}"
        (folder / "sweep.md").write_text(text, encoding="utf-8")
        comparison_picture(folder / "sweep.png", runs, directions)
        console.print(f"{len(finished)} of {len(jobs)} runs merged into {folder}: ", end="")
        console.print("sweep.md, sweep.png, sweep.csv, sweep_tests.csv", soft_wrap=True)
    failed = {
        " ".join(f"{key}={value}" for key, value in labels[job].items()): _reason(job)
        for job in jobs
        if job not in finished
    }
    for name, reason in failed.items():
        console.print(f"failed: {name}: {reason}", style="red", soft_wrap=True, highlight=False)
    return failed


def _number(name: str) -> tuple[int, str]:
    """Order of a job's folder, which starts with its number."""
    digits = name.partition("_")[0]
    return (int(digits) if digits.isdigit() else sys.maxsize, name)


def _overrides(job: Path) -> dict[str, str]:
    lines: list[str] = yaml.safe_load((job / ".hydra" / "overrides.yaml").read_text()) or []
    pairs = (line.lstrip("+~").partition("=") for line in lines)
    return {key: value for key, _, value in pairs}


def _directions(job: Path) -> dict[str, bool]:
    """Whether higher is better, for each metric that a run was configured with."""
    metrics = yaml.safe_load((job / "config.yaml").read_text())["metric"]
    return {
        name: bool(getattr(locate(node["_target_"]), "higher_is_better"))  # noqa: B009 (typed Any)
        for name, node in metrics.items()
    }


def _reason(job: Path) -> str:
    file = job / FAILED
    return file.read_text(encoding="utf-8").strip() if file.exists() else "it did not finish"
