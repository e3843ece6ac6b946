"""The edge where Hydra ends: errors in one sentence, exit codes.

Exit codes: 0 the run completed, 2 the user's command must be mended, 130 stopped by Ctrl-C, 143 by
SIGTERM, 1 anything else.
"""

import errno
import logging
import os
import signal
import sys
from collections.abc import Callable, Mapping
from contextlib import suppress
from dataclasses import fields
from pathlib import Path
from typing import Any

from hydra.core.hydra_config import HydraConfig
from hydra.errors import HydraException
from hydra.types import RunMode
from omegaconf import DictConfig, OmegaConf
from omegaconf.errors import OmegaConfBaseException

import var_exp.runs.naming  # noqa: F401 (Hydra asks it for the folder of a run)
from var_exp.conf_files import did_you_mean
from var_exp.errors import AlreadyFinished, CannotWrite, ConfigError, VarExpError
from var_exp.interruption import INTERRUPTED, STOPPED, on_ctrl_c
from var_exp.kept_memory import keep_freed_memory
from var_exp.parsers import accept_hydras_flags
from var_exp.printing import printing
from var_exp.registry import problems
from var_exp.runs.arguments import arranged
from var_exp.runs.launchers import refusal
from var_exp.runs.messages import refused_by_hydra, translated, unknown_option

FAILED = "failed.txt"
"""File that a run of a sweep leaves in its folder when it could not finish: the reason."""

USAGE_ERROR = 2
"""Exit status where the user's command must be mended."""
_RANKS = ("RANK", "LOCAL_RANK", "SLURM_PROCID", "JSM_NAMESPACE_RANK")  # as Lightning asks
_SEVERAL = ("refine", "metric")  # groups of which several members can be chosen at a time
_DISK = {
    getattr(errno, name)
    for name in ("ENOSPC", "EDQUOT", "EFBIG", "EACCES", "EPERM", "EROFS", "ENOTDIR", "EEXIST")
}
TERMINATED = 128 + signal.SIGTERM
"""Exit status after SIGTERM, as shells and SLURM report it."""

STARTED_BY = "VAR_EXP_STARTED_BY"
"""Variable of the environment: the first process of several, in those that it started."""

_log = logging.getLogger(__name__)


def command(main: Callable[[], Any], schema: type) -> None:
    """Run a `@hydra.main` function; what Hydra refuses ends in one sentence and exit code 2.

    A `_target_` may also name a class in the folder that the command is run in (`registry.locate`).
    """
    os.environ["HYDRA_FULL_ERROR"] = "1"  # Hydra then raises instead of printing and exiting with 1
    _check_ranks()
    accept_hydras_flags()
    try:
        sys.argv[1:] = arranged(sys.argv[1:])
        with on_ctrl_c():
            main()
    except (HydraException, OmegaConfBaseException) as error:
        _refuse(refused_by_hydra(error, _keys(schema)))
    except VarExpError as error:
        _refuse(str(error))
    except KeyboardInterrupt:
        signal.signal(signal.SIGINT, signal.SIG_IGN)
        _complain(STOPPED, label="")
        sys.exit(INTERRUPTED)
    except OSError as error:  # Hydra makes the folder
        sentence = _mendable(error) or _cannot_make(error)
        if sentence is None:
            raise
        _refuse(sentence)
    except (RuntimeError, ValueError) as error:
        sentence = refusal(error) or translated(error)
        if sentence is None:
            raise
        _refuse(sentence)


def run(job: Callable[[DictConfig, Path], Any], cfg: DictConfig) -> Any:
    """Run a job in its Hydra folder; what it refuses ends in its sentences and exit code 2.

    A job of a sweep leaves the reason in its folder instead, and the other jobs go on; the end of
    the sweep names it (`var_exp.sweep`). A run that is finished already is left as it is.
    """
    folder = Path(HydraConfig.get().runtime.output_dir)
    of_sweep = HydraConfig.get().mode is RunMode.MULTIRUN
    (folder / FAILED).unlink(missing_ok=True)
    keep_freed_memory()
    try:
        with printing(), on_ctrl_c():  # what covers a Ctrl-C is no failure of this job
            return job(cfg, folder)
    except SystemExit as error:
        if type(error).__name__ != "SIGTERMException":  # of Lightning, whose import takes seconds
            # `stopping.Interrupted`: how far it came is said already
            signal.signal(signal.SIGINT, signal.SIG_IGN)  # the program ends: one is enough
            raise
        # the batch is done and kept; Lightning itself would exit with 0
        _complain(
            f"stopped by SIGTERM after a finished batch; the same command goes on in {folder}."
        )
        sys.exit(TERMINATED)
    except AlreadyFinished as error:
        return _say(str(error))
    except Exception as error:
        sentence = _mendable(error)
        if not of_sweep:
            if sentence is None:
                raise
            # any process may be the one whose disk is full; those that the first one started come
            # after its checks, so what they refuse is news
            own = isinstance(error, CannotWrite | OSError) or STARTED_BY in os.environ
            return _refuse(sentence, of_all=own)
        reason = sentence or f"{type(error).__name__}: {error}"
        if sentence is None:
            _log.exception("This run failed; the sweep goes on.")
        else:
            _complain(reason)
    with suppress(OSError):  # a full disk, perhaps; the end of the sweep names the run all the same
        (folder / FAILED).write_text(reason, encoding="utf-8")
    return None


