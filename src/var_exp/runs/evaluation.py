"""`evaluate`: one run, from a composed configuration to the table, the files and the report."""

import sys
import time
from collections.abc import Mapping
from functools import partial
from pathlib import Path
from typing import Any, Literal

import torch
from lightning import Trainer
from lightning.pytorch.loggers import Logger
from lightning.pytorch.utilities import rank_zero_only
from omegaconf import DictConfig, OmegaConf
from rich.console import Console

from var_exp.data.datamodule import SampleModule
from var_exp.data.unreadable import not_scored, write_skipped
from var_exp.files import write_whole
from var_exp.methods.saved import Saved
from var_exp.modules.attribution import AttributionModule
from var_exp.report.console import summary_table
from var_exp.report.dashboard import LoggedRun, log_results
from var_exp.report.page import write_report
from var_exp.results.aggregate import results_of
from var_exp.results.by_class import by_class
from var_exp.results.curves import write_curves
from var_exp.results.drawings import Drawings
from var_exp.results.rows import write_rows
from var_exp.results.saved_maps import MapWriter
from var_exp.results.selection import pick_at_random, pick_samples
from var_exp.results.store import Store
from var_exp.results.summary import SummaryRow, read_summary, write_summary
from var_exp.results.verdicts import judge
from var_exp.runs.config import check
from var_exp.runs.estimate import estimate
from var_exp.runs.experiment import Experiment, prepare
from var_exp.runs.gallery import gallery, save_maps
from var_exp.runs.provenance import record_of
from var_exp.runs.run_record import RunRecord
from var_exp.runs.schema import GIVEN, EvaluateConfig
from var_exp.runs.stopping import Interrupted, Stopping
from var_exp.runs.stored import check_stored
from var_exp.runs.trainer import logger_of, trainer_of
from var_exp.seeds import chosen_by_id
from var_exp.text import without_folders
from var_exp.types import AlreadyFinished, ConfigError

_MAPS = "maps"  # folder of a run that holds its maps


def evaluate(cfg: DictConfig, run_dir: Path) -> list[SummaryRow]:
    """Run one configuration and write `summary.csv`, `scores.csv`, `report.html`, `config.yaml`.

    Args:
        cfg: Composed configuration, see `conf/evaluate.yaml`.
        run_dir: Folder that takes what the run writes.

    Returns:
        The summary: one row per metric and variant (empty on all processes but the first, and
        where only an estimate was asked for).

    Raises:
        AlreadyFinished: the folder holds this very run; nothing is done again.
        VarExpError: what the user must mend, before any work begins.
    """
    root = check(cfg, EvaluateConfig, GIVEN)
    experiment = prepare(root)
    dataset = experiment.dataset
    stopping = Stopping()
    trainer = trainer_of(root, run_dir, stopping)
    module = attribution_module(root, experiment)
    keeps_maps = _wanted_maps(root["maps"], experiment.own_pictures)
    if root["dry_run"]:
        module.to(trainer.strategy.root_device)
        kept = {"keeps_maps": bool(keeps_maps), "draws_maps": keeps_maps == "overlays"}
        print(estimate(experiment, module, root["batch_size"], **kept))
        return []
    ids = dataset.ids()
    _leave_finished(run_dir, root, experiment, module)
    if isinstance(experiment.method, Saved):
        module.to(trainer.strategy.root_device)
        check_stored(experiment, experiment.method, module, root["batch_size"], root["workers"])
    with Store(run_dir, ids, trainer.global_rank) as store:
        done = _open(root, experiment, module, run_dir, trainer, store)
        trainer.logger = logger_of(root, run_dir)
        first = frozenset(filter(module.meets_random, ids))
        data = SampleModule(
            dataset, experiment.spec, root["batch_size"], root["workers"], done, first
        )
        module.keep = store.commit
        if keeps_maps:
            drawings = Drawings(run_dir / _MAPS, ids) if keeps_maps == "overlays" else None
            module.keep_maps = partial(
                save_maps, experiment, module, MapWriter(run_dir / _MAPS), drawings
            )
        started = time.perf_counter()
        try:
            stopping.run(trainer, lambda: trainer.test(module, data, verbose=False))
        except Interrupted:
            _say_where(store, trainer)
            raise
        if not trainer.is_global_zero:
            store.close()
        trainer.strategy.barrier()  # the others are done, and their files closed
        if not trainer.is_global_zero:
            return []
        store.absorb()
        seconds = {"seconds since the last start": f"{time.perf_counter() - started:.1f}"}
        facts = {"samples": str(len(store)), **seconds, **RunRecord(run_dir).facts()}
        return _conclude(root, run_dir, experiment, module, store, trainer.logger, facts)


