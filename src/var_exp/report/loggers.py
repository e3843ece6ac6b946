"""What a run tells Weights & Biases or TensorBoard: means by name, tables, pictures, curves."""

import logging
import netrc
import os
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from secrets import token_hex
from tempfile import TemporaryDirectory
from typing import Any
from urllib.parse import urlparse

import numpy as np
from lightning.pytorch.loggers import Logger, TensorBoardLogger, WandbLogger
from lightning.pytorch.utilities import rank_zero_only
from PIL import Image

from var_exp.conf_files import did_you_mean
from var_exp.report.figure_style import printed
from var_exp.report.line_figures import draw_curves
from var_exp.report.panel_picture import panel_picture
from var_exp.report.panels import Panel
from var_exp.report.tables import markdown, summary_tables
from var_exp.results.curves import Curves
from var_exp.results.rows import ROW_COLUMNS, Row
from var_exp.results.selection import mean_of
from var_exp.results.summary import SUMMARY_COLUMNS, SummaryRow
from var_exp.text import without_folders
from var_exp.types import ConfigError

_CONNECT_SECONDS = 20
_MODES = ("online", "offline", "disabled", "shared", "run", "dryrun")  # of `WANDB_MODE`
_TABLE_ROWS = 10_000  # W&B shows no more in one table
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


@dataclass(frozen=True)
class LoggedRun:
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
    def public_config(self) -> dict[str, Any]:
        """The configuration without the folders that its files lie in."""
        return {key: without_folders(value) for key, value in self.config.items()}

    @property
    def means(self) -> dict[str, float]:
        """Mean by "metric/variant", as W&B and TensorBoard group them."""
        return {f"{row.metric}/{row.variant.name}": row.value for row in self.summary}


def log_results(logger: Logger, logged: LoggedRun) -> str:
    """Tell a dashboard what a run found and close it; returns where to look."""
    if isinstance(logger, WandbLogger):
        log_wandb(logger, logged)
        return finish(logger)
    if isinstance(logger, TensorBoardLogger):
        log_tensorboard(logger, logged)
        logger.experiment.close()
        return f"TensorBoard: tensorboard --logdir {logger.log_dir}"
    logger.log_metrics(logged.means)  # one of the user's own
    return f"told {type(logger).__name__} the means"


def log_wandb(logger: WandbLogger, logged: LoggedRun) -> None:
    """Means as the run's summary values, tables, pictures in a table, curves as line charts.

    Of very long runs only the first score rows; the file `scores.csv` has them all.
    """
    import wandb

    logger.log_hyperparams(logged.public_config)
    logger.log_metrics(logged.means)
    logger.log_table("summary", SUMMARY_COLUMNS, [list(row.cells) for row in logged.summary])
    first = [list(row.cells) for row in islice(logged.rows, _TABLE_ROWS)]
    logger.log_table("scores", ROW_COLUMNS, first)
    log = logger.experiment.log
    for metric in logged.directions:
        bars = wandb.Table(
            ["variant", metric],
            [[row.variant.name, row.value] for row in logged.summary if row.metric == metric],
        )
        log({f"means/{metric}": wandb.plot.bar(bars, "variant", metric, title=metric)})
    if logged.panels:
        variants = list(logged.panels[0].maps)
        columns = ["sample", "shown as", "model says", *(f"{v} score" for v in variants), "maps"]
        drawn = _of_one_size([panel_picture(panel) for panel in logged.panels])
        with TemporaryDirectory() as folder:  # W&B copies from there, and would encode more slowly
            pictures = []
            for number, (picture, panel) in enumerate(zip(drawn, logged.panels, strict=True)):
                file = f"{folder}/{number}.png"
                picture.save(file, compress_level=3)
                pictures.append(wandb.Image(file, caption=panel.sample_id))
            rows = [
                [*_gallery_row(panel, variants), picture]
                for panel, picture in zip(logged.panels, pictures, strict=True)
            ]
            log({"gallery": wandb.Table(columns, rows)})
            log({"maps": pictures})
    for curve in logged.curves:
        chart = wandb.plot.line_series(
            xs=list(curve.x),
            ys=[list(line) for line in curve.lines.values()],
            keys=list(curve.lines),
            title=f"{curve.title}: {curve.y_label}",
            xname=curve.x_label,
        )
        log({f"curves/{curve.title}": chart})


def _of_one_size(pictures: Sequence[Image.Image]) -> list[Image.Image]:
    """Pictures on white ground as large as the largest: W&B shows them as one series."""
    width, height = (max(sides) for sides in zip(*(one.size for one in pictures), strict=True))
    grounds = [Image.new("RGB", (width, height), "white") for _ in pictures]
    for ground, picture in zip(grounds, pictures, strict=True):
        ground.paste(picture)
    return grounds


def _gallery_row(panel: Panel, variants: Sequence[str]) -> list[object]:
    scores = [mean_of(panel.scores.get(name, [])) for name in variants]
    return [panel.sample_id, panel.kind, panel.predicted or "", *scores]


def log_tensorboard(logger: TensorBoardLogger, logged: LoggedRun) -> None:
    """Means as scalars and beside the hyperparameters, the table as text, pictures, curves."""
    logger.log_hyperparams(logged.public_config, logged.means)
    writer = logger.experiment
    for table in summary_tables(logged.summary, logged.directions):
        writer.add_text(f"summary/{table.title}", markdown(table))
    for panel in logged.panels:
        pixels = np.asarray(panel_picture(panel))
        writer.add_image(f"maps/{panel.sample_id}", pixels, dataformats="HWC")
    if logged.curves:
        variants = [
            v for v in logged.curves[0].lines if f"{logged.curves[0].title}/{v}" in logged.means
        ]
        drawn = [name for name in variants if name in _maps(logged.summary)]
        with printed():
            writer.add_figure("curves", draw_curves({"": logged.curves}, drawn))
    for curve in logged.curves:
        for name, line in curve.lines.items():
            for place, value in zip(curve.x, line, strict=True):  # steps are whole: per mille
                writer.add_scalar(f"curves/{curve.title}/{name}", value, round(1000 * place))


def _maps(summary: Sequence[SummaryRow]) -> list[str]:
    """Base and refiners, without controls and differences."""
    variants = dict.fromkeys(row.variant for row in summary)
    return [variant.name for variant in variants if variant.role in ("base", "refined")]


def finish(logger: WandbLogger) -> str:
    """Close the run and say where it is: its page, or the command that uploads it."""
    run = logger.experiment
    folder = Path(run.dir).parent
    run.finish()
    if run.offline:
        return f"W&B is offline; upload with: wandb sync {folder}"
    return f"W&B: {run.url}"
