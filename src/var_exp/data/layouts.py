"""Layouts: how the pictures of a data set are put before the model. Each wraps any data set.

`single` shows one picture at a time, `grid` puts n x n pictures of distinct classes side by side
(the grid pointing game), `pair` shows two objects in one picture where the data set can draw that.
"""

from collections.abc import Sequence
from hashlib import blake2b
from typing import Literal

import torch
from torch.nn.functional import interpolate

from var_exp.types import PREDICTED, ConfigError, InputSpec, Sample, SampleDataset


def single(dataset: SampleDataset) -> SampleDataset:
    """One picture at a time: the data set as it is."""
    return dataset


def pair(dataset: SampleDataset) -> SampleDataset:
    """Two objects of different classes in one picture, both asked about.

    Raises:
        ConfigError: the data set cannot draw such scenes.
    """
    scenes = getattr(dataset, "scenes", None)
    if scenes is None:
        raise ConfigError(
            f"layout=pair needs a data set that draws two objects in one picture, got "
            f"{type(dataset).__name__}; use data=critters, or layout=single or layout=grid."
        )
    drawn: SampleDataset = scenes()
    return drawn


class Grid:
    """n x n pictures of n² distinct classes side by side; every one of the classes is asked about.

    Each picture is used at most once. Which pictures meet depends only on the data set and `seed`:
    grid after grid takes the classes with the most pictures left, ties broken by a hash of the
    sample's number, so that as few pictures as possible stay over.

    Args:
        dataset: Gives the pictures; the first class of each is the class of its cell.
        spec: What the model expects; decides `cell="auto"`.
        n: Cells per side, at least 2.
        count: Most grids to build; None builds as many as the pictures allow.
        seed: Another seed, another grouping.
        cell: "full" keeps every picture's size, so the grid is n times larger (the published game);
            "rescaled" shrinks the cells so that the grid has the size of one picture, for models
            that take only one size; "auto" picks by the model.

    Raises:
        ConfigError: fewer than n² classes have pictures.
    """

    def __init__(
        self,
        dataset: SampleDataset,
        spec: InputSpec,
        n: int = 2,
        count: int | None = None,
        seed: int = 0,
        cell: Literal["auto", "full", "rescaled"] = "auto",
    ) -> None:
        if n < 2:
            raise ConfigError(
                f"layout.n must be at least 2, got {n}; use layout=single for one picture."
            )
        if cell not in ("auto", "full", "rescaled"):
            raise ConfigError(f"layout.cell must be auto, full or rescaled, got '{cell}'.")
        self.dataset = dataset
        self.n = n
        self.rescaled = cell == "rescaled" or (cell == "auto" and spec.fixed_size)
        self.cells = _group(dataset, n * n, seed)[:count]
        if not self.cells:
            raise ConfigError(
                f"layout=grid with n={n} needs pictures of {n * n} different classes, and "
                f"{type(dataset).__name__} with {len(dataset)} pictures has fewer; "
                "use a smaller layout.n or more data."
            )

    @property
    def class_names(self) -> Sequence[str]:
        """Names of all classes of the data set."""
        return self.dataset.class_names

    def __len__(self) -> int:
        return len(self.cells)

    def label(self, index: int) -> int:
        """Class of the first cell (top left)."""
        return self.dataset.label(self.cells[index][0])

    def sample_id(self, index: int) -> str:
        """Ids of the pictures in the cells, row by row."""
        return "+".join(self.dataset.sample_id(cell) for cell in self.cells[index])

    def __getitem__(self, index: int) -> Sample:
        samples = [self.dataset[cell] for cell in self.cells[index]]
        images = torch.stack([sample.image for sample in samples])
        if self.rescaled:
            height, width = (side // self.n for side in images.shape[-2:])
            images = interpolate(images, (height, width), mode="bilinear", antialias=True)
        rows = images.unflatten(0, (self.n, self.n))  # [n, n, 3, h, w]
        image = rows.permute(2, 0, 3, 1, 4).flatten(3).flatten(1, 2)
        cells = torch.eye(self.n**2, dtype=torch.bool).unflatten(1, (self.n, self.n))
        height, width = images.shape[-2:]
        return Sample(
            image=image,
            classes=torch.stack([sample.classes[0] for sample in samples]),
            regions=cells.repeat_interleave(height, 1).repeat_interleave(width, 2),
            id=self.sample_id(index),
        )


def _group(dataset: SampleDataset, size: int, seed: int) -> list[list[int]]:
    """Disjoint groups of `size` pictures of distinct classes."""

    def order(*key: int) -> bytes:
        return blake2b(repr((seed, *key)).encode(), digest_size=8).digest()

    left: dict[int, list[int]] = {}
    for index in sorted(range(len(dataset)), key=order):
        left.setdefault(dataset.label(index), []).append(index)
    if PREDICTED in left:
        raise ConfigError(
            "layout=grid needs pictures of known classes, and some of these have no label; "
            "use layout=single."
        )
    groups: list[list[int]] = []
    while len(left) >= size:
        by_stock = sorted(left, key=lambda label: (-len(left[label]), order(len(groups), label)))
        chosen = sorted(by_stock[:size], key=lambda label: order(len(groups), label, 1))
        groups.append([left[label].pop() for label in chosen])
        left = {label: stock for label, stock in left.items() if stock}
    return groups
