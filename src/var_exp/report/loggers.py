"""Weights & Biases and TensorBoard: loggers that ask nothing, wait little and tell no secrets."""

import logging
import netrc
import os
from pathlib import Path
from secrets import token_hex
from urllib.parse import urlparse

from lightning.pytorch.loggers import TensorBoardLogger, WandbLogger
from lightning.pytorch.utilities import rank_zero_only

from var_exp.conf_files import did_you_mean
from var_exp.types import ConfigError

_CONNECT_SECONDS = 20
_MODES = ("online", "offline", "disabled", "shared", "run", "dryrun")  # of `WANDB_MODE`
_log = logging.getLogger(__name__)


def logged_in() -> bool:
    """Whether W&B has a key for its server: in `WANDB_API_KEY` or in the netrc file."""
    if os.environ.get("WANDB_API_KEY"):
        return True
    host = urlparse(os.environ.get("WANDB_BASE_URL", "https://api.wandb.ai")).hostname or ""
    try:
        return netrc.netrc(os.environ.get("NETRC")).authenticators(host) is not None
    except (OSError, netrc.NetrcParseError):
        return False


def wandb_logger(
    save_dir: str,
    project: str = "var_exp",
    name: str | None = None,
    pictures_alone: bool = True,
    measured: bool = True,
) -> WandbLogger | None:
    """Lightning's W&B logger that never asks and never waits long; None when W&B is switched off.

    `WANDB_MODE` decides when it is set, and "disabled" writes nothing; else the run is online when
    there is a key and the server answers, and offline otherwise. A run that goes on in its folder
    goes on in W&B, too, under the id that is kept in `<save_dir>/wandb/run_id`; an agent's
    `WANDB_RUN_ID` comes first. W&B is told no path, user or host, and no code.

    Args:
        save_dir: Folder of the run, under which W&B keeps its files.
        project: W&B project.
        name: Name of the run; None lets W&B choose.
        pictures_alone: Whether a run is logged that measures nothing.
        measured: Whether this one measures something.

    Raises:
        ConfigError: `WANDB_MODE` is none of W&B's modes, or W&B refuses another of its settings.
    """
    if not measured and not pictures_alone:
        return None
    mode = os.environ.get("WANDB_MODE") or ("online" if logged_in() else "offline")
    if mode not in _MODES:
        raise ConfigError(
            f"WANDB_MODE={mode} is no mode of W&B{did_you_mean(mode, list(_MODES))}; set it to "
            "online, offline or disabled, or choose logger=none."
        )
    if mode == "disabled" or os.environ.get("WANDB_DISABLED", "").lower() in ("true", "1"):
        return None
    import wandb

    if mode not in ("offline", "dryrun"):
        try:
            return _open(save_dir, project, name, offline=False)
        except wandb.Error as error:
            reason = _short(error)
            _log.warning("W&B does not answer or refuses (%s); this run is offline.", reason)
            wandb.teardown()
        except ValueError as error:
            raise _refused(error) from error
    try:
        return _open(save_dir, project, name, offline=True)
    except (wandb.Error, ValueError) as error:  # a project or a switch that cannot be
        raise _refused(error) from error


def _refused(error: Exception) -> ConfigError:
    return ConfigError(
        f"W&B refuses its settings ({_short(error)}); mend logger.project or the variable WANDB_… "
        "of the environment, or choose logger=none."
    )


def _short(error: Exception) -> str:
    return " ".join(str(error).split())[:200].rstrip(".")


def _open(save_dir: str, project: str, name: str | None, *, offline: bool) -> WandbLogger:
    """A run of W&B that has begun: here a failure can still be mended."""
    import wandb

    settings = wandb.Settings(
        mode="offline" if offline else "online",
        init_timeout=_CONNECT_SECONDS,
        console="off",
        silent=True,
        host="not told",
        disable_code=True,
        disable_git=True,
        x_disable_meta=True,  # paths, user, host, executable, command line
    )
    wandb.setup(settings)  # silent from here on: what the user needs to know, `finish` says
    logger = WandbLogger(
        project=project,
        name=name,
        save_dir=save_dir,
        id=os.environ.get("WANDB_RUN_ID") or _run_id(Path(save_dir) / "wandb" / "run_id"),
        resume="allow",
        offline=offline,
        settings=settings,
    )
    logger.experiment  # noqa: B018  # starts it
    return logger


def _run_id(file: Path) -> str:
    """Id of the W&B run of a folder, the same at every start."""
    if (
        not file.exists() and getattr(rank_zero_only, "rank", 0) == 0
    ):  # W&B runs in the first process alone
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text(token_hex(4))
    return file.read_text() if file.exists() else ""


def tensorboard_logger(save_dir: str) -> TensorBoardLogger:
    """Lightning's TensorBoard logger; its files go into `<save_dir>/tensorboard`.

    Raises:
        ConfigError: TensorBoard is not installed.
    """
    try:
        return TensorBoardLogger(save_dir, name="", version="tensorboard", default_hp_metric=False)
    except ModuleNotFoundError as error:
        raise ConfigError(
            "logger=tensorboard needs the package tensorboard; pip install 'var_exp[tensorboard]'."
        ) from error


def finish(logger: WandbLogger) -> str:
    """Close the run and say where it is: its page, or the command that uploads it."""
    run = logger.experiment
    folder = Path(run.dir).parent
    run.finish()
    if run.offline:
        return f"W&B is offline; upload with: wandb sync {folder}"
    return f"W&B: {run.url}"
