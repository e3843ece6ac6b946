"""The few types that every room shares: tensor shapes, a batch, what a model expects, errors.

Shape letters, the same everywhere: B images in a batch, A classes asked about per image, K
competing classes (the A asked ones first), N all classes of the model, C image channels, c map
channels (C or 1), H and W pixels.
"""

import functools
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from types import MappingProxyType
from typing import Literal, TypeAlias

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

from var_exp.errors import (
    AlreadyFinished as AlreadyFinished,
)
from var_exp.errors import (
    BadData as BadData,
)
from var_exp.errors import (
    CannotWrite as CannotWrite,
)
from var_exp.errors import (
    ConfigError as ConfigError,
)
from var_exp.errors import (
    MissingWeights as MissingWeights,
)
from var_exp.errors import (
    OutOfMemory as OutOfMemory,
)
from var_exp.errors import (
    Unreadable as Unreadable,
)
from var_exp.errors import (
    UnsupportedModel as UnsupportedModel,
)
from var_exp.errors import (
    VarExpError as VarExpError,
)

Images: TypeAlias = Float[Tensor, "B C H W"]
Logits: TypeAlias = Float[Tensor, "B N"]
Classes: TypeAlias = Int[Tensor, "B K"]
Maps: TypeAlias = Float[Tensor, "B K c H W"]
Regions: TypeAlias = Bool[Tensor, "B A H W"]

Predict: TypeAlias = Callable[[Tensor], Tensor]
"""Any callable from images [B, C, H, W] to logits [B, N]; metrics know a model only as this."""

PREDICTED = -1
"""In place of a class: the one that the model itself puts first. Data without labels ask so."""


def refuse_picture(images: object) -> None:
    """Refuse a picture where its tensor is wanted.

    Raises:
        ValueError: it is no tensor.
    """
    if not isinstance(images, Tensor):
        raise ValueError(
            f"images must be a normalised tensor [B, C, H, W], got {type(images).__name__}; "
            "var_exp.explain takes pictures and files."
        )


@dataclass(frozen=True)
class InputSpec:
    """What a model expects to see.

    Attributes:
        size: Side of the square input in pixels; its height where it is no square.
        mean: Per channel, subtracted from an image in [0, 1].
        std: Per channel, divides after the mean is subtracted.
        interpolation: How photographs are resized: "bilinear" or "bicubic".
        crop_pct: Share of the resized picture's side that the centre crop keeps.
        crop_mode: How the input is cut out: "center", "squash" or "border"; see `Geometry`.
        fixed_size: True when the model refuses every other input size.
        width: Of an input that is no square, in pixels; None for a square.
    """

    size: int
    mean: tuple[float, ...]
    std: tuple[float, ...]
    interpolation: str = "bicubic"
    crop_pct: float = 1.0
    crop_mode: Literal["center", "squash", "border"] = "center"
    fixed_size: bool = False
    width: int | None = None

    @property
    def shape(self) -> tuple[int, int]:
        """Height and width of the input, in pixels."""
        return self.size, self.size if self.width is None else self.width


@dataclass(frozen=True)
class Sample:
    """One picture and what is known of it, before normalisation.

    Attributes:
        image: [3, H, W] float32 in [0, 1].
        classes: [A] int64, the classes asked about, as the data number them; `PREDICTED` without a
            label.
        regions: [A, H, W] bool, where each asked class is; None when the data does not say.
        id: Stable name; the same picture has the same id in every run.
        scope: [A, H, W] bool, the part of the picture that each question is about, such as the
            object of which a region is one part; None is the whole picture.
        competitors: [R] int64, classes that compete with those asked about though nothing is asked
            about them; None when there are none.
        without: [P, 3, H, W] float32 in [0, 1], the picture as it would be without each of P things
            that are in it, the first without what the regions show; None when nobody can tell.
    """

    image: Float[Tensor, "3 H W"]
    classes: Int[Tensor, " A"]
    regions: Bool[Tensor, "A H W"] | None
    id: str
    scope: Bool[Tensor, "A H W"] | None = None
    competitors: Int[Tensor, " R"] | None = None
    without: Float[Tensor, "P 3 H W"] | None = None


