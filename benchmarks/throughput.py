"""Images per second, share of the bare passes' speed, peak memory; on the GPU where there is one.

    python benchmarks/throughput.py

    images/s   explained, K classes each, by `method.attribute`
    bare       time of the same forward and backward passes without a method, over the method's: 1
               is the limit. gradcam can exceed it, since its backward passes stop at a layer
    peak       most memory of the device beyond what the model takes (CUDA only; on the CPU see
               benchmarks/memory.py)

Method and bare passes run in turn, round after round, so that other work slows both alike; figures
are medians. Weights are random, which changes nothing here. Without CUDA everything is small, and
the figures are no more than a check that the command works.
"""

import argparse
import statistics
import time
from collections.abc import Callable
from functools import partial

import torch
from passes import bare, traced  # beside this file

import var_exp
from var_exp.models.precision import run_forward_in

METHODS = {"gbp": {}, "ig": {"steps": 32}, "gradcam": {}, "rise": {"masks": 1000}}
SMALL = {"ig": {"steps": 4}, "rise": {"masks": 16}}


def seconds(run: Callable[[], object], device: torch.device) -> float:
    """Wall time of one run, to the end of what it started on the device."""

    def wait() -> None:
        if device.type == "cuda":
            torch.cuda.synchronize(device)

    wait()
    start = time.perf_counter()
    run()
    wait()
    return time.perf_counter() - start


def peak(run: Callable[[], object], device: torch.device) -> str:
    """Most memory that a run takes on a CUDA device."""
    if device.type != "cuda":
        return "-"
    torch.cuda.synchronize(device)
    before = torch.cuda.memory_allocated(device)
    torch.cuda.reset_peak_memory_stats(device)
    run()
    torch.cuda.synchronize(device)
    return f"{(torch.cuda.max_memory_allocated(device) - before) / 2**20:.0f} MiB"


def main() -> None:
    """Time the methods on both networks and print a table."""
    cuda = torch.cuda.is_available()
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--models", nargs="+", default=["resnet50", "vit_b16"])
    parser.add_argument("--methods", nargs="+", choices=list(METHODS), default=list(METHODS))
    parser.add_argument("--device", default="cuda" if cuda else "cpu")
    parser.add_argument("--batch", type=int, default=32 if cuda else 2, help="images")
    parser.add_argument("--classes", type=int, default=4, help="K, classes per image")
    parser.add_argument("--max-batch", type=int, default=128 if cuda else 8)
    parser.add_argument("--rounds", type=int, default=5 if cuda else 1)
    parser.add_argument("--bf16", action="store_true")
    parser.add_argument("--channels-last", action="store_true")
    options = parser.parse_args()
    device = torch.device(options.device)
    on = torch.cuda.get_device_name(device) if device.type == "cuda" else "CPU"
    print(
        f"{on}, batch {options.batch}, K={options.classes}, max_batch={options.max_batch}, "
        f"{'bfloat16' if options.bf16 else 'float32'}"
        f"{', channels last' if options.channels_last else ''}, {options.rounds} rounds"
    )
    print(f"{'':20} {'images/s':>9} {'bare':>5} {'peak':>10}")
    torch.manual_seed(0)
    images = torch.randn(options.batch, 3, 224, 224, device=device)
    classes = torch.randint(1000, (options.batch, options.classes), device=device)
    for name in options.models:
        model = var_exp.load_model(name, pretrained=False, channels_last=options.channels_last)
        model = model.to(device)
        if options.bf16:
            run_forward_in(model, partial(torch.autocast, device.type, torch.bfloat16))
        for alias in options.methods:
            few = {} if device.type == "cuda" else SMALL.get(alias, {})
            method = var_exp.get_method(alias, max_batch=options.max_batch, **METHODS[alias] | few)
            run = partial(method.attribute, model, images, classes)
            passes = traced(model, run)  # also the warm-up
            floor = partial(bare, model, images, passes)
            floor()
            rounds = [(seconds(run, device), seconds(floor, device)) for _ in range(options.rounds)]
            speed = options.batch / statistics.median(time for time, _ in rounds)
            share = statistics.median(least / time for time, least in rounds)
            line = f"{name:10} {alias:9} {speed:9.2f} {share:5.2f} {peak(run, device):>10}"
            print(line, flush=True)


if __name__ == "__main__":
    main()
