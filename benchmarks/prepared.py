"""What a prepared network saves: attribution on it over the bare passes of the network as given.

    python benchmarks/prepared.py --model resnet50 --side 224 --images 4

Bare passes are one forward and K backward passes of the network as given, with frozen parameters.
Each round times bare, given and prepared alike, in turn; ratios are medians of those within a
round. Weights are random; the largest deviation of the maps is relative to the largest value.
"""

import argparse
import statistics
import time
from collections.abc import Callable

import timm
import torch

from var_exp.methods import get_method
from var_exp.methods.preparation import prepare


def seconds(work: Callable[[], object]) -> float:
    """Time of one call."""
    started = time.perf_counter()
    work()
    return time.perf_counter() - started


def main() -> None:
    """Time a method on both networks, beside the bare passes."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--model", default="resnet50")
    parser.add_argument("--methods", nargs="+", default=["gbp", "gradcam", "gradient"])
    parser.add_argument("--side", type=int, default=224)
    parser.add_argument("--images", type=int, default=4)
    parser.add_argument("--classes", type=int, default=4)
    parser.add_argument("--rounds", type=int, default=5)
    options = parser.parse_args()
    torch.manual_seed(0)
    model = timm.create_model(options.model).eval().requires_grad_(False)
    images = torch.randn(options.images, 3, options.side, options.side)
    classes = torch.arange(options.classes).expand(options.images, -1)

    def bare() -> None:
        leaf = images.clone().requires_grad_()
        scores = model(leaf).gather(1, classes).sum(0)
        for k, score in enumerate(scores):
            torch.autograd.grad(score, leaf, retain_graph=k + 1 < len(scores))

    for alias in options.methods:
        method = get_method(alias)
        ready = prepare(model, method)
        before, after = (method.attribute(m, images, classes) for m in (model, ready))
        bare()
        rounds = [
            (
                seconds(bare),
                seconds(lambda m=method: m.attribute(model, images, classes)),
                seconds(lambda m=method, r=ready: m.attribute(r, images, classes)),
            )
            for _ in range(options.rounds)
        ]
        given, prepared = (statistics.median(r[i] / r[0] for r in rounds) for i in (1, 2))
        gap = float((after - before).abs().max() / before.abs().max())
        print(
            f"{options.model} {options.images} x {options.side} px, K={options.classes}, {alias}: "
            f"over bare {given:.2f} as given, {prepared:.2f} prepared; deviation {gap:.1e}"
        )


if __name__ == "__main__":
    main()
