"""Attribute, let the classes compete, measure: `python evaluate.py method=gbp model=vit_b16`."""

import hydra
from omegaconf import DictConfig

from var_exp.runs.config import EvaluateConfig, command, run
from var_exp.runs.evaluation import evaluate


@hydra.main(version_base="1.3", config_path="conf", config_name="evaluate")
def main(cfg: DictConfig) -> None:
    """Run one composed configuration."""
    run(evaluate, cfg)


if __name__ == "__main__":
    command(main, EvaluateConfig)