def check(
    cfg: DictConfig, schema: type, given: Mapping[str, set[str]], *, without_import: bool = False
) -> dict[str, Any]:
    """Resolve the configuration and check the arguments of every node before anything is built.

    Args:
        cfg: Composed configuration.
        schema: Dataclass of its root.
        given: Per group, the arguments that the program itself hands to the group's targets.
        without_import: As far as the source of this package says, which takes no time.

    Returns:
        The configuration as plain dictionaries.

    Raises:
        ConfigError: all problems at once, one sentence each.
    """
    root: dict[str, Any] = OmegaConf.to_container(cfg, resolve=True)  # type: ignore[assignment]
    known = _keys(schema)
    found = [unknown_option(key, known) for key in root if key not in known]
    found += [f"{key} is left out; write {key}=…." for key in known if key not in root]
    for group, node in root.items():
        if not isinstance(node, dict) or group not in known:
            continue
        if group == "classes" and {"names", "classes"} & (node.keys() - {"_target_"}):
            found += _misplaced_names(node)
            continue
        of_one = node and group not in _SEVERAL
        nodes = {group: node} if of_one else _members(group, node)
        for where, member in nodes.items():
            provided = given.get(group, set())
            found += problems(member, where=where, provided=provided, without_import=without_import)
    if found:
        raise ConfigError("\n".join(found))
    return root


def _misplaced_names(node: dict[str, Any]) -> list[str]:
    """Names of classes that were given to a rule that takes none."""
    named = node["_target_"] == "var_exp.classes.Named"
    if named and "classes" not in node:
        return list(problems(node, where="classes", provided={"known"}))
    asked = node.get("names") or node.get("classes")
    listed = ", ".join(map(str, asked)) if isinstance(asked, list) else str(asked)
    return [f"to name the classes that compete: classes=named 'classes.names=[{listed}]'."]


def _members(group: str, node: dict[str, Any]) -> dict[str, dict[str, Any]]:
    """Nodes of a group of which several members can be chosen, such as refine=[none,var]."""
    if "_target_" in node:
        raise ConfigError(
            f"a chosen {group} does not say its place ('{node['_target_']}'); begin its YAML file "
            f"with the line: # @package {group}.<name of the file>"
        )
    chosen = {
        name: member
        for name, member in node.items()
        if isinstance(member, dict) and "_target_" in member
    }
    for name in node:
        if name not in chosen:
            raise ConfigError(
                f"'{name}' is not among the chosen {group} members ({', '.join(chosen) or 'none'})"
                f"{did_you_mean(name, list(chosen))}; choose it with {group}=[…,{name}]."
            )
    return {f"{group}.{name}": member for name, member in chosen.items()}


def _mendable(error: Exception) -> str | None:
    """What the user must mend, in one sentence; None where it is not for the user to mend."""
    if isinstance(error, VarExpError):
        return str(error)
    if isinstance(error, OSError) and error.errno in _DISK:
        place = f" {error.filename}" if error.filename else ""
        return (
            f"cannot write{place} ({error.strerror}); make room there, or choose another folder "
            "with hydra.run.dir (of a sweep: hydra.sweep.dir). What is done is kept."
        )
    return translated(error)


def _cannot_make(error: OSError) -> str | None:
    """What is wrong where Hydra can neither find nor make a folder."""
    if error.errno != errno.ENOENT:
        return None
    try:
        Path.cwd()
    except FileNotFoundError:
        return "the folder that the command is run in was removed; cd to one that exists."
    place = error.filename or "a folder"
    return (
        f"cannot find or make {place} ({error.strerror}); choose another folder with hydra.run.dir "
        "(of a sweep: hydra.sweep.dir)."
    )


def _keys(schema: type) -> list[str]:
    return [option.name for option in fields(schema)]


def _say(text: str) -> None:
    if is_first_process():
        print(text)


def _complain(text: str, label: str = "error: ") -> None:
    if is_first_process():
        print(f"{label}{text}", file=sys.stderr)


def is_first_process() -> bool:
    """As Lightning says, or would say if it had been imported, which takes seconds."""
    if "lightning" in sys.modules:
        from lightning.pytorch.utilities import rank_zero_only

        return not getattr(rank_zero_only, "rank", 0)
    return next((os.environ[name] for name in _RANKS if name in os.environ), "0") == "0"


def _check_ranks() -> None:
    """Refuse a number of this process that is none; Lightning cannot be imported with it."""
    for name in _RANKS:
        if not (value := os.environ.get(name, "0")).isdecimal():
            _refuse(
                f"the variable {name}={value} of the environment must be the number of this "
                "process among several; unset it where this is the only one.",
                of_all=True,
            )


def _refuse(text: str, *, of_all: bool = False) -> None:
    if of_all:
        print(f"error: {text}", file=sys.stderr)
    else:
        _complain(text)
    sys.exit(USAGE_ERROR)
