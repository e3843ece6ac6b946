"""Several runs in one table, one picture and one page, and what failed by name.

It ends every sweep (`-m`). For runs gathered by hand, or a sweep once more:

    var-exp sweep runs/evaluate/gbp_critters_cnn runs/evaluate/ig_critters_cnn --out both
"""

import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from hydra.experimental.callback import Callback
from omegaconf import DictConfig

from var_exp.errors import VarExpError
from var_exp.parsers import sweep_parser
from var_exp.runs.config import is_first_process
from var_exp.runs.launchers import list_as_typed, wait_for_every_run, when_it_gives_up
from var_exp.text import without_folders

if TYPE_CHECKING:  # every command names `MergeRuns`, and few have something to merge
    from var_exp.metrics.base import Traits
    from var_exp.results.comparison import Comparison, Run


class MergeRuns(Callback):
    """Hydra callback that writes the sweep's tables, tests, picture and page into its folder.

    The command ends with exit code 1 when a run failed.
    """

    def on_multirun_start(self, config: DictConfig, **kwargs: Any) -> None:
        """See to it that a run that is killed does not take the others' results along.

        Where a launcher gives up all the same, Hydra has no callback: its error ends the program.
        """
        folder = Path(config.hydra.sweep.dir).absolute()
        list_as_typed()
        wait_for_every_run(config.hydra.launcher._target_)
        when_it_gives_up(folder, lambda: merge([folder], folder))

    def on_multirun_end(self, config: DictConfig, **kwargs: Any) -> None:
        """Merge what the runs wrote; once, where several processes share each run."""
        if not is_first_process():
            return
        folder = Path(config.hydra.sweep.dir)
        try:
            failed = merge([folder], folder)
        except VarExpError as error:  # Hydra would make a warning of it, and exit with 0
            print(f"error: {error}", file=sys.stderr)
            sys.exit(1)
        if failed:
            sys.exit(1)


def merge(folders: Sequence[Path], out: Path) -> dict[str, str]:
    """Merge the finished runs below some folders; returns the failed ones with the reason.

    Args:
        folders: Of single runs, or of sweeps.
        out: Folder that takes sweep.md, .tex, .csv, .png, .pdf, .svg, sweep_tests.csv, report.html.

    Raises:
        BadData: no run in a folder, or files that are not those of a run.
    """
    from rich.console import Console

    from var_exp.results.headlines import headlines
    from var_exp.runs.jobs import find_jobs, label_jobs, read_run, shared_options, traits_of

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
        comparison = _write(out, runs, traits, failed, shared_options(jobs))
        for metric in traits:
            for headline in headlines(comparison, metric):
                console.print(str(headline), soft_wrap=True)
        console.print(f"{len(finished)} of {len(jobs)} runs merged into {out}: ", end="")
        console.print("sweep.{md,tex,csv,png,pdf,svg}, sweep_tests.csv", soft_wrap=True)
    for name, reason in failed.items():
        console.print(f"failed: {name}: {reason}", style="red", soft_wrap=True, highlight=False)
    if finished:
        console.print(f"now open {out / 'report.html'}", style="bold", soft_wrap=True)
    return failed


def _write(
    out: Path,
    runs: "Sequence[Run]",
    traits: "Mapping[str, Traits]",
    failed: Mapping[str, str],
    shared: Mapping[str, str],
) -> "Comparison":
    """Every file of a comparison, from one set of tests."""
    from var_exp.report.comparison_figure import comparison_picture
    from var_exp.report.comparison_tables import comparison_tables, significance_tables
    from var_exp.report.sweep_page import write_sweep_report
    from var_exp.report.tables import write_tables
    from var_exp.results.comparison import compare, write_comparison, write_tests

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


def main(arguments: Sequence[str] | None = None) -> int:
    """Merge the runs that the command line names; 0 when all of them had finished."""
    parser = sweep_parser()
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
