"""What Hydra's launchers do not do by themselves: say in a sentence why, wait for every run."""

import logging
import re
import sys
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from traceback import format_exception
from types import TracebackType
from typing import Any

from hydra.core.utils import JobReturn, JobStatus

from var_exp.errors import VarExpError

LAUNCHER_ERROR = "launcher_error.txt"
"""File in the folder of a sweep that its launcher gave up on: what it said."""

_EXTRAS = {"submitit": "slurm", "joblib": "parallel"}
_LISTING = (
    "hydra._internal.core_plugins.basic_launcher",
    "hydra_plugins.hydra_joblib_launcher._core",
    "hydra_plugins.hydra_submitit_launcher.submitit_launcher",
)
_log = logging.getLogger(__name__)


def refusal(error: Exception) -> str | None:
    """What keeps a launcher from starting the runs of a sweep; None when that is not it."""
    text = " ".join(str(error).split())
    plugin = re.search(r"Unknown plugin class : 'hydra_plugins\.hydra_([a-z]+)_launcher", text)
    if plugin and plugin.group(1) in _EXTRAS:
        extra = _EXTRAS[plugin.group(1)]
        return f"this launcher needs one more package; pip install 'var_exp[{extra}]'."
    if 'Could not detect "srun"' in text:
        return (
            "there is no SLURM here (no srun); start the sweep where sbatch works, or use "
            "hydra/launcher=parallel."
        )
    if type(error).__name__ in ("FailedSubmissionError", "FailedJobError") and "sbatch" in text:
        return f"SLURM does not take the runs ({text}); mend it with hydra.launcher.…=…"
    return None


def list_as_typed() -> None:
    """Let launchers list the runs of a sweep without the signs that `arguments.open_key` adds."""
    for name in _LISTING:
        logging.getLogger(name).addFilter(_as_typed)


def _as_typed(record: logging.LogRecord) -> bool:
    record.msg = re.sub(r"(?<=[\t ])\+\+(?=\w)", "", str(record.msg))
    return True


def wait_for_every_run(launcher: str) -> None:
    """Let submitit's launchers wait for all runs of a sweep: they give up at the first killed one.

    Args:
        launcher: `_target_` of the launcher.
    """
    if not launcher.startswith("hydra_plugins.hydra_submitit_launcher"):
        return
    try:
        from submitit import Job
        from submitit.core.utils import UncompletedJobError
    except ImportError:  # Hydra refuses the launcher in a moment
        return
    results: Callable[[Any], list[Any]] = Job.results

    def results_or_none(job: Any) -> list[Any]:
        try:
            return results(job)
        except UncompletedJobError as error:
            _log.error("A run was lost; the sweep goes on. %s", error)
            return [JobReturn(status=JobStatus.COMPLETED)]  # its folder tells that it is not

    Job.results = results_or_none


def when_it_gives_up(folder: Path, conclude: Callable[[], object]) -> None:
    """Conclude a sweep also when an error of its launcher ends the program, for lack of a callback.

    Args:
        folder: Of the sweep.
        conclude: Merges what the runs wrote.
    """
    show = sys.excepthook

    def hook(kind: type[BaseException], error: BaseException, trace: TracebackType | None) -> None:
        if not issubclass(kind, Exception):  # the user's Ctrl-C
            show(kind, error, trace)
            return
        (folder / LAUNCHER_ERROR).write_text("".join(format_exception(error)), encoding="utf-8")
        with suppress(VarExpError):  # where no run has even begun
            conclude()
        print(
            f"error: the launcher lost a run ({kind.__name__}, in full in "
            f"{folder / LAUNCHER_ERROR}); the same command with hydra.sweep.dir={folder} finishes "
            "what is missing.",
            file=sys.stderr,
        )

    sys.excepthook = hook
