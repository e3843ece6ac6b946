"""Roots of the configuration, which Hydra checks; no heavy import, so that a shell can ask."""

from dataclasses import dataclass, field
from typing import Any

from hydra.core.config_store import ConfigStore


@dataclass
class EvaluateConfig:
    """Root of `evaluate.py`: a node per configuration group, and the run's own options."""

    data: dict[str, Any] = field(default_factory=dict)
    layout: dict[str, Any] = field(default_factory=dict)
    model: dict[str, Any] = field(default_factory=dict)
    method: dict[str, Any] = field(default_factory=dict)
    classes: dict[str, Any] = field(default_factory=dict)
    refine: dict[str, Any] = field(default_factory=dict)
    metric: dict[str, Any] = field(default_factory=dict)
    trainer: dict[str, Any] = field(default_factory=dict)
    logger: dict[str, Any] = field(default_factory=dict)
    title: str = "attribution"
    batch_size: int = 8
    workers: int | None = None
    seed: int = 0
    controls: bool = True
    random_competitors: int = 100
    prepare: bool = True
    pictures: int = 6
    maps: Any = "auto"
    dry_run: bool = False


@dataclass
class TrainConfig:
    """Root of `train.py`; what a data file chooses for `evaluate.py` has no meaning here."""

    method: dict[str, Any] = field(default_factory=dict)
    layout: dict[str, Any] = field(default_factory=dict)
    classes: dict[str, Any] = field(default_factory=dict)
    metric: dict[str, Any] = field(default_factory=dict)
    refine: dict[str, Any] = field(default_factory=dict)
    data: dict[str, Any] = field(default_factory=dict)
    logger: dict[str, Any] = field(default_factory=dict)
    model: dict[str, Any] = field(default_factory=dict)
    recipe: dict[str, Any] = field(default_factory=dict)
    trainer: dict[str, Any] = field(default_factory=dict)
    seed: int = 0
    workers: int = 2
    checked: int = 4000


GIVEN = {
    "data": {"spec", "num_classes", "model_names"},
    "layout": {"dataset", "spec", "model", "workers"},
    "method": {"seed"},
    "classes": {"siblings", "seed", "known"},
    "metric": {"model", "seed"},
    "logger": {"save_dir", "measured"},
}
"""Arguments that the program itself hands to the targets of a group."""

ConfigStore.instance().store(name="evaluate_schema", node=EvaluateConfig)
ConfigStore.instance().store(name="train_schema", node=TrainConfig)
