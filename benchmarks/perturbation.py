"""What the perturbation measures cost beside the bare forward passes that they are made of.

    python benchmarks/perturbation.py

    insertion, deletion   insertion_auc (blurred baseline), deletion_auc (zero)
    suite                 insertion, deletion, LeRF, ABPC, contrastive deletion, AOPC, infidelity
                          and sensitivity-n of two maps per picture, on one perturber
    road                  ROAD, whose pictures are imputed one by one

They run on the network made ready for them (`var_exp.prepare`), as in `evaluate.py`. Each is
compared with bare forward passes of as many pictures through the network as given, in batches of
the same size. A way
and its bare passes run in turn, round after round, so that other work on the machine slows both
alike; times are medians over the rounds, ratios are medians of the ratios within a round. Weights
are random: they do not change the cost.

Where Quantus is installed, its pixel flipping is timed in turn with deletion: the same images,
maps, baseline and share of the picture per step. It flips channels one by one, so a curve of a
picture with three takes it three times as many forward passes (at 224 px it refuses steps of whole
pixels, which would have to divide 224² by three), and it batches over the images only. Two ratios
are printed: by curve, which is the work that a user asks for, and by forward pass.
"""

import argparse
import statistics
import time
from collections.abc import Callable

import torch
import torchvision
from torch import Tensor, nn

from var_exp import prepare
from var_exp.kept_memory import keep_freed_memory
from var_exp.methods import get_method
from var_exp.metrics import Perturber
from var_exp.metrics.abpc import abpc
from var_exp.metrics.aopc import aopc
from var_exp.metrics.contrastive_deletion import contrastive_deletion
from var_exp.metrics.infidelity import infidelity
from var_exp.metrics.insertion_deletion import deletion_auc, insertion_auc
from var_exp.metrics.lerf import lerf_auc
from var_exp.metrics.road import road
from var_exp.metrics.sensitivity_n import sensitivity_n

WAYS = ("insertion", "deletion", "suite", "road", "quantus")


class Counting:
    """A model that counts the pictures it is shown."""

    def __init__(self, model: nn.Module) -> None:
        self.model = model
        self.pictures = 0

    def __call__(self, images: Tensor) -> Tensor:
        """Count and pass on."""
        self.pictures += len(images)
        return self.model(images)


def bare(model: nn.Module, images: Tensor, pictures: int, max_batch: int) -> None:
    """Forward passes alone."""
    with torch.inference_mode():
        for first in range(0, pictures, max_batch):
            rows = torch.arange(first, min(first + max_batch, pictures)) % len(images)
            model(images[rows])


