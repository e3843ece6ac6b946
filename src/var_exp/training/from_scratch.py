"""Train a model: on critters from scratch, measured on fresh pictures, or by another recipe."""

import json
import time
from dataclasses import dataclass
from pathlib import Path

import torch
from lightning import seed_everything
from lightning.pytorch.utilities import rank_zero_info
from omegaconf import DictConfig, open_dict
from safetensors.torch import save_file
from torch import Tensor, nn
from torch.utils.data import BatchSampler, DataLoader, RandomSampler

from var_exp.data.critter_pool import CritterPool
from var_exp.data.critters import Critters
from var_exp.data.datamodule import SampleModule
from var_exp.data.layouts import Grid
from var_exp.models import input_spec
from var_exp.models.frozen import frozen
from var_exp.registry import build
from var_exp.runs.config import check
from var_exp.runs.schema import GIVEN, TrainConfig
from var_exp.runs.stopping import interruptible
from var_exp.runs.trainer import built_trainer
from var_exp.training.classifier import Classifier
from var_exp.training.finetuning import FineTuning, fine_tune
from var_exp.types import ConfigError, InputSpec, SampleDataset, VarExpError

CHECK_STREAM = "check"
"""Seed of the fresh pictures that a trained model is measured on."""


@dataclass(frozen=True)
class Recipe:
    """How long and on what a model is trained.

    Args:
        pictures: Pictures seen in training, repeats included.
        pool: Different pictures among them.
        pairs: Share of two-object scenes, 0 to 1.
        batch_size: Pictures of one step.
        learning_rate: Highest of the cycle.
        weight_decay: Of all parameters with more than one dimension.
        warmup: Share of the steps until the learning rate is highest.
        clip: Largest norm of the gradient.

    Raises:
        ConfigError: an option out of its range.
    """

    pictures: int
    pool: int
    learning_rate: float
    pairs: float = 0.5
    batch_size: int = 128
    weight_decay: float = 0.05
    warmup: float = 0.15
    clip: float = 1.0

    def __post_init__(self) -> None:
        if not self.batch_size <= self.pool <= self.pictures:
            raise ConfigError(
                "recipe: batch_size <= pool <= pictures must hold, got "
                f"{self.batch_size}, {self.pool}, {self.pictures}; change one of them."
            )
        if not 0 <= self.pairs <= 1:
            raise ConfigError(f"recipe.pairs must be between 0 and 1, got {self.pairs}.")


def train(cfg: DictConfig, folder: Path) -> dict[str, float]:
    """Train as configured; write `checkpoint.safetensors` and `accuracy.json`.

    Critters models from scratch are written in float16.

    Args:
        cfg: Root of `train.py`: model, data, recipe, trainer, logger, seed, workers, checked.
        folder: Where the files go.

    Returns:
        What `measure` or `fine_tune` says of the weights as written, with the `seconds` it took.

    Raises:
        ConfigError: the configuration does not fit together.
    """
    if "_target_" not in cfg.recipe:  # the model has none of its own
        with open_dict(cfg):
            cfg.recipe["_target_"] = "var_exp.training.finetuning.FineTuning"
    root = check(cfg, TrainConfig, GIVEN)
    recipe: Recipe | FineTuning = build(root["recipe"], where="recipe")
    if isinstance(recipe, FineTuning):
        return fine_tune(root, recipe, folder)
    if root["data"].get("_target_") != "var_exp.data.critters.Critters":
        raise ConfigError("this recipe draws its own critters; for other data use recipe=finetune.")
    seed_everything(root["seed"], verbose=False)
    model: nn.Module = build({**root["model"], "pretrained": False}, where="model")
    _check_pictures(root["checked"], input_spec(model))
    started = time.monotonic()
    fit(model, recipe, root["trainer"], root["workers"])
    seconds = time.monotonic() - started
    weights = {
        name: (tensor.half() if tensor.is_floating_point() else tensor).contiguous()
        for name, tensor in model.state_dict().items()
    }
    model.load_state_dict(weights)  # measured as written
    save_file(weights, folder / "checkpoint.safetensors")
    results = {**measure(model, root["checked"]), "seconds": round(seconds, 1)}
    (folder / "accuracy.json").write_text(json.dumps(results, indent=2) + "\n")
    for name, value in results.items():
        rank_zero_info(f"{name}: {value}")
    rank_zero_info(f"weights: {folder / 'checkpoint.safetensors'}")
    return results


def fit(model: nn.Module, recipe: Recipe, trainer: dict[str, object], workers: int = 0) -> None:
    """Train a model in place and leave it frozen in eval mode."""
    spec = input_spec(model)
    if spec.width is not None:
        raise ConfigError(
            f"the model takes pictures of {spec.size} x {spec.width} px, and critters are drawn in "
            "squares; train it on pictures of your own with recipe=finetune data=folder."
        )
    pool = CritterPool(recipe.pool, recipe.pairs, spec.size, workers)
    sampler = RandomSampler(pool, num_samples=recipe.pictures)
    batches = DataLoader(
        pool, sampler=BatchSampler(sampler, recipe.batch_size, drop_last=True), batch_size=None
    )
    model.requires_grad_(True).train().to(memory_format=torch.channels_last)
    module = Classifier(model, spec, recipe.learning_rate, recipe.weight_decay, recipe.warmup)
    driver = built_trainer(
        trainer,
        max_epochs=1,
        gradient_clip_val=recipe.clip,
        logger=False,
        enable_checkpointing=False,
        enable_model_summary=False,
    )
    with interruptible("stopped; the same command begins again."):
        driver.fit(module, batches)
    model.cpu().eval().requires_grad_(False)


def measure(model: nn.Module, count: int) -> dict[str, float]:
    """Shares of fresh pictures whose classes are the model's first choices.

    Args:
        model: Takes normalised pictures.
        count: Single critters, and as many scenes; the grids hold the single ones.

    Returns:
        "singles": one critter, first choice; "pairs": two critters of disjoint classes in one
        picture, both in the first two; "grid_cells": share of the cells of 2x2 grids whose class is
        in the first four; "grids": all four of them are.
    """
    pictures = _check_pictures(count, input_spec(model))
    found = {name: _found(model, dataset) for name, dataset in pictures.items()}
    return {
        "singles": found["singles"].mean().item(),
        "pairs": found["pairs"].prod(dim=1).mean().item(),
        "grid_cells": found["grid"].mean().item(),
        "grids": found["grid"].prod(dim=1).mean().item(),
    }


def _check_pictures(count: int, spec: InputSpec) -> dict[str, SampleDataset]:
    """What a trained model is measured on; said before the training where it is too little."""
    try:
        singles = Critters(count, CHECK_STREAM, spec.size)
        return {"singles": singles, "pairs": singles.scenes(), "grid": Grid(singles, spec)}
    except VarExpError as error:
        raise ConfigError(
            f"checked={count} pictures are too few to measure on, for a grid shows four classes; "
            "set checked=4000."
        ) from error


def _found(model: nn.Module, dataset: SampleDataset) -> Tensor:
    """[count, asked] 1.0 where an asked class is among as many first choices, else 0.0."""
    module = SampleModule(dataset, input_spec(model), batch_size=100)
    rows = []
    with frozen(model), torch.no_grad():
        for loaded in module.test_dataloader():
            for batch in module.on_before_batch_transfer(loaded, 0):
                asked = batch.classes
                chosen = model(batch.images).topk(asked.shape[1]).indices
                rows.append((asked[:, :, None] == chosen[:, None]).any(-1).float())
    return torch.cat(rows)