class SampleDataset(ABC):
    """What every data set offers: five members of its own, and others that have defaults.

    Layouts wrap one and offer the same again. A data set gives `class_names`, its length, its
    samples, and their labels and ids; what else it knows takes the place of a default.

    Attributes:
        class_names: Name of every class, by class number.
        model_names: Names of the model's classes; none when they are the data's.
        members: [M, N] bool, which classes of the model answer for each of the data's; None when
            they are the same.
        siblings: [N, S] int64, per class those that differ from it in one part; none are known.
        fewest: Classes of the picture with the fewest, which a class rule must be able to take;
            None when the first sample is like all others.
        skipped: Why, by id, of the pictures that were left out before the run.
        notes: What else a reader should know of the data, label to text.
    """

    class_names: Sequence[str]
    model_names: Sequence[str] = ()
    members: Bool[Tensor, "M N"] | None = None
    siblings: Int[Tensor, "N S"] = torch.empty(0, 0, dtype=torch.int64)
    fewest: Int[Tensor, " A"] | None = None
    skipped: Mapping[str, str] = MappingProxyType({})
    notes: Mapping[str, str] = MappingProxyType({})

    @abstractmethod
    def __len__(self) -> int: ...

    @abstractmethod
    def __getitem__(self, index: int) -> Sample: ...

    @abstractmethod
    def label(self, index: int) -> int:
        """First asked class of sample `index`, without drawing or decoding the picture."""

    @abstractmethod
    def sample_id(self, index: int) -> str:
        """Id of sample `index`, likewise."""

    def ids(self) -> list[str]:
        """Ids of all samples, in their order."""
        return [self.sample_id(index) for index in range(len(self))]

    def content(self, index: int) -> bytes:
        """What tells the picture of sample `index` from every other; copies have the same."""
        return self.sample_id(index).encode()

    def files(self) -> Iterator[Path]:
        """Every file that a sample comes from, pictures and annotations, for provenance."""
        return iter(())

    def scenes(self) -> "SampleDataset | None":
        """The same with two objects in every picture; None where that cannot be drawn."""
        return None


@dataclass(frozen=True)
class Batch:
    """Model-ready images and what is known of them.

    Attributes:
        images: [B, 3, H, W], normalised as the model expects.
        classes: [B, A] int64, the classes asked about, as the data number them, or `PREDICTED`.
        regions: [B, A, H, W] bool or None, where each asked class is.
        ids: B stable sample ids.
        scope: [B, A, H, W] bool or None, the part of the picture that each question is about.
        competitors: [B, R] int64 or None, classes that compete though nothing is asked about them.
        without: [B, P, 3, H, W] or None, normalised, the pictures without each of P things.
    """

    images: Images
    classes: Int[Tensor, "B A"]
    regions: Regions | None
    ids: tuple[str, ...]
    scope: Regions | None = None
    competitors: Int[Tensor, "B R"] | None = None
    without: Float[Tensor, "B P 3 H W"] | None = None

    @property
    def named(self) -> Classes:
        """The classes that the data name, [B, A + R]: those asked about, then their competitors."""
        return (
            self.classes
            if self.competitors is None
            else torch.cat([self.classes, self.competitors], 1)
        )

    def asking(self, logits: Logits) -> "Batch":
        """The same batch, asking about the first choice of the model where there is no label."""
        first = logits.argmax(1, keepdim=True)
        return replace(self, classes=torch.where(self.classes == PREDICTED, first, self.classes))

    def at(self, rows: Int[Tensor, " n"]) -> "Batch":
        """Some of its images, and what is known of them."""
        return replace(
            self,
            images=self.images[rows],
            classes=self.classes[rows],
            regions=None if self.regions is None else self.regions[rows],
            ids=tuple(self.ids[row] for row in rows.tolist()),
            scope=None if self.scope is None else self.scope[rows],
            competitors=None if self.competitors is None else self.competitors[rows],
            without=None if self.without is None else self.without[rows],
        )

    def to(self, device: torch.device | str, non_blocking: bool = False) -> "Batch":
        """The same batch on another device; Lightning moves batches by calling this.

        From pinned memory it is copied while the device computes.
        """
        non_blocking = non_blocking or self.images.is_pinned()
        return self._each(functools.partial(Tensor.to, device=device, non_blocking=non_blocking))

    def pin_memory(self) -> "Batch":
        """The same batch in pinned memory; PyTorch's loader calls this where CUDA is at hand."""
        return self._each(Tensor.pin_memory)

    def _each(self, move: Callable[[Tensor], Tensor]) -> "Batch":
        return replace(
            self,
            images=move(self.images),
            classes=move(self.classes),
            regions=None if self.regions is None else move(self.regions),
            scope=None if self.scope is None else move(self.scope),
            competitors=None if self.competitors is None else move(self.competitors),
            without=None if self.without is None else move(self.without),
        )
