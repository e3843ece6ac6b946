"""What insertion and deletion cost beside the bare forward passes that they are made of.

    python benchmarks/perturbation.py

    bare       forward passes of as many pictures, in batches of the same size: the floor
    insertion  insertion_auc, blurred baseline
    deletion   deletion_auc, zero baseline

The three run in turn, round after round, so that other work on the machine slows all alike; times
are medians over the rounds, ratios are medians of the ratios within a round. Weights are random:
they do not change the cost.
"""

import argparse
import statistics
import time
from collections.abc import Callable

import torch
import torchvision
from torch import Tensor, nn

from var_exp.metrics.functional import deletion_auc, insertion_auc


def bare(model: nn.Module, images: Tensor, pictures: int, max_batch: int) -> None:
    """Forward passes alone."""
    with torch.inference_mode():
        for first in range(0, pictures, max_batch):
            rows = torch.arange(first, min(first + max_batch, pictures)) % len(images)
            model(images[rows])


def seconds(run: Callable[[], object]) -> float:
    """Wall time of one run."""
    start = time.perf_counter()
    run()
    return time.perf_counter() - start


def main() -> None:
    """Time the three and print a table."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--model", default="resnet18", help="a torchvision classifier")
    parser.add_argument("--images", type=int, default=2)
    parser.add_argument("--size", type=int, default=224, help="pixels")
    parser.add_argument("--steps", type=int, default=28)
    parser.add_argument("--max-batch", type=int, default=32, help="pictures in one forward")
    parser.add_argument("--rounds", type=int, default=9)
    options = parser.parse_args()

    torch.manual_seed(0)
    model = torchvision.models.get_model(options.model, weights=None).eval()
    images = torch.randn(options.images, 3, options.size, options.size)
    maps = torch.randn_like(images).relu()
    classes = torch.zeros(options.images, dtype=torch.int64)
    pictures = options.images * (options.steps + 1)
    limits = {"steps": options.steps, "max_batch": options.max_batch}
    ways: dict[str, Callable[[], object]] = {
        "bare": lambda: bare(model, images, pictures, options.max_batch),
        "insertion": lambda: insertion_auc(model, images, classes, maps, **limits),
        "deletion": lambda: deletion_auc(model, images, classes, maps, **limits),
    }
    for run in ways.values():
        run()  # warm-up
    rounds = [{name: seconds(run) for name, run in ways.items()} for _ in range(options.rounds)]

    print(
        f"{options.model}, {options.size} px, {options.images} x {options.steps + 1} pictures, "
        f"{torch.get_num_threads()} threads, {options.rounds} rounds"
    )
    print(f"{'':9} {'s/image':>8} {'throughput / bare':>18}")
    for name in ways:
        per_image = statistics.median(each[name] for each in rounds) / options.images
        ratio = statistics.median(each["bare"] / each[name] for each in rounds)
        print(f"{name:9} {per_image:8.3f} {ratio:18.3f}")


if __name__ == "__main__":
    main()
