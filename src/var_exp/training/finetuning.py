"""Fine-tune any model on any labelled data, into a file that `evaluate.py` takes as it is."""

import json
import time
import warnings
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from lightning import LightningDataModule, Trainer, seed_everything
from lightning.pytorch.callbacks import EarlyStopping, ModelCheckpoint
from lightning.pytorch.loggers import WandbLogger
from lightning.pytorch.utilities import rank_zero_info
from torch import nn
from torch.utils.data import DataLoader

from var_exp.models import class_names, input_spec
from var_exp.models.checkpoint import read_checkpoint, write_checkpoint
from var_exp.models.description import run_or_refuse
from var_exp.models.frozen import frozen
from var_exp.registry import build
from var_exp.report.loggers import finish
from var_exp.runs.stopping import interruptible
from var_exp.runs.trainer import built_trainer
from var_exp.training.classifier import ACCURACY, LOSS, TunedClassifier
from var_exp.training.pictures import Attempt, EpochOrder, Views, collate_attempts, hold_out
from var_exp.types import BadData, ConfigError, SampleDataset, UnsupportedModel

_LAST = Path("checkpoints") / "last.ckpt"
_WEIGHTS = "checkpoint.safetensors"


@dataclass(frozen=True)
class FineTuning:
    """How a model is trained on given pictures.

    Args:
        epochs: Most passes over the pictures.
        patience: Epochs without a lower loss on the held-out pictures that end the training.
        held_out: Share of the pictures that the model is chosen by, 0 to 1, neither of them.
        batch_size: Pictures of one step.
        learning_rate: Highest of the cycle.
        weight_decay: Of all parameters with more than one dimension.
        warmup: Share of the steps until the learning rate is highest.
        clip: Largest norm of the gradient.
        zoom: Least share of a picture that a training view shows, above 0; 1 shows all of it.
        masked: Largest share of a training view that is masked with the mean colour, at random;
            0 masks nothing, below 1.

    Raises:
        ConfigError: an option out of its range.
    """

    epochs: int = 20
    patience: int = 5
    held_out: float = 0.2
    batch_size: int = 32
    learning_rate: float = 1e-4
    weight_decay: float = 0.05
    warmup: float = 0.15
    clip: float = 1.0
    zoom: float = 0.5
    masked: float = 0.0

    def __post_init__(self) -> None:
        for name in ("epochs", "patience", "batch_size"):
            if getattr(self, name) < 1:
                raise ConfigError(f"recipe.{name} must be at least 1, got {getattr(self, name)}.")
        if not 0 < self.held_out < 1:
            raise ConfigError(f"recipe.held_out must be between 0 and 1, got {self.held_out}.")
        if not 0 < self.zoom <= 1:
            raise ConfigError(f"recipe.zoom must be above 0 and at most 1, got {self.zoom}.")
        if not 0 <= self.masked < 1:
            raise ConfigError(f"recipe.masked must be at least 0 and below 1, got {self.masked}.")


class TrainingModule(LightningDataModule):
    """Batches of views to learn from, and of the held-out pictures as they are."""

    def __init__(
        self,
        dataset: SampleDataset,
        split: tuple[Sequence[int], Sequence[int]],
        recipe: FineTuning,
        *,
        workers: int,
        seed: int,
        colour: Sequence[float],
    ) -> None:
        super().__init__()
        self.colour = colour
        self.dataset = dataset
        self.split = split
        self.recipe = recipe
        self.workers = workers
        self.seed = seed

    def train_dataloader(self) -> DataLoader[Attempt]:
        """Shuffled; an incomplete batch at the end is left out, unless it is the only one."""
        complete = len(self.split[0]) >= self.recipe.batch_size
        recipe = self.recipe
        views = Views(self.dataset, recipe.zoom, self.seed, recipe.masked, self.colour)
        return self._loader(views, EpochOrder(self.split[0], self.seed), drop_last=complete)

    def val_dataloader(self) -> DataLoader[Attempt]:
        """In order."""
        order = EpochOrder(self.split[1], None)
        return self._loader(Views(self.dataset, None, self.seed), order, drop_last=False)

    def on_before_batch_transfer(self, batch: object, dataloader_idx: int) -> object:
        """End the training where a picture that cannot be read is to do that.

        Raises:
            BadData: what cannot be read.
        """
        if isinstance(batch, BadData):
            raise batch
        return batch

    def _loader(self, views: Views, order: EpochOrder, *, drop_last: bool) -> DataLoader[Attempt]:
        return DataLoader(
            views,
            batch_size=self.recipe.batch_size,
            sampler=order,
            num_workers=self.workers,
            collate_fn=collate_attempts,
            drop_last=drop_last,
        )


