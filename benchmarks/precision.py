"""What bfloat16 and channels-last memory change in maps and scores, and what they save.

    python benchmarks/precision.py

    cosine     of the maps with those in float32 and plain memory: median and least over all maps
    largest    difference of a value of a map, as a share of the map's largest
    base, var  difference of the grid pointing game's mean, of the maps and after VAR; its standard
               error over the pictures, were they drawn anew, is about ten times as large
    time       over that of float32 and plain memory, median of the ratios within a round

Critters models see 2 x 2 grids of critters. The others have random weights and see noise, so they
have no scores; their maps are harder to keep than those of a trained network.
"""

import argparse
import statistics
import time
from collections.abc import Callable
from functools import partial

import torch
from torch import Tensor, nn
from torch.nn.functional import cosine_similarity

import var_exp
from var_exp.data.batches import collate
from var_exp.data.critters import Critters
from var_exp.data.layouts import Grid
from var_exp.metrics.grid_pointing_game import grid_pointing_game
from var_exp.models import input_spec
from var_exp.models.precision import run_forward_in

MODELS = ("critters_cnn", "critters_vit", "resnet50", "vit_b16")
METHODS = {
    "gbp": {},
    "gradcam": {},
    "ig": {"steps": 8},
    "rise": {"masks": 64},
    "input_x_gradient": {},
}


def load(name: str, device: str, *, bf16: bool, channels_last: bool) -> nn.Module:
    """A model of `MODELS` in one of the ways."""
    torch.manual_seed(0)
    model = var_exp.load_model(
        name, channels_last=channels_last, **({} if "critters" in name else {"pretrained": False})
    ).to(device)
    if bf16:
        run_forward_in(model, partial(torch.autocast, device, torch.bfloat16))
    return model


def pictures(name: str, count: int) -> tuple[Tensor, Tensor, Tensor | None]:
    """Images, four classes and, of critters, their regions."""
    if "critters" not in name:
        torch.manual_seed(1)
        return torch.randn(count, 3, 224, 224), torch.randint(1000, (count, 4)), None
    spec = input_spec(var_exp.load_model(name))
    grids = Grid(Critters(count=4 * count), spec=spec)
    (batch,) = collate([grids[place] for place in range(count)], spec)
    return batch.images, batch.classes, batch.regions


def seconds(run: Callable[[], Tensor]) -> float:
    """Wall time of one run."""
    if torch.cuda.is_available():
        torch.cuda.synchronize()
    start = time.perf_counter()
    run()
    if torch.cuda.is_available():
        torch.cuda.synchronize()
    return time.perf_counter() - start


def scores(maps: Tensor, regions: Tensor) -> tuple[float, float]:
    """Grid pointing game of the maps, and after VAR."""
    return tuple(
        grid_pointing_game(each.flatten(0, 1).cpu(), regions.flatten(0, 1)).nanmean().item()
        for each in (maps, var_exp.VAR()(maps))
    )


def compare(name: str, options: argparse.Namespace) -> None:
    """One line for each method and way."""
    images, classes, regions = pictures(name, options.images)
    images, classes = images.to(options.device), classes.to(options.device)
    plain = load(name, options.device, bf16=False, channels_last=False)
    ways = {
        "channels_last": load(name, options.device, bf16=False, channels_last=True),
        "bf16": load(name, options.device, bf16=True, channels_last=False),
        "both": load(name, options.device, bf16=True, channels_last=True),
    }
    for alias in options.methods:
        method = var_exp.get_method(alias, **METHODS[alias])
        runs = {
            way: partial(method.attribute, model, images, classes) for way, model in ways.items()
        }
        base = partial(method.attribute, plain, images, classes)
        expected = base()
        for way, run in runs.items():
            maps = run()
            alike = cosine_similarity(maps.double().flatten(2), expected.double().flatten(2), dim=2)
            largest = (maps - expected).abs().amax((2, 3, 4)) / expected.abs().amax((2, 3, 4))
            ratio = statistics.median(seconds(run) / seconds(base) for _ in range(options.rounds))
            line = f"{name:13} {alias:17} {way:14} {alike.median():.6f} {alike.min():.6f}"
            line += f" {largest.max():8.1e}"
            if regions is None:
                line += f" {'':>8} {'':>8}"
            else:
                pairs = zip(scores(maps, regions), scores(expected, regions), strict=True)
                line += "".join(f" {found - known:+8.4f}" for found, known in pairs)
            print(f"{line} {ratio:6.2f}", flush=True)


def main() -> None:
    """Compare each way with float32 and print a table."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--models", nargs="+", choices=MODELS, default=MODELS)
    parser.add_argument("--methods", nargs="+", choices=list(METHODS), default=list(METHODS))
    parser.add_argument("--images", type=int, default=8)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--device", default="cuda" if torch.cuda.is_available() else "cpu")
    options = parser.parse_args()
    print(f"{options.device}, {torch.get_num_threads()} threads, {options.images} images")
    print(
        f"{'model':13} {'method':17} {'way':14} {'cosine':>8} {'least':>8} {'largest':>8} "
        f"{'base':>8} {'var':>8} {'time':>6}"
    )
    for name in options.models:
        compare(name, options)


if __name__ == "__main__":
    main()
