"""What one shared forward pass saves: guided backprop of K classes, four ways side by side.

    python benchmarks/attribution.py

    bare      one plain forward pass with graph and K plain backward passes, no rule: the floor
    shared    var_exp's guided backprop: one forward pass for all classes
    batched   Captum's guided backprop on every image repeated K times
    loop      Captum's guided backprop, one class after the other

The four run in turn, round after round, so that other work on the machine slows all alike; times
are medians over the rounds, ratios are medians of the ratios within a round. Weights are random:
they do not change the cost. With a single image (--batch 1) PyTorch takes slower CPU convolutions
in all but "batched", which narrows its distance to about 1.4.
"""

import argparse
import statistics
import time
import warnings
from collections.abc import Callable

import torch
import torchvision
from captum.attr import GuidedBackprop
from torch import Tensor, nn

from var_exp.methods import get_method

warnings.filterwarnings("ignore", module="captum")  # announces its hooks every time


def bare(model: nn.Module, images: Tensor, classes: Tensor) -> Tensor:
    """Plain gradients [B, K, C, H, W]: what F + K backward passes cost without any rule."""
    leaf = images.clone().requires_grad_()
    logits = model(leaf)
    gradients = []
    for chosen in classes.T:
        score = logits.gather(1, chosen[:, None]).sum()
        gradients.append(torch.autograd.grad(score, leaf, retain_graph=True)[0])
    return torch.stack(gradients, dim=1)


def captum_batched(model: nn.Module, images: Tensor, classes: Tensor) -> Tensor:
    """Captum on every image repeated once per class."""
    repeated = images.repeat_interleave(classes.shape[1], dim=0)
    maps = GuidedBackprop(model).attribute(repeated, target=classes.flatten())
    return maps.unflatten(0, classes.shape)


def captum_loop(model: nn.Module, images: Tensor, classes: Tensor) -> Tensor:
    """Captum, one class after the other."""
    explainer = GuidedBackprop(model)
    maps = [explainer.attribute(images.clone(), target=chosen) for chosen in classes.T]
    return torch.stack(maps, dim=1)


def seconds(run: Callable[[], Tensor]) -> float:
    """Wall time of one run."""
    start = time.perf_counter()
    run()
    return time.perf_counter() - start


def main() -> None:
    """Time the four and print a table."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--model", default="resnet50", help="a torchvision classifier")
    parser.add_argument("--batch", type=int, default=4, help="images")
    parser.add_argument("--classes", type=int, default=4, help="K, classes per image")
    parser.add_argument("--size", type=int, default=224, help="pixels")
    parser.add_argument("--rounds", type=int, default=7)
    options = parser.parse_args()

    torch.manual_seed(0)
    model = torchvision.models.get_model(options.model, weights=None).eval().requires_grad_(False)
    images = torch.randn(options.batch, 3, options.size, options.size)
    classes = torch.randint(1000, (options.batch, options.classes))
    method = get_method("gbp", activations="relu_modules")
    ways: dict[str, Callable[[], Tensor]] = {
        "bare": lambda: bare(model, images, classes),
        "shared": lambda: method.attribute(model, images, classes),
        "batched": lambda: captum_batched(model, images, classes),
        "loop": lambda: captum_loop(model, images, classes),
    }
    reference = ways["loop"]()  # also the warm-up
    error = (ways["shared"]() - reference).abs().max() / reference.abs().max()
    rounds = [{name: seconds(run) for name, run in ways.items()} for _ in range(options.rounds)]

    print(
        f"guided backprop, {options.model}, {options.batch} x {options.size} px, "
        f"K={options.classes}, {torch.get_num_threads()} threads, {options.rounds} rounds; "
        f"shared differs from Captum by {error:.1e} of its maximum"
    )
    print(f"{'':8} {'s/image':>8} {'x bare':>7} {'x shared':>9}")
    for name in ways:
        time_per_image = statistics.median(each[name] for each in rounds) / options.batch
        to_bare = statistics.median(each[name] / each["bare"] for each in rounds)
        to_shared = statistics.median(each[name] / each["shared"] for each in rounds)
        print(f"{name:8} {time_per_image:8.3f} {to_bare:7.2f} {to_shared:9.2f}")


if __name__ == "__main__":
    main()
