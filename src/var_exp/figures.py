"""Figures for a paper, one command each, from finished runs.

    var-exp figures grid SWEEP            methods as columns, base and refined as rows
    var-exp figures classes RUN RUN       several classes of one picture, on two models
    var-exp figures cutout RUN            probabilities before and after maps are cut out
    var-exp figures curves RUN …          base dashed, refined solid

Each is written as PDF, SVG and PNG, with its numbers in LaTeX and Markdown beside it. The picture
of a whole comparison is made by `var-exp sweep`.
"""

import argparse
import sys
from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np
import torch
from rich.console import Console

from var_exp.metrics.ranking import rank
from var_exp.parsers import figures_parser
from var_exp.report.comparison_tables import comparison_tables
from var_exp.report.line_figures import (
    Cutout,
    curve_figure,
    cutout_figure,
    cutout_table,
)
from var_exp.report.map_figures import Tile, class_blocks, grid_blocks, legend_of, sheet
from var_exp.report.tables import Cell, Table, write_tables
from var_exp.results.comparison import compare
from var_exp.results.curves import read_curves
from var_exp.results.verdicts import number
from var_exp.runs.evaluation import attribution_module
from var_exp.runs.finished import FinishedRun
from var_exp.runs.gallery import panels_of
from var_exp.runs.jobs import find_jobs, label_jobs, read_run, traits_of
from var_exp.seeds import sample_generator
from var_exp.text import readable
from var_exp.types import BadData, VarExpError
from var_exp.variants import BASE

Options = argparse.Namespace


def _grid(runs: Sequence[FinishedRun], out: Path, options: Options) -> list[Path]:
    ids = options.samples or runs[0].picks(options.count or 2)
    panels = {run.place: run.panels(ids) for run in runs}
    variants = _variants(runs, options)
    legend = legend_of((one for shown in panels.values() for one in shown), variants)
    return sheet(out, grid_blocks(panels, variants), legend) + _compared(runs, out)


def _classes(runs: Sequence[FinishedRun], out: Path, options: Options) -> list[Path]:
    (id, *_) = options.samples or runs[0].picks(1)
    panels = {run.name: run.panels([id])[0] for run in runs}
    variants = _variants(runs, options)
    legend = legend_of(panels.values(), variants)
    files = sheet(out, class_blocks(panels, variants, options.classes), legend)
    rows = [
        [
            Cell(name, code=True),
            Cell(panel.class_names[column]),
            *(Cell(number(panel.scores[v][column])) for v in variants),
        ]
        for name, panel in panels.items()
        for column in range(min(panel.asked, options.classes))
    ]
    metric = next(iter(panels.values())).metric
    columns = [Cell("run"), Cell("class"), *(Cell(name, code=True) for name in variants)]
    return files + write_tables(out, [Table(f"{readable(metric)} of {id}", columns, rows, names=2)])


def _cutout(runs: Sequence[FinishedRun], out: Path, options: Options) -> list[Path]:
    files, tables = [], []
    for place, run in enumerate(runs):
        (id, *_) = options.samples or runs[0].picks(1)
        found = cut_out(run, id, _variants(runs, options), options.share, options.classes)
        stem = out if len(runs) == 1 else out.with_name(f"{out.name}_{place}")
        files += cutout_figure(stem, found)
        tables.append(cutout_table(found))
    return files + write_tables(out, tables)


def _curves(runs: Sequence[FinishedRun], out: Path, options: Options) -> list[Path]:
    curves = {run.name: read_curves(run.job.folder / "curves.csv") for run in runs}
    titles = {curve.title for found in curves.values() for curve in found}
    if not titles:
        raise BadData("these runs have no curves; score metrics that have, such as insertion_auc.")
    files = curve_figure(out, curves, _variants(runs, options))
    return files + _compared(runs, out, titles)


FIGURES: dict[str, Callable[[Sequence[FinishedRun], Path, Options], list[Path]]] = {
    "grid": _grid,
    "classes": _classes,
    "cutout": _cutout,
    "curves": _curves,
}


