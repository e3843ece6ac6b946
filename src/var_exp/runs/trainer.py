"""Lightning's trainer and logger of a run, and what they must not be."""

import logging
import re
import warnings
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from lightning import Trainer
from lightning.fabric.utilities.exceptions import MisconfigurationException
from lightning.pytorch.loggers import Logger

from var_exp.modules.progress import SampleProgress
from var_exp.registry import build
from var_exp.runs.messages import translated
from var_exp.runs.stopping import Stopping
from var_exp.types import ConfigError

_PRECISIONS = ("32-true", "bf16-mixed")
_DEVICES = r"auto|-1|[1-9]\d*|\d+(,\d+)+|\[\d+(,\d+)*\]"


def trainer_of(root: Mapping[str, Any], run_dir: Path, stopping: Stopping) -> Trainer:
    """The trainer of a run; it tests, and nothing else.

    Raises:
        ConfigError: its options do not fit together, or this machine.
    """
    # Lightning's advice is for training loops; ours to give are errors in one sentence.
    logging.getLogger("lightning.pytorch").setLevel(logging.ERROR)
    warnings.filterwarnings("ignore", module="lightning.pytorch")
    trainer = built_trainer(
        root["trainer"],
        logger=False,  # until the run has begun
        callbacks=[SampleProgress(), stopping],
        enable_progress_bar=False,
        default_root_dir=str(run_dir),
        inference_mode=False,  # attribution needs gradients
        use_distributed_sampler=False,  # it would repeat samples to even out the processes
        enable_checkpointing=False,
        enable_model_summary=False,
    )
    if trainer.precision not in _PRECISIONS:
        raise ConfigError(
            f"trainer.precision must be {' or '.join(_PRECISIONS)}, got {trainer.precision}; "
            "float16 loses small gradients, so set trainer.precision=bf16-mixed."
        )
    return trainer


def built_trainer(node: Mapping[str, Any], **arguments: Any) -> Trainer:
    """What a node `trainer` stands for, with the arguments that the program itself gives.

    Raises:
        ConfigError: its options do not fit together, or this machine.
    """
    devices = node.get("devices", 1)
    if not re.fullmatch(_DEVICES, str(devices).replace(" ", "")):
        raise ConfigError(
            f"trainer.devices must be a number of at least 1, a list of GPUs such as [0,1], or -1 "
            f"for all GPUs, got {devices}; set trainer.devices=1."
        )
    try:
        trainer: Trainer = build(node, where="trainer", **arguments)
    except (MisconfigurationException, ConfigError) as error:
        if isinstance(error, ConfigError) and translated(error) is None:
            raise
        raise ConfigError(translated(error) or f"trainer: {error}") from error
    return trainer


def logger_of(root: Mapping[str, Any], run_dir: Path) -> Logger | None:
    """The dashboard that is told of a run; None where none is wanted."""
    if not root["logger"]:
        return None
    measured = bool(root["metric"])
    logger: Logger | None = build(
        root["logger"], where="logger", save_dir=str(run_dir), measured=measured
    )
    return logger
