"""Layouts: how the pictures of a data set are put before the model. Each wraps any data set.

`single` shows one picture at a time, `grid` puts n x n pictures of distinct classes side by side
(the grid pointing game), `pair` shows two objects in one picture where the data set can draw that.
"""

from collections.abc import Iterator, Sequence
from hashlib import blake2b
from pathlib import Path
from typing import Any, Literal

import torch
from jaxtyping import Float
from torch import Tensor, nn
from torch.nn.functional import interpolate, normalize

from var_exp.data.confidence import confidences
from var_exp.types import PREDICTED, ConfigError, InputSpec, Sample, SampleDataset


def single(dataset: SampleDataset) -> SampleDataset:
    """One picture at a time: the data set as it is."""
    return dataset


def pair(dataset: SampleDataset) -> SampleDataset:
    """Two objects of different classes in one picture, both asked about.

    Raises:
        ConfigError: the data set cannot draw such scenes.
    """
    drawn = dataset.scenes()
    if drawn is None:
        raise ConfigError(
            f"layout=pair needs a data set that draws two objects in one picture, got "
            f"{type(dataset).__name__}; use data=critters, or layout=single or layout=grid."
        )
    return drawn


class Grid(SampleDataset):
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
        confidence: Take only pictures that the model classifies correctly with at least this
            softmax probability; see `confidences`. None takes all.
        related: Put classes together that the model finds alike, by the cosine of their weights in
            its last layer: to the class with the most pictures left the n² - 1 nearest.
        model: The model at hand, for these two.
        workers: Loader processes while the model is asked, see `SampleModule`.

    Attributes:
        notes: Those of the data set, and how many pictures were confident enough.

    Raises:
        ConfigError: fewer than n² classes have pictures, or an option out of its range.
    """

    def __init__(
        self,
        dataset: SampleDataset,
        spec: InputSpec,
        n: int = 2,
        count: int | None = None,
        seed: int = 0,
        cell: Literal["auto", "full", "rescaled"] = "auto",
        confidence: float | None = None,
        related: bool = False,
        model: nn.Module | None = None,
        workers: int | None = 0,
    ) -> None:
        if n < 2:
            raise ConfigError(
                f"layout.n must be at least 2, got {n}; use layout=single for one picture."
            )
        if cell not in ("auto", "full", "rescaled"):
            raise ConfigError(f"layout.cell must be auto, full or rescaled, got '{cell}'.")
        self.dataset = dataset
        self.class_names = dataset.class_names
        self.model_names = dataset.model_names
        self.members = dataset.members
        self.siblings = dataset.siblings
        self.notes = dict(dataset.notes)
        self.skipped = dict(dataset.skipped)
        self.n = n
        self.rescaled = cell == "rescaled" or (cell == "auto" and spec.fixed_size)
        usable = list(range(len(dataset)))
        if confidence is not None:
            usable, note = self._sure(confidence, model, spec, workers)
            self.notes = {**self.notes, **note}
        alike = _likeness(dataset, model) if related else None
        self.cells = _group(dataset, usable, n * n, seed, count, alike)
        if not self.cells:
            options = "layout.n" if confidence is None else "layout.n or layout.confidence"
            raise ConfigError(
                f"layout=grid with n={n} needs pictures of {n * n} different classes, and "
                f"{type(dataset).__name__} with {len(usable)} pictures has fewer; "
                f"use a smaller {options} or more data."
            )

    def _sure(
        self, least: float, model: nn.Module | None, spec: InputSpec, workers: int | None
    ) -> tuple[list[int], dict[str, str]]:
        """Pictures of which the model is sure, and how many these are."""
        if model is None or not 0 < least < 1:
            raise ConfigError(
                f"layout.confidence must lie between 0 and 1 and needs a model, got {least}."
            )
        found = confidences(self.dataset, model, spec, workers)
        usable = [index for index, value in enumerate(found) if value >= least]
        label = f"pictures classified correctly with confidence {least:g}"
        return usable, {label: f"{len(usable)} of {len(found)}"}

    def __len__(self) -> int:
        return len(self.cells)

    def label(self, index: int) -> int:
        """Class of the first cell (top left)."""
        return self.dataset.label(self.cells[index][0])

    def sample_id(self, index: int) -> str:
        """Ids of the pictures in the cells, row by row."""
        return "+".join(self.dataset.sample_id(cell) for cell in self.cells[index])

    def files(self) -> Iterator[Path]:
        """Those of all the pictures."""
        return self.dataset.files()

    def __getitem__(self, index: int) -> Sample:
        samples = [self.dataset[cell] for cell in self.cells[index]]
        if len({sample.image.shape for sample in samples}) > 1:
            raise ConfigError(
                "the pictures of a grid must have one size; use data.view=crop or layout=single."
            )
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


def _group(
    dataset: SampleDataset,
    usable: Sequence[int],
    size: int,
    seed: int,
    count: int | None,
    alike: Float[Tensor, "N N"] | None,
) -> list[list[int]]:
    """Disjoint groups of `size` usable pictures of distinct classes, at most `count` of them."""

    def order(*key: int) -> bytes:
        return blake2b(repr((seed, *key)).encode(), digest_size=8).digest()

    left: dict[int, list[int]] = {}
    for index in sorted(usable, key=order):
        left.setdefault(dataset.label(index), []).append(index)
    if PREDICTED in left:
        raise ConfigError(
            "layout=grid needs pictures of known classes, and some of these have no label; "
            "use layout=single."
        )
    groups: list[list[int]] = []
    while len(left) >= size and (count is None or len(groups) < count):
        by_stock = sorted(left, key=lambda label: (-len(left[label]), order(len(groups), label)))
        if alike is not None:
            near = alike[by_stock[0]].tolist()
            by_stock[1:] = sorted(by_stock[1:], key=lambda label: -near[label])
        chosen = sorted(by_stock[:size], key=lambda label: order(len(groups), label, 1))
        groups.append([left[label].pop() for label in chosen])
        left = {label: stock for label, stock in left.items() if stock}
    return groups


def _likeness(dataset: SampleDataset, model: nn.Module | None) -> Float[Tensor, "N N"]:
    """Cosine of the weights that two classes have in the last layer."""
    last: Any = getattr(model, "get_classifier", lambda: None)()  # as timm's models have it
    weights = getattr(last, "weight", None)
    if weights is None or len(weights) != len(dataset.class_names):
        raise ConfigError(
            "layout.related needs a model whose last layer has weights for each class of the data; "
            "leave it out, or use data of the model's own classes."
        )
    unit = normalize(weights.detach().flatten(1).float())
    return unit @ unit.T