def cut_out(
    run: FinishedRun, id: str, variants: Sequence[str], share: float, classes: int
) -> Cutout:
    """Take the strongest pixels of each class's map out of a picture and ask the model again.

    A pixel taken out becomes 0, the mean colour. Only pixels that speak for the class go; where
    equal values decide, chance does, seeded by the id.

    Args:
        run: Whose model and maps.
        id: The sample.
        variants: Base and refiners.
        share: Of the pixels that are taken out at most.
        classes: At most so many of the competing classes, in their order.
    """
    experiment = run.experiment
    module = attribution_module(run.root, experiment)
    batch = run.batch(id)
    attributed = module.attribute(batch, controls=False)
    (panel,) = panels_of(experiment, module, batch, attributed)
    names, labels = panel.class_names[:classes], attributed.classes[0, :classes].tolist()
    height, width = batch.images.shape[-2:]
    taken = round(share * height * width)
    chance = torch.randperm(
        height * width, generator=sample_generator(run.root["seed"], f"{id}/intervention")
    )

    def probabilities(images: torch.Tensor) -> list[list[float]]:
        with torch.no_grad():
            found: list[list[float]] = experiment.model(images).softmax(1)[:, labels].tolist()
        return found

    masked, after = {}, {}
    pixels = panel.image.permute(1, 2, 0).numpy()
    for variant in variants:
        maps = panel.maps[variant][: len(names)]
        order = rank([maps], chance.expand(len(names), -1), (height, width), 1)
        kept = (order.places >= taken) | (maps.sum(1) <= 0)
        after[variant] = probabilities(batch.images * kept[:, None])
        masked[variant] = [
            Tile(
                np.where(one[..., None], pixels, np.uint8(225)),
                caption=f"{100 * (~one).float().mean():.1f} % cut out",
            )
            for one in kept
        ]
    picture = Tile(pixels, caption=run.name)
    (before,) = probabilities(batch.images)
    return Cutout(run.name, id, names, share, picture, before, masked, after)


def _variants(runs: Sequence[FinishedRun], options: Options) -> list[str]:
    """Base and the refiners that every run has, or those that were asked for."""
    common = [name for name in runs[0].refiners if all(name in run.refiners for run in runs)]
    known = [BASE, *common]
    for name in options.variants or []:
        if name not in known:
            raise BadData(f"there is no variant '{name}' in all of these runs: {', '.join(known)}.")
    return options.variants or known


def _compared(
    runs: Sequence[FinishedRun], out: Path, metrics: set[str] | None = None
) -> list[Path]:
    """The tables of the runs' figures, of the first metric or of those named."""
    traits = traits_of(runs[0].job)
    chosen = metrics or set(list(traits)[:1])
    read = [read_run(run.job, run.labels, out.parent) for run in runs]
    wanted = {name: each for name, each in traits.items() if name in chosen}
    return write_tables(out, comparison_tables(compare(read, wanted)))


def _runs(folders: Sequence[Path]) -> list[FinishedRun]:
    jobs = [job for folder in folders for job in find_jobs(folder) if job.finished]
    if not jobs:
        raise BadData(f"no run in {', '.join(map(str, folders))} is finished; run them first.")
    labels = label_jobs(jobs)
    if len(jobs) == 1:
        labels = [{"method": jobs[0].option("method"), "model": jobs[0].option("model")}]
    return [FinishedRun(job, each) for job, each in zip(jobs, labels, strict=True)]


def main(arguments: Sequence[str] | None = None) -> int:
    """Draw the figure that the command line asks for."""
    parser = figures_parser()
    options = parser.parse_args(arguments)
    if not 0 < options.share < 1 or options.classes < 1 or (options.count or 1) < 1:
        parser.error("--share must lie between 0 and 1, --classes and --count be 1 or more.")
    out = options.out or Path(options.kind)
    try:
        out.parent.mkdir(parents=True, exist_ok=True)
        files = FIGURES[options.kind](_runs(options.runs), out, options)
    except (VarExpError, OSError) as error:
        print(f"error: {error}", file=sys.stderr)
        return 2
    Console(markup=False).print(
        "written: " + " ".join(map(str, files)), soft_wrap=True, highlight=False
    )
    return 0


if __name__ == "__main__":
    sys.exit(main())
