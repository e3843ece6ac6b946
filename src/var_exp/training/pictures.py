"""Pictures of any data set for training: what is held out, and a new view at every sight.

Which pictures are held out follows from their content alone, so copies of one picture never end up
on both sides, and it is the same in every run. A view is drawn from a stream of the sample and the
epoch, so it does not depend on batches, loader processes or an interruption.
"""

import logging
import math
from collections import defaultdict
from collections.abc import Iterator, Sequence
from hashlib import blake2b
from typing import TypeAlias

import torch
from jaxtyping import Float
from torch import Generator, Tensor
from torch.utils.data import Dataset, Sampler
from torchvision.transforms.v2.functional import InterpolationMode, resized_crop

from var_exp.seeds import sample_generator
from var_exp.types import PREDICTED, BadData, SampleDataset, Unreadable

Attempt: TypeAlias = "tuple[Tensor, Tensor] | BadData"
"""Image and shares of the classes, or why it cannot be read."""

MASK_SIDE = 8
"""Side in pixels of the squares that `mask` hides."""

_log = logging.getLogger(__name__)


def hold_out(dataset: SampleDataset, share: float) -> tuple[list[int], list[int]]:
    """Split a data set into pictures to learn from and pictures to choose the model by.

    Of every class, the share that comes first by a hash of the content is held out: one picture at
    least, and not all. Copies of one picture stay together; those that lie in several classes are
    learnt from.

    Returns:
        Indices to learn from and held-out indices, both ascending.

    Raises:
        BadData: a picture without a label, or a class of fewer than two different pictures.
    """
    copies: dict[int, dict[bytes, list[int]]] = defaultdict(dict)
    owners: dict[bytes, set[int]] = defaultdict(set)
    for index in range(len(dataset)):
        label = dataset.label(index)
        if label == PREDICTED:
            raise BadData("training needs to know the class of each picture; give class folders.")
        digest = blake2b(dataset.content(index), digest_size=16).digest()
        copies[label].setdefault(digest, []).append(index)
        owners[digest].add(label)
    torn = sum(len(labels) > 1 for labels in owners.values())
    if torn:
        _log.warning("%d pictures lie in several classes, and none of them is held out", torn)
    held: list[int] = []
    for label, groups in sorted(copies.items()):
        own = sorted(digest for digest in groups if len(owners[digest]) == 1)
        if len(own) < 2:
            raise BadData(
                f"class '{dataset.class_names[label]}' has {len(own)} picture of its own; training "
                "needs two at least, one to learn from and one to choose the model by."
            )
        for digest in own[: min(max(1, round(share * len(own))), len(own) - 1)]:
            held += groups[digest]
    chosen = set(held)
    return [index for index in range(len(dataset)) if index not in chosen], sorted(held)


class Views(Dataset[Attempt]):
    """Pictures in [0, 1] and the share of each class, taken by index and draw.

    Args:
        dataset: Gives the pictures.
        zoom: Least share of a picture that a view shows; views are also mirrored by chance. None
            shows pictures as they are.
        seed: Of the views, with the sample's id and the draw.
        masked: Largest share of a view that is masked (`mask`).
        colour: RGB in [0, 1] of the masks.
    """

    def __init__(
        self,
        dataset: SampleDataset,
        zoom: float | None,
        seed: int,
        masked: float = 0.0,
        colour: Sequence[float] = (0.5, 0.5, 0.5),
    ) -> None:
        self.dataset = dataset
        self.zoom = zoom
        self.seed = seed
        self.masked = masked
        self.colour = torch.tensor(colour)[:, None, None]

    def __getitem__(self, key: tuple[int, int]) -> Attempt:
        index, draw = key
        try:
            sample = self.dataset[index]
        except BadData as error:
            return error
        shares = torch.zeros(len(self.dataset.class_names))
        shares[sample.classes] = 1 / len(sample.classes)
        if self.zoom is None:
            return sample.image, shares
        generator = sample_generator(self.seed, sample.id, draw)
        seen = view(sample.image, self.zoom, generator)
        if self.masked:
            seen = mask(seen, self.masked, self.colour, generator)
        return seen, shares


class EpochOrder(Sampler[tuple[int, int]]):
    """Indices and the epoch as draw; shuffled anew in each epoch, or as they are.

    Args:
        indices: What is taken.
        seed: Of the order, with the epoch; None keeps it.
    """

    def __init__(self, indices: Sequence[int], seed: int | None) -> None:
        self.indices = indices
        self.seed = seed
        self.epoch = 0

    def set_epoch(self, epoch: int) -> None:
        """Lightning says which epoch begins, also after an interruption."""
        self.epoch = epoch

    def __iter__(self) -> Iterator[tuple[int, int]]:
        order: Sequence[int] = range(len(self.indices))
        if self.seed is not None:
            stream = sample_generator(self.seed, "order", self.epoch)
            order = torch.randperm(len(order), generator=stream).tolist()
        yield from ((self.indices[place], self.epoch) for place in order)

    def __len__(self) -> int:
        return len(self.indices)


def view(
    image: Float[Tensor, "3 H W"], zoom: float, generator: Generator
) -> Float[Tensor, "3 H W"]:
    """A random part of a picture, resized to the whole, mirrored or not.

    The part has a share of the area between `zoom` and 1; its sides, in shares of the picture's,
    have a ratio between 3/4 and 4/3.
    """
    height, width = image.shape[1:]
    share, bend, across, down, mirror = torch.rand(5, generator=generator).tolist()
    area = zoom + (1 - zoom) * share
    widest = min(math.log(4 / 3), -math.log(area))  # neither side is longer than the picture's
    ratio = math.exp(widest * (2 * bend - 1))
    part_height = max(1, round(height * (area / ratio) ** 0.5))
    part_width = max(1, round(width * (area * ratio) ** 0.5))
    top, left = round(down * (height - part_height)), round(across * (width - part_width))
    seen: Tensor = resized_crop(
        image,
        *(top, left, part_height, part_width),
        size=[height, width],
        interpolation=InterpolationMode.BILINEAR,
        antialias=True,
    )
    return seen.flip(-1) if mirror < 0.5 else seen


def mask(
    image: Float[Tensor, "3 H W"],
    most: float,
    colour: Float[Tensor, "3 1 1"],
    generator: Generator,
) -> Float[Tensor, "3 H W"]:
    """Put a colour over random squares of 8 px, none or up to a share of all that there are."""
    down, across = (-(-side // MASK_SIDE) for side in image.shape[1:])
    count = int(torch.randint(int(most * down * across) + 1, (), generator=generator))
    hidden = torch.zeros(down * across, dtype=torch.bool)
    hidden[torch.randperm(down * across, generator=generator)[:count]] = True
    squares = hidden.view(down, across).repeat_interleave(MASK_SIDE, 0)
    squares = squares.repeat_interleave(MASK_SIDE, 1)[: image.shape[1], : image.shape[2]]
    return torch.where(squares, colour, image)


def collate_attempts(attempts: Sequence[Attempt]) -> tuple[Tensor, Tensor] | BadData | None:
    """Stack what could be read; None when nothing could; the error that is to end the training."""
    read: list[tuple[Tensor, Tensor]] = []
    for attempt in attempts:
        if isinstance(attempt, Unreadable):
            _log.warning("skipped: %s", attempt)
        elif isinstance(attempt, BadData):
            return attempt
        else:
            read.append(attempt)
    if not read:
        return None
    images, shares = zip(*read, strict=True)
    return torch.stack(images), torch.stack(shares)