def _wanted_maps(choice: object, own_pictures: bool) -> Literal["raw", "overlays"] | None:
    """What `maps` in the configuration asks for."""
    if choice == "auto":
        return "overlays" if own_pictures else None
    if choice == "overlays":
        return "overlays"
    if isinstance(choice, bool):
        return "raw" if choice else None
    raise ConfigError(f"maps must be true, false, overlays or auto, got {choice!r}.")


def _left_out(run_dir: Path, experiment: Experiment, scored: set[str]) -> dict[str, str]:
    """Name what has no score, in a file and in short."""
    dataset, early = experiment.dataset, experiment.skipped
    reasons = {**early, **not_scored(dataset, scored)}
    if not reasons:
        return dict(experiment.notes)
    short = write_skipped(run_dir / "skipped.csv", reasons, len(dataset) + len(early))
    return {"unreadable, left out": short, **experiment.notes}


def _leave_finished(
    run_dir: Path, root: Mapping[str, Any], experiment: Experiment, module: AttributionModule
) -> None:
    """Show the table of a run that is finished, instead of running it again.

    Raises:
        AlreadyFinished: it is.
    """
    summary = run_dir / "summary.csv"
    if summary.exists():
        RunRecord(run_dir).compare(_record(root, experiment))
        changed = RunRecord(run_dir).changed_files()
        if "summary.csv was edited" not in changed:
            directions = {
                name: metric.traits.higher_is_better for name, metric in module.measures.items()
            }
            table = summary_table(read_summary(summary), directions)
            rank_zero_only(Console(markup=False).print)(table)
        since = f" since it ended, {' and '.join(changed)};" if changed else ""
        raise AlreadyFinished(
            f"{run_dir} holds this run already (report.html, summary.csv, scores.csv);{since} to "
            "run it again, remove that folder or choose another hydra.run.dir."
        )


def _open(
    root: Mapping[str, Any],
    experiment: Experiment,
    module: AttributionModule,
    run_dir: Path,
    trainer: Trainer,
    store: Store,
) -> set[int]:
    """Begin a run, or go on with it; returns the places of the samples that are done.

    The first process does it, and keeps others out from here on.
    """
    if not trainer.is_global_zero:
        return set()
    record = _record(root, experiment)
    RunRecord(run_dir).compare(record)
    store.absorb()
    _leave_finished(run_dir, root, experiment, module)  # it may have become so in the meantime
    device = trainer.strategy.root_device
    on_gpu = device.type == "cuda"
    done = store.done()
    RunRecord(run_dir).begin(
        record,
        processes=trainer.world_size,
        device=torch.cuda.get_device_name(device) if on_gpu else str(device),
        done=len(done),
    )
    write_whole(run_dir / "config.yaml", OmegaConf.to_yaml(root))
    if done:
        print(f"going on in {run_dir}: {len(done)} of {len(store)} samples are done")
    return done


def _record(root: Mapping[str, Any], experiment: Experiment) -> dict[str, Any]:
    return record_of(root, experiment.model, experiment.dataset, experiment.method.files())


@rank_zero_only
def _say_where(store: Store, trainer: Trainer) -> None:
    """How far a run came that Ctrl-C ended."""
    far = f" at {len(store.done())} of {len(store)}" if trainer.world_size == 1 else ""
    print(f"stopped{far}; the same command goes on.", file=sys.stderr)


