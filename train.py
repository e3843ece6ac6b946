"""Train a model: `python train.py`, `python train.py model=resnet50 data=folder data.root=…`."""

import sys

if __name__ == "__main__" and not sys.flags.safe_path:
    del sys.path[0]  # this folder: a file here with the name of a package would run in its place

import hydra
from omegaconf import DictConfig

from var_exp.runs.config import TrainConfig, command, run
from var_exp.training.from_scratch import train


@hydra.main(version_base="1.3", config_path="conf", config_name="train")
def main(cfg: DictConfig) -> None:
    """Run one composed configuration."""
    run(train, cfg)


if __name__ == "__main__":
    command(main, TrainConfig)
