"""Train a model: `python train.py`, `python train.py model=resnet50 data=folder data.root=…`."""

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
