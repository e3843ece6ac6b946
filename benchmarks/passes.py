"""What each method costs beside the bare passes that it is made of, and with more classes.

    python benchmarks/passes.py

    F, B       images that went forward, and whose gradient came back, per image explained
    x bare     time over that of the same passes without a method: forward passes of as many images
               at once, with as many plain backward passes to the input as came back to the logits
    K=8 / K=1  time for eight classes over the time for one, where all classes share the passes

A method whose backward passes stop at a layer, such as gradcam, costs less than its bare passes.
Method and bare passes run in turn, round after round, so that other work on the machine slows both
alike; the ratios are medians of the ratios within a round. Weights are random, and each method
draws few samples: neither changes the ratios.
"""

import argparse
import statistics
import time
from collections.abc import Callable
from functools import partial
from typing import Any

import timm
import torch
from torch import Tensor, nn

from var_exp.methods import get_method
from var_exp.support.checks import CHECKS
from var_exp.types import UnsupportedModel

LIMITS = {"x bare": 1.2, "K=8 / K=1": 1.05}


def traced(model: nn.Module, run: Callable[[], object]) -> list[list[int]]:
    """Images of each forward pass of a run, and how often their gradient came back."""
    passes: list[list[int]] = []

    def count(_module: nn.Module, _inputs: object, logits: Tensor) -> None:
        this = [len(logits), 0]
        passes.append(this)
        with torch._C.DisableTorchFunction():  # methods that see every call should not see these
            if logits.requires_grad:
                logits.register_hook(lambda _: this.__setitem__(1, this[1] + 1))

    handle = model.register_forward_hook(count)
    run()
    handle.remove()
    return passes


def per_image(passes: list[list[int]], images: Tensor) -> tuple[float, float]:
    """Images that went forward, and that came back, for each image explained."""
    forward = sum(n_images for n_images, _ in passes)
    backward = sum(n_images * n_backward for n_images, n_backward in passes)
    return forward / len(images), backward / len(images)


def bare(model: nn.Module, images: Tensor, passes: list[list[int]]) -> None:
    """The same passes without a method."""
    for n_images, n_backward in passes:
        leaf = images[torch.arange(n_images) % len(images)].requires_grad_(n_backward > 0)
        with torch.set_grad_enabled(n_backward > 0):
            scores = model(leaf)
        for k in range(n_backward):
            torch.autograd.grad(scores[:, k].sum(), leaf, retain_graph=k < n_backward - 1)


def ratio(run: Callable[[], object], to: Callable[[], object], rounds: int) -> float:
    """Median over the rounds of the time of one run over that of another."""

    def seconds(work: Callable[[], object]) -> float:
        start = time.perf_counter()
        work()
        return time.perf_counter() - start

    return statistics.median(seconds(run) / seconds(to) for _ in range(rounds))


def main() -> None:
    """Time every method that supports the network, and print a table."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--model", default="resnet18", help="a timm classifier")
    parser.add_argument("--size", type=int, default=112, help="pixels")
    parser.add_argument("--batch", type=int, default=4, help="images")
    parser.add_argument("--classes", type=int, default=4, help="K, classes per image, beside bare")
    parser.add_argument("--rounds", type=int, default=7)
    ours = sorted(set(CHECKS) - {"captum"})  # the adapter's passes are Captum's
    parser.add_argument("--methods", nargs="+", choices=ours, default=ours, metavar="ALIAS")
    options = parser.parse_args()

    torch.manual_seed(0)
    model = timm.create_model(options.model).eval().requires_grad_(False)
    for name, parameter in model.named_parameters():
        if name.endswith("bias"):  # zero in a new network, which would spare a method work
            parameter.normal_(std=0.1)
    images = torch.randn(options.batch, 3, options.size, options.size)
    classes = torch.randint(1000, (options.batch, 8))
    print(
        f"{options.model}, {options.batch} x {options.size} px, K={options.classes}, "
        f"{torch.get_num_threads()} threads, {options.rounds} rounds"
    )
    print(f"{'':24} {'F':>6} {'B':>6} {'x bare':>7} {'K=8 / K=1':>10}")
    worst = dict.fromkeys(LIMITS, 0.0)
    for alias in options.methods:
        method = get_method(alias, **_few(alias, model))
        try:
            method.check(model, images[:1])
        except UnsupportedModel:
            continue

        def run(k: int = options.classes, method: Any = method) -> Tensor:
            return method.attribute(model, images, classes[:, :k])

        passes = traced(model, run)  # also the warm-up
        forward, backward = per_image(passes, images)
        beside = ratio(run, partial(bare, model, images, passes), options.rounds)
        line = f"{alias:24} {forward:6.4g} {backward:6.4g} {beside:7.2f}"
        worst["x bare"] = max(worst["x bare"], beside)
        one, many = (per_image(traced(model, partial(run, k)), images) for k in (1, 8))
        if one == many:
            growth = ratio(partial(run, 8), partial(run, 1), options.rounds)
            worst["K=8 / K=1"] = max(worst["K=8 / K=1"], growth)
            line += f" {growth:10.3f}"
        print(line, flush=True)
    print(", ".join(f"{name} at most {worst[name]:.2f} (limit {LIMITS[name]})" for name in LIMITS))


def _few(alias: str, model: nn.Module) -> dict[str, Any]:
    """Options with few samples; ScoreCAM, a pass per channel, at the narrowest layer."""
    narrow = {"layer": "layer1"} if alias == "scorecam" and hasattr(model, "layer1") else {}
    return {**CHECKS[alias].options, **narrow}


if __name__ == "__main__":
    main()
