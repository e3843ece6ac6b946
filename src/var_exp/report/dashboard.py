"""What a dashboard is told of a finished run: means by name, tables, pictures, curves."""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from itertools import islice
from tempfile import TemporaryDirectory
from typing import Any

import numpy as np
from lightning.pytorch.loggers import Logger, TensorBoardLogger, WandbLogger
from PIL import Image

from var_exp.report.figure_style import printed
from var_exp.report.line_figures import draw_curves
from var_exp.report.loggers import finish
from var_exp.report.panel_picture import panel_picture
from var_exp.report.panels import Panel
from var_exp.report.tables import markdown, summary_tables
from var_exp.results.curves import Curves
from var_exp.results.rows import ROW_COLUMNS, Row
from var_exp.results.selection import mean_of
from var_exp.results.summary import SUMMARY_COLUMNS, SummaryRow
from var_exp.text import without_folders

_TABLE_ROWS = 10_000  # W&B shows no more in one table


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
            pictures, rows = [], []
            for number, (drawing, panel) in enumerate(zip(drawn, logged.panels, strict=True)):
                file = f"{folder}/{number}.png"
                drawing.save(file, compress_level=3)
                pictures.append(wandb.Image(file, caption=panel.sample_id))
                rows.append([*_gallery_row(panel, variants), pictures[-1]])
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
