"""`evaluate`: one run, from a composed configuration to the table, the files and the report."""

import logging
import platform
import time
import warnings
from collections.abc import Mapping
from importlib.metadata import version
from pathlib import Path
from typing import Any

from lightning import Trainer
from lightning.fabric.utilities.exceptions import MisconfigurationException
from lightning.pytorch.callbacks import RichProgressBar
from lightning.pytorch.loggers import WandbLogger
from omegaconf import DictConfig, OmegaConf
from rich.console import Console

from var_exp.config import EvaluateConfig, check
from var_exp.data.datamodule import SampleModule
from var_exp.experiment import GIVEN, Experiment, prepare
from var_exp.gallery import gallery
from var_exp.modules.attribution import AttributionModule
from var_exp.modules.variants import control_names
from var_exp.registry import build
from var_exp.report.classes import by_class
from var_exp.report.loggers import finish, log_results
from var_exp.report.page import write_report
from var_exp.report.rows import Row, RowWriter, read_rows
from var_exp.report.selection import pick_samples
from var_exp.report.statistics import SummaryRow, summarise, write_summary
from var_exp.report.table import summary_table
from var_exp.report.verdicts import judge
from var_exp.types import ConfigError


def evaluate(cfg: DictConfig, run_dir: Path) -> list[SummaryRow]:
    """Run one configuration and write `summary.csv`, `scores.csv`, `report.html`, `config.yaml`.

    Args:
        cfg: Composed configuration, see `conf/evaluate.yaml`.
        run_dir: Folder that takes what the run writes.

    Returns:
        The summary: one row per metric and variant (empty on all processes but the first).

    Raises:
        VarExpError: what the user must mend, before any work begins.
    """
    if (run_dir / "summary.csv").exists():
        raise ConfigError(f"{run_dir} already holds a finished run; choose another hydra.run.dir.")
    root = check(cfg, EvaluateConfig, GIVEN)
    experiment = prepare(root)
    data = SampleModule(experiment.dataset, experiment.spec, root["batch_size"], root["workers"])
    trainer = _trainer(root, run_dir)
    if trainer.world_size > len(experiment.dataset):
        raise ConfigError(
            f"{trainer.world_size} processes have only {len(experiment.dataset)} samples to share; "
            "lower trainer.devices."
        )
    if trainer.is_global_zero:
        (run_dir / "config.yaml").write_text(OmegaConf.to_yaml(root), encoding="utf-8")
    module = _module(root, experiment)
    started = time.perf_counter()
    with RowWriter(run_dir / f"scores.rank{trainer.global_rank}.csv") as writer:
        module.writer = writer
        trainer.test(module, data, verbose=False)
    trainer.strategy.barrier()
    if not trainer.is_global_zero:
        return []
    facts = _facts(root, experiment, module, seconds=time.perf_counter() - started)
    return _conclude(root, run_dir, experiment, module, trainer.logger, facts)


def _trainer(root: Mapping[str, Any], run_dir: Path) -> Trainer:
    logger = (
        build(root["logger"], where="logger", save_dir=str(run_dir)) if root["logger"] else False
    )
    # Lightning's advice is for training loops; ours to give are errors in one sentence.
    logging.getLogger("lightning.pytorch").setLevel(logging.ERROR)
    warnings.filterwarnings("ignore", module="lightning.pytorch")
    try:
        trainer: Trainer = build(
            root["trainer"],
            where="trainer",
            logger=logger,
            callbacks=[RichProgressBar()],
            default_root_dir=str(run_dir),
            inference_mode=False,  # attribution needs gradients
            use_distributed_sampler=False,  # it would repeat samples to even out the processes
            enable_checkpointing=False,
            enable_model_summary=False,
        )
    except MisconfigurationException as error:
        raise ConfigError(f"trainer: {error}") from error
    return trainer


def _module(root: Mapping[str, Any], experiment: Experiment) -> AttributionModule:
    return AttributionModule(
        model=experiment.model,
        method=experiment.method,
        rule=experiment.rule,
        refiners=experiment.refiners,
        make_metrics=experiment.make_metrics,
        controls=root["controls"],
        seed=root["seed"],
    )


def _facts(
    root: Mapping[str, Any], experiment: Experiment, module: AttributionModule, seconds: float
) -> dict[str, str]:
    """What a reader must know to trust or repeat the run."""
    facts = {
        "samples": str(len(experiment.dataset)),
        **module.facts,
        "seconds": f"{seconds:.1f}",
        "seed": str(root["seed"]),
        "device": str(module.device),
        "python": platform.python_version(),
    }
    packages = ("var_exp", "torch", "timm", "lightning", "captum", "torchmetrics")
    return facts | {package: version(package) for package in packages}


def _merge_scores(run_dir: Path) -> list[Row]:
    """Join the rows that each process wrote into `scores.csv`."""
    parts = sorted(run_dir.glob("scores.rank*.csv"))
    rows = [row for part in parts for row in read_rows(part)]
    with RowWriter(run_dir / "scores.csv") as writer:
        writer.write(rows)
    for part in parts:
        part.unlink()
    return rows


def _conclude(
    root: Mapping[str, Any],
    run_dir: Path,
    experiment: Experiment,
    module: AttributionModule,
    logger: object,
    facts: Mapping[str, str],
) -> list[SummaryRow]:
    """Aggregate the scores; write, show and log what came out."""
    rows = _merge_scores(run_dir)
    refiners = list(module.refiners)
    controls = control_names(refiners) if module.controls else []
    summary = summarise(rows, refiners=refiners, controls=controls)
    directions, curves = module.directions(), module.curves
    verdicts = judge(summary, directions)
    metric, *_ = directions
    picks = pick_samples(
        rows,
        metric=metric,
        higher_is_better=directions[metric],
        refiners=refiners,
        count=root["pictures"],
        seed=root["seed"],
    )
    panels = gallery(experiment, module, picks)
    write_summary(run_dir / "summary.csv", summary)
    write_report(
        run_dir / "report.html",
        title=root["title"],
        summary=summary,
        panels=panels,
        curves=curves,
        higher_is_better=directions,
        chance=module.chance,
        config_yaml=(run_dir / "config.yaml").read_text(encoding="utf-8"),
        facts=facts,
        classes=by_class(rows, experiment.dataset.class_names, refiners=refiners),
    )
    console = Console()
    console.print(summary_table(summary, directions))
    for verdict in verdicts:
        console.print(str(verdict), soft_wrap=True)
    for label, text in module.facts.items():
        console.print(f"{label}: {text}", soft_wrap=True)
    if isinstance(logger, WandbLogger):
        log_results(logger, root, summary, rows, panels, curves)
        console.print(finish(logger), soft_wrap=True)
    console.print(f"written to {run_dir}: report.html, summary.csv, scores.csv", soft_wrap=True)
    return summary
