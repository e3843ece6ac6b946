"""Attribute, let the classes compete, measure: `python evaluate.py method=gbp model=vit_b16`."""

import sys

if __name__ == "__main__" and not sys.flags.safe_path:
    del sys.path[0]  # this folder: a file here with the name of a package would run in its place

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