def suite(model, images, classes, variants, ids, steps, max_batch) -> None:
    """All measures of all variants; each is a map per picture."""
    competitors = classes + 1
    for maps in variants:
        given = {"ids": ids, "max_batch": max_batch}
        for curve in (insertion_auc, deletion_auc, lerf_auc, abpc):
            curve(model, images, classes, maps, steps, **given)
        contrastive_deletion(model, images, classes, competitors, maps, steps, **given)
        aopc(model, images, classes, maps, steps, **given)
        infidelity(model, images, classes, maps, steps, **given)
        sensitivity_n(model, images, classes, maps, max(2, steps // 5), **given)


def quantus_flipping(images, classes, maps, steps) -> Callable[[Counting], object] | None:
    """Deletion as Quantus does it; None when it is not installed."""
    try:
        import quantus
    except ImportError:
        return None
    measure = quantus.PixelFlipping(
        features_in_step=images[0, 0].numel() // steps,  # it must divide the pixels
        perturb_baseline=0.0,
        abs=False,
        normalise=False,
        disable_warnings=True,
    )
    given = {"x_batch": images, "y_batch": classes, "a_batch": maps.sum(1, keepdim=True)}
    arrays = {name: tensor.numpy() for name, tensor in given.items()}
    options = {"device": "cpu", "softmax": True, "batch_size": len(images), "channel_first": True}
    return lambda model: measure(model=model.model, **arrays, **options)


def seconds(run: Callable[[], object]) -> float:
    """CPU time of one run; on a quiet machine with one thread it is the wall time."""
    start = time.process_time()
    run()
    return time.process_time() - start


def compare(flipping, deletion, model, ready, images, options) -> None:
    """Time Quantus and deletion in turn."""
    given, counting = Counting(model), Counting(ready)
    deletion(counting), flipping(given)  # warm-up; only the former counts
    own, theirs = counting.pictures, images.shape[0] * images.shape[1] * options.steps
    times = [
        (seconds(lambda: flipping(given)), seconds(lambda: deletion(counting)))
        for _ in range(options.rounds)
    ]
    ratio = statistics.median(flip / delete for flip, delete in times)
    per_image = statistics.median(flip for flip, _ in times) / len(images)
    print(f"{'quantus':9} {theirs:8} {per_image:8.3f}")
    print(f"deletion / quantus: {ratio:.2f} by curve, {ratio * own / theirs:.2f} by forward pass")


def main() -> None:
    """Time each way and print a table."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--model", default="resnet18", help="a torchvision classifier")
    parser.add_argument("--images", type=int, default=2)
    parser.add_argument("--size", type=int, default=224, help="pixels")
    parser.add_argument("--steps", type=int, default=28)
    parser.add_argument("--max-batch", type=int, default=32, help="pictures in one forward")
    parser.add_argument("--rounds", type=int, default=9)
    parser.add_argument("--ways", nargs="+", choices=WAYS, default=WAYS, metavar="WAY")
    options = parser.parse_args()

    keep_freed_memory()  # as the command does, for all ways alike
    torch.manual_seed(0)
    model = torchvision.models.get_model(options.model, weights=None).eval()
    ready = prepare(model, get_method("gradient"))
    images = torch.randn(options.images, 3, options.size, options.size)
    variants = [torch.randn_like(images).relu() for _ in range(2)]
    classes = torch.zeros(options.images, dtype=torch.int64)
    ids = [str(number) for number in range(options.images)]
    one = (images, classes, variants[0])
    limits = {"steps": options.steps, "max_batch": options.max_batch}
    several = (images, classes, variants, ids, options.steps, options.max_batch)
    ways: dict[str, Callable[[Counting], object]] = {
        "insertion": lambda model: insertion_auc(model, *one, **limits),
        "deletion": lambda model: deletion_auc(model, *one, **limits),
        "suite": lambda model: suite(Perturber(model), *several),
        "road": lambda model: road(model, *one, 9, max_batch=options.max_batch),
    }
    flipping = quantus_flipping(*one, options.steps)
    print(
        f"{options.model}, {options.size} px, {options.images} images, {options.steps} steps, "
        f"{torch.get_num_threads()} threads, {options.rounds} rounds"
    )
    print(f"{'':9} {'pictures':>8} {'s/image':>8} {'throughput / bare':>18}")
    for name, way in ways.items():
        if name not in options.ways:
            continue
        counting = Counting(ready)
        way(counting)  # warm-up
        pictures = counting.pictures
        times = [
            (
                seconds(lambda n=pictures: bare(model, images, n, options.max_batch)),
                seconds(lambda way=way: way(Counting(ready))),
            )
            for _ in range(options.rounds)
        ]
        per_image = statistics.median(own for _, own in times) / options.images
        ratio = statistics.median(floor / own for floor, own in times)
        print(f"{name:9} {pictures:8} {per_image:8.3f} {ratio:18.3f}", flush=True)
    if flipping is None:
        print("quantus: not installed; pip install quantus==0.6.0 to compare with it")
    elif "quantus" in options.ways:
        compare(flipping, ways["deletion"], model, ready, one[0], options)
    if "suite" in options.ways:
        alone = Counting(model)
        suite(alone, *several)
        print(f"the suite without a shared perturber would run {alone.pictures} pictures")


if __name__ == "__main__":
    main()
