"""Training pictures: critters rendered once into memory, changed a little at every sight."""

from collections.abc import Sequence

import torch
from jaxtyping import Float, UInt8
from rich.progress import track
from torch import Tensor
from torch.utils.data import ConcatDataset, DataLoader, Dataset, Subset

from var_exp.data.critters import CLASS_NAMES, Critters
from var_exp.types import Sample

TRAINING_STREAM = "train"
"""Seed of the pictures that models are trained on; evaluations have numbers as seeds."""


class CritterPool(Dataset[tuple[Tensor, Tensor]]):
    """A pool of single critters and two-object scenes, taken by whole batches of indices.

    The target of a picture is the share of each class in it: 1 for the class of a single critter,
    1/2 for both classes of a scene. Each time it is taken, a picture is mirrored or not, and its
    colours are permuted and inverted or not, which says nothing about the class.

    Args:
        count: Number of different pictures.
        pairs: Share of two-object scenes, 0 to 1.
        size: Side of the pictures in pixels.
        workers: Processes that render; 0 renders in this one.
    """

    def __init__(self, count: int, pairs: float, size: int = 64, workers: int = 0) -> None:
        scenes = round(count * pairs)
        stream = Critters(count, TRAINING_STREAM, size)
        pictures: ConcatDataset[Sample] = ConcatDataset(
            [Subset(stream, range(count - scenes)), Subset(stream.scenes(), range(scenes))]  # type: ignore[arg-type]  # a Sequence is a Dataset in all but name
        )
        loader = DataLoader(pictures, batch_size=64, num_workers=workers, collate_fn=_compact)
        images, targets = zip(*track(loader, "rendering", transient=True), strict=True)
        self.images: UInt8[Tensor, "count 3 H W"] = torch.cat(images)
        self.targets: Float[Tensor, "count N"] = torch.cat(targets)

    def __len__(self) -> int:
        return len(self.images)

    def __getitem__(
        self, indices: Sequence[int]
    ) -> tuple[Float[Tensor, "B 3 H W"], Float[Tensor, "B N"]]:
        return vary(self.images[indices]).float() / 255, self.targets[indices]


def vary(images: UInt8[Tensor, "B 3 H W"]) -> UInt8[Tensor, "B 3 H W"]:
    """Mirror, permute the channels and invert, each by chance and for every picture on its own."""
    count = len(images)
    order = torch.rand(count, 3).argsort(dim=1)
    images = images[torch.arange(count)[:, None], order]  # a copy
    mirror, invert = torch.rand(2, count) < 0.5
    images[mirror] = images[mirror].flip(-1)
    images[invert] = 255 - images[invert]
    return images


def _compact(samples: Sequence[Sample]) -> tuple[UInt8[Tensor, "B 3 H W"], Float[Tensor, "B N"]]:
    targets = torch.zeros(len(samples), len(CLASS_NAMES))
    for row, sample in zip(targets, samples, strict=True):
        row[sample.classes] = 1 / len(sample.classes)
    images = torch.stack([sample.image for sample in samples])
    return (images * 255).round().to(torch.uint8), targets