def attribution_module(root: Mapping[str, Any], experiment: Experiment) -> AttributionModule:
    """What attributes and scores in a run with this configuration.

    Raises:
        ConfigError: random_competitors or pictures below 0.
    """
    for option in ("random_competitors", "pictures"):
        if root[option] < 0:
            raise ConfigError(
                f"{option} must be at least 0, got {root[option]}; set {option}=0 for none."
            )
    return AttributionModule(
        model=experiment.ready,
        method=experiment.method,
        rule=experiment.rule,
        refiners=experiment.refiners,
        make_metrics=experiment.make_metrics,
        class_mapping=experiment.class_mapping,
        as_given=experiment.model,
        controls=root["controls"],
        random_competitors=chosen_by_id(experiment.dataset.ids(), root["random_competitors"]),
        seed=root["seed"],
    )


def _conclude(
    root: Mapping[str, Any],
    run_dir: Path,
    experiment: Experiment,
    module: AttributionModule,
    store: Store,
    logger: Logger | None,
    facts: Mapping[str, str],
) -> list[SummaryRow]:
    """Aggregate the scores; write, show and log what came out.

    `summary.csv` comes last of the files: a run that has it is finished.
    """
    found = results_of(store, module.measures, asks_prediction=experiment.asks_prediction)
    dataset = experiment.dataset
    every = dataset.ids()
    scored = [every[place] for place in sorted(store.done())]
    told = {**found.facts, **_left_out(run_dir, experiment, set(scored))}
    if (run_dir / _MAPS).is_dir():
        MapWriter(run_dir / _MAPS).write_index(
            scored, experiment.model_names or dataset.class_names
        )
    shown = {"count": root["pictures"], "seed": root["seed"]}
    picks = pick_at_random(scored, **shown)
    for metric, higher in list(found.directions.items())[:1]:  # the first one decides
        picks = pick_samples(store.rows(metric), metric=metric, higher_is_better=higher, **shown)
    panels = gallery(experiment, module, picks, root["batch_size"])
    write_rows(run_dir / "scores.csv", store.rows())
    write_report(
        run_dir / "report.html",
        title=root["title"],
        summary=found.summary,
        panels=panels,
        curves=found.curves,
        matrices=found.matrices,
        traits=found.traits,
        chance=found.chance,
        config_yaml=OmegaConf.to_yaml(without_folders(root)),
        facts={**without_folders(told), **facts},
        classes=by_class(
            store.rows(), dataset.class_names, {k: its.bounds for k, its in found.traits.items()}
        ),
        pictures_first=experiment.own_pictures,
        drawings=Drawings(run_dir / _MAPS, every).found(scored),
    )
    write_curves(run_dir / "curves.csv", found.curves)
    write_summary(run_dir / "summary.csv", found.summary, facts["record"])
    written = ("report.html", "summary.csv", "scores.csv", "curves.csv", "config.yaml")
    there = [name for name in written if (run_dir / name).exists()]
    RunRecord(run_dir).finish(there, found.traits)
    console = Console(markup=False, highlight=False)
    if found.summary:
        console.print(summary_table(found.summary, found.directions))
    for verdict in judge(found.summary, found.traits):
        console.print(str(verdict), soft_wrap=True)
    for label, text in told.items():
        console.print(f"{label}: {text}", soft_wrap=True)
    if logger is not None:
        news = LoggedRun(root, found.summary, found.directions, store.rows(), panels, found.curves)
        console.print(log_results(logger, news), soft_wrap=True)
    files = "summary.csv, scores.csv"
    if found.curves:
        files += ", curves.csv"
    if (run_dir / _MAPS).is_dir():
        files += f", {_MAPS}/index.csv"
        files += f", {_MAPS}/pictures" if (run_dir / _MAPS / "pictures").is_dir() else ""
    console.print(f"written to {run_dir}: {files}", soft_wrap=True)
    console.print(f"now open {run_dir / 'report.html'}", style="bold", soft_wrap=True)
    store.remove()
    return found.summary
