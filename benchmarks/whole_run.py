"""What a whole run costs: with the controls at their default, without, and the bare passes alone.

    python benchmarks/whole_run.py --pictures 1000 --rounds 5
    python benchmarks/whole_run.py model=efficientnet_lite0 data=imagenet data.root=PHOTOGRAPHS

    default    `evaluate` as it is: maps, refiner, measure, controls, store, tables
    without    the same with controls=false
    given      without controls on the network as it is given (prepare=false)
    bare       one forward and K backward passes of that network, in batches of the same size

Times are CPU seconds of this process, imports aside; the ways run in turn, round after round, and
ratios are medians of those within a round. `random_competitors` is a tenth of the samples, as the
default is of a thousand.
"""

import argparse
import statistics
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

import torch
from hydra import compose, initialize_config_dir
from omegaconf import DictConfig

from var_exp.data.batches import collate
from var_exp.kept_memory import keep_freed_memory
from var_exp.registry import conf_dir
from var_exp.runs.arguments import open_key
from var_exp.runs.config import check
from var_exp.runs.evaluation import evaluate
from var_exp.runs.experiment import prepare
from var_exp.runs.schema import GIVEN, EvaluateConfig


def seconds(work: Callable[[], object]) -> float:
    """CPU time of one call."""
    started = time.process_time()
    work()
    return time.process_time() - started


def configured(*overrides: str) -> DictConfig:
    """The configuration of a run."""
    with initialize_config_dir(str(conf_dir()), version_base="1.3"):
        return compose("evaluate", overrides=["title=benchmark", *map(open_key, overrides)])


def run(cfg: DictConfig) -> None:
    """One run, in a folder that goes with it."""
    with tempfile.TemporaryDirectory() as folder:
        evaluate(cfg, Path(folder))


def bare(cfg: DictConfig) -> Callable[[], None]:
    """Forward and backward passes of all batches of a run, whose pictures are at hand."""
    root = check(cfg, EvaluateConfig, GIVEN)
    parts, size = prepare(root), root["batch_size"]
    starts = range(0, len(parts.dataset), size)
    first = collate([parts.dataset[place] for place in range(size)], parts.spec)[0]

    def work() -> None:
        for _ in starts:
            leaf = first.images.clone().requires_grad_()
            scores = parts.model(leaf).gather(1, first.classes).sum(0)
            for k, score in enumerate(scores):
                torch.autograd.grad(score, leaf, retain_graph=k + 1 < len(scores))

    return work


def main() -> None:
    """Time the ways in turn and print their ratios."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("options", nargs="*", help="of evaluate.py")
    parser.add_argument("--pictures", type=int, default=1000, help="grids of four")
    parser.add_argument("--rounds", type=int, default=5)
    given = parser.parse_args()
    keep_freed_memory()  # as the command does, for all ways alike
    count = [f"data.count={4 * given.pictures}", f"random_competitors={given.pictures // 10}"]
    common = [*given.options, *count, "logger=none", "trainer=cpu", "pictures=0"]
    ways: dict[str, Callable[[], None]] = {
        "default": lambda: run(configured(*common)),
        "without": lambda: run(configured(*common, "controls=false")),
        "given": lambda: run(configured(*common, "controls=false", "prepare=false")),
        "bare": bare(configured(*common, "controls=false")),
    }
    rounds = []
    for _ in range(given.rounds):
        rounds.append({name: seconds(way) for name, way in ways.items()})
        print({name: round(time, 1) for name, time in rounds[-1].items()}, flush=True)
    for over, under in (("default", "without"), ("without", "bare"), ("given", "bare")):
        ratio = statistics.median(each[over] / each[under] for each in rounds)
        print(f"{over} over {under}: {ratio:.2f}")


if __name__ == "__main__":
    main()
