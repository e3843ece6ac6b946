"""What a run tells Weights & Biases or TensorBoard: means by name, tables, pictures, curves."""

import netrc
import os
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import astuple, dataclass, fields
from itertools import islice
from math import fsum, isfinite, nan
from pathlib import Path
from secrets import token_hex
from typing import Any
from urllib.parse import urlparse

import numpy as np
import wandb
from lightning.pytorch.loggers import Logger, TensorBoardLogger, WandbLogger
from lightning.pytorch.utilities import rank_zero_only

from var_exp.report.figure_style import printed
from var_exp.report.line_figures import draw_curves
from var_exp.report.panels import Panel, panel_picture
from var_exp.report.plots import Curves
from var_exp.report.rows import Row
from var_exp.report.statistics import SummaryRow
from var_exp.report.tables import markdown, summary_tables
from var_exp.report.verdicts import roles
from var_exp.types import ConfigError

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
    answers, and offline otherwise. A run that goes on in its folder goes on in W&B, too, under the
    id that is kept in `<save_dir>/wandb/run_id`; an agent's `WANDB_RUN_ID` comes first.

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
        project=project,
        name=name,
        save_dir=save_dir,
        id=os.environ.get("WANDB_RUN_ID") or _run_id(Path(save_dir) / "wandb" / "run_id"),
        resume="allow",
        offline=offline,
        settings=settings,
    )


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


@dataclass(frozen=True)
class Told:
    """What a dashboard is told of a finished run; the names are the same in every dashboard.

    Attributes:
        config: Resolved configuration.
        summary: Means go by "metric/variant"; everything goes into the table "summary".
        directions: Whether higher is better, by metric.
        rows: Score rows, of which a dashboard may show the first.
        panels: Samples with their maps, "maps".
        curves: Mean curves, "curves/<metric>".
    """

    config: Mapping[str, Any]
    summary: Sequence[SummaryRow]
    directions: Mapping[str, bool]
    rows: Iterable[Row]
    panels: Sequence[Panel]
    curves: Sequence[Curves]

    @property
    def means(self) -> dict[str, float]:
        """Mean by "metric/variant", as W&B and TensorBoard group them."""
        return {f"{row.metric}/{row.variant}": row.value for row in self.summary}


def log_results(logger: Logger, told: Told) -> str:
    """Tell a dashboard what a run found and close it; returns where to look."""
    if isinstance(logger, WandbLogger):
        log_wandb(logger, told)
        return finish(logger)
    if isinstance(logger, TensorBoardLogger):
        log_tensorboard(logger, told)
        logger.experiment.close()
        return f"TensorBoard: tensorboard --logdir {logger.log_dir}"
    logger.log_metrics(told.means)  # one of the user's own
    return f"told {type(logger).__name__} the means"


def log_wandb(logger: WandbLogger, told: Told) -> None:
    """Means as the run's summary values, tables, pictures in a table, curves as line charts.

    Of very long runs only the first score rows; the file `scores.csv` has them all.
    """
    logger.log_hyperparams(dict(told.config))
    logger.log_metrics(told.means)
    summary = [list(astuple(row)) for row in told.summary]
    logger.log_table("summary", _columns(SummaryRow), summary)
    first = [list(astuple(row)) for row in islice(told.rows, _TABLE_ROWS)]
    logger.log_table("scores", _columns(Row), first)
    log = logger.experiment.log
    for metric in told.directions:
        bars = wandb.Table(
            ["variant", metric],
            [[row.variant, row.value] for row in told.summary if row.metric == metric],
        )
        log({f"means/{metric}": wandb.plot.bar(bars, "variant", metric, title=metric)})
    if told.panels:
        variants = list(told.panels[0].maps)
        columns = ["sample", "shown as", "model says", *(f"{v} score" for v in variants), "maps"]
        log({"gallery": wandb.Table(columns, [_gallery_row(p, variants) for p in told.panels])})
        captions = [panel.sample_id for panel in told.panels]
        pictures = [panel_picture(panel) for panel in told.panels]
        logger.log_image("maps", pictures, caption=captions)
    for curve in told.curves:
        chart = wandb.plot.line_series(
            xs=list(curve.x),
            ys=[list(line) for line in curve.lines.values()],
            keys=list(curve.lines),
            title=f"{curve.title}: {curve.y_label}",
            xname=curve.x_label,
        )
        log({f"curves/{curve.title}": chart})


def _gallery_row(panel: Panel, variants: Sequence[str]) -> list[object]:
    scores = [_mean(panel.scores.get(name, [])) for name in variants]
    picture = wandb.Image(panel_picture(panel))
    return [panel.sample_id, panel.kind, panel.predicted or "", *scores, picture]


def _mean(scores: Sequence[float]) -> float:
    defined = [score for score in scores if isfinite(score)]
    return fsum(defined) / len(defined) if defined else nan


def log_tensorboard(logger: TensorBoardLogger, told: Told) -> None:
    """Means as scalars and beside the hyperparameters, the table as text, pictures, curves."""
    logger.log_hyperparams(dict(told.config), told.means)
    writer = logger.experiment
    for table in summary_tables(told.summary, told.directions):
        writer.add_text(f"summary/{table.title}", markdown(table))
    for panel in told.panels:
        pixels = np.asarray(panel_picture(panel))
        writer.add_image(f"maps/{panel.sample_id}", pixels, dataformats="HWC")
    if told.curves:
        variants = [v for v in told.curves[0].lines if f"{told.curves[0].title}/{v}" in told.means]
        drawn = [name for name in variants if name in _maps(told.summary)]
        with printed():
            writer.add_figure("curves", draw_curves({"": told.curves}, drawn))
    for curve in told.curves:
        for name, line in curve.lines.items():
            for place, value in zip(curve.x, line, strict=True):  # steps are whole: per mille
                writer.add_scalar(f"curves/{curve.title}/{name}", value, round(1000 * place))


def _maps(summary: Sequence[SummaryRow]) -> list[str]:
    """Base and refiners, without controls and differences."""
    role_of = roles(list(dict.fromkeys(row.variant for row in summary)))
    return [name for name, role in role_of.items() if role in ("base", "refined")]


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