def fine_tune(root: Mapping[str, Any], recipe: FineTuning, folder: Path) -> dict[str, float]:
    """Train as configured; the same command in the same folder goes on where it was interrupted.

    Args:
        root: Checked configuration: model, data, trainer, logger, seed, workers.
        recipe: How long, and how.
        folder: Takes `checkpoint.safetensors` (the best weights, the class names, the input),
            `accuracy.json`, and in `checkpoints` the last and the best state of the training.

    Returns:
        Share of the held-out pictures whose class the written weights put first, the loss on them,
        the epochs, and the number of pictures on each side.

    Raises:
        ConfigError: the folder holds a finished training, or something does not fit together.
        BadData: pictures are missing, or cannot be read.
    """
    if (folder / _WEIGHTS).exists():
        raise ConfigError(f"{folder} already holds a trained model; choose another hydra.run.dir.")
    started = time.monotonic()
    seed_everything(root["seed"], verbose=False)
    model: nn.Module = build(root["model"], where="model")
    spec = input_spec(model)
    dataset: SampleDataset = build(root["data"], where="data", spec=spec)
    names = list(dataset.class_names)
    if class_names(model) != tuple(names):  # else it goes on with the classes that it knows
        model.reset_classifier(len(names))  # type: ignore[operator]  # timm's
    _check_takes(model, dataset)
    split = hold_out(dataset, recipe.held_out)
    how = {"workers": root["workers"], "seed": root["seed"], "colour": spec.mean}
    data = TrainingModule(dataset, split, recipe, **how)
    model.requires_grad_(True).train().to(memory_format=torch.channels_last)
    rate = (recipe.learning_rate, recipe.weight_decay, recipe.warmup)
    module = TunedClassifier(model, spec, *rate, class_names=names)
    trainer = _trainer(root, recipe, folder)
    last = folder / _LAST
    with interruptible("stopped; the same command goes on after the last whole epoch."):
        trainer.fit(module, data, ckpt_path=last if last.is_file() else None)
    best = trainer.checkpoint_callback.best_model_path  # type: ignore[union-attr]  # is one
    model.cpu().load_state_dict(read_checkpoint(Path(best)).of(model.state_dict()))
    (held,) = trainer.validate(module, data, verbose=False)
    if not trainer.is_global_zero:
        return {}
    model.cpu().eval().requires_grad_(False)
    write_checkpoint(folder / _WEIGHTS, model, names)
    results = {
        "accuracy": held[ACCURACY],
        "loss": held[LOSS],
        "epochs": trainer.current_epoch,
        "learnt_from": len(split[0]),
        "held_out": len(split[1]),
        "seconds": round(time.monotonic() - started, 1),
    }
    (folder / "accuracy.json").write_text(json.dumps(results, indent=2) + "\n")
    _tell(results, trainer, folder, root)
    return results


def _check_takes(model: nn.Module, dataset: SampleDataset) -> None:
    """Refuse pictures of a size that the model does not take; those in files are cut to it."""
    if any(True for _ in dataset.files()):
        return
    try:
        with frozen(model), torch.no_grad():
            run_or_refuse(model, dataset[0].image[None].to(next(model.parameters()).device))
    except UnsupportedModel as error:
        spec, (height, width) = input_spec(model), dataset[0].image.shape[1:]
        takes = (spec.size, spec.width or spec.size)
        fix = f"set data.size={spec.size}" if takes[0] == takes[1] else "they are drawn in squares"
        raise ConfigError(
            f"the model takes pictures of {takes[0]} x {takes[1]} px, got drawn ones of {height} x "
            f"{width}; {fix}, or train it on pictures of your own with data=folder."
        ) from error


def _trainer(root: Mapping[str, Any], recipe: FineTuning, folder: Path) -> Trainer:
    asked = root["logger"]
    logger = (build(asked, where="logger", save_dir=str(folder)) if asked else None) or False
    warnings.filterwarnings("ignore", module="lightning.pytorch")  # advice; ours are sentences
    keep = ModelCheckpoint(
        folder / _LAST.parent, "best", monitor=LOSS, save_last=True, enable_version_counter=False
    )
    return built_trainer(
        root["trainer"],
        max_epochs=recipe.epochs,
        gradient_clip_val=recipe.clip,
        logger=logger,
        callbacks=[keep, EarlyStopping(LOSS, patience=recipe.patience)],
        default_root_dir=str(folder),
        enable_model_summary=False,
        num_sanity_val_steps=0,
        log_every_n_steps=1,
    )


def _tell(
    results: Mapping[str, float], trainer: Trainer, folder: Path, root: Mapping[str, Any]
) -> None:
    for name, value in results.items():
        rank_zero_info(f"{name}: {value:.4g}")
    if isinstance(trainer.logger, WandbLogger):
        rank_zero_info(finish(trainer.logger))
    rank_zero_info(
        f"weights: {folder / _WEIGHTS}; explain them with evaluate.py, the same model= and data=, "
        f"and model.checkpoint={folder / _WEIGHTS}"
    )
