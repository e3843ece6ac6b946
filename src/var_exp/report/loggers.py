"""What a run tells Weights & Biases: means by name, the tables, the pictures, the curves."""

import netrc
import os
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import astuple, fields
from itertools import islice
from pathlib import Path
from typing import Any
from urllib.parse import urlparse

import wandb
from lightning.pytorch.loggers import WandbLogger

from var_exp.report.panels import Panel, panel_picture
from var_exp.report.plots import Curves
from var_exp.report.rows import Row
from var_exp.report.statistics import SummaryRow

_CONNECT_SECONDS = 20
_TABLE_ROWS = 10_000  # W&B shows no more in one table


def logged_in() -> bool:
    """Whether W&B has a key for its server: in `WANDB_API_KEY` or in the netrc file."""
    if os.environ.get("WANDB_API_KEY"):
        return True
    host = urlparse(os.environ.get("WANDB_BASE_URL", "https://api.wandb.ai")).hostname or ""
    try:
        return netrc.netrc(os.environ.get("NETRC")).authenticators(host) is not None
    except (OSError, netrc.NetrcParseError):
        return False


def wandb_logger(save_dir: str, project: str = "var_exp", name: str | None = None) -> WandbLogger:
    """Lightning's W&B logger that never asks and never waits long.

    `WANDB_MODE` decides when it is set; else the run is online when there is a key and the server
    answers, and offline otherwise.

    Args:
        save_dir: Folder of the run, under which W&B keeps its files.
        project: W&B project.
        name: Name of the run; None lets W&B choose.
    """
    online = os.environ.get("WANDB_MODE", "online" if logged_in() else "offline") == "online"
    logger = _open(save_dir, project, name, offline=not online)
    try:
        logger.experiment  # noqa: B018  # starts the run now, where a failure can still be mended
    except wandb.Error:
        wandb.teardown()
        logger = _open(save_dir, project, name, offline=True)
    return logger


def _open(save_dir: str, project: str, name: str | None, *, offline: bool) -> WandbLogger:
    settings = wandb.Settings(
        mode="offline" if offline else "online",
        init_timeout=_CONNECT_SECONDS,
        console="off",
        silent=True,
    )
    wandb.setup(settings)  # silent from here on: what the user needs to know, `finish` says
    return WandbLogger(
        project=project, name=name, save_dir=save_dir, offline=offline, settings=settings
    )


def log_results(
    logger: WandbLogger,
    config: Mapping[str, Any],
    summary: Sequence[SummaryRow],
    rows: Iterable[Row],
    panels: Sequence[Panel],
    curves: Sequence[Curves],
) -> None:
    """Log the tables, the pictures and the curves of a finished run.

    Args:
        logger: A started W&B logger.
        config: Resolved configuration.
        summary: Logged as the table "summary", one row per metric and variant.
        rows: Logged as the table "scores"; of very long runs only the first rows, the file
            `scores.csv` has them all.
        panels: Logged as the pictures "maps".
        curves: Logged as line charts under "curves".
    """
    first = [list(astuple(row)) for row in islice(rows, _TABLE_ROWS)]
    logger.log_hyperparams(dict(config))
    logger.log_metrics({f"{row.metric}/{row.variant}": row.value for row in summary})
    logger.log_table("summary", _columns(SummaryRow), [list(astuple(row)) for row in summary])
    logger.log_table("scores", _columns(Row), first)
    if panels:
        captions = [panel.sample_id for panel in panels]
        logger.log_image("maps", [panel_picture(panel) for panel in panels], caption=captions)
    for curve in curves:
        chart = wandb.plot.line_series(
            xs=list(curve.x),
            ys=[list(line) for line in curve.lines.values()],
            keys=list(curve.lines),
            title=curve.title,
            xname=curve.x_label,
        )
        logger.experiment.log({f"curves/{curve.title}": chart})


def finish(logger: WandbLogger) -> str:
    """Close the run and say where it is: its page, or the command that uploads it."""
    run = logger.experiment
    folder = Path(run.dir).parent
    run.finish()
    if run.offline:
        return f"W&B is offline; upload with: wandb sync {folder}"
    return f"W&B: {run.url}"


def _columns(row_type: type) -> list[str]:
    return [column.name for column in fields(row_type)]
