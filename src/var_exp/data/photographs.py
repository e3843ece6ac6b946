"""What photographs with several annotated objects share, whatever data set they come from."""

from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Literal

import numpy as np
import torch
from jaxtyping import Bool, Int
from torch import Tensor

from var_exp.data.geometry import Geometry
from var_exp.data.imagenet_classes import imagenet_members, imagenet_names
from var_exp.data.pictures import read_picture
from var_exp.data.unreadable import OnError, marked_unreadable, unreadable
from var_exp.types import BadData, ConfigError, InputSpec, Sample, SampleDataset


@dataclass(frozen=True)
class Photograph:
    """One picture file and the classes of the objects in it.

    Attributes:
        id: Stable name, such as "voc2007/000001".
        file: The picture.
        classes: Numbers of the classes asked about, ascending.
        annotation: What the data set knows of it, for `Photographs.regions`.
    """

    id: str
    file: Path
    classes: tuple[int, ...]
    annotation: Any


class Photographs(SampleDataset):
    """Photographs with all their classes; the region of a class is the union of its objects.

    Pictures are taken as they are stored, since that is what boxes and masks are drawn on. A region
    that the crop cuts away is empty: its score is undefined and counted.

    Args:
        found: All annotated pictures.
        class_names: Names of the data set's classes, by number.
        spec: What the model expects to see.
        num_classes: Classes of the model: as many as the data set has, or 1000 for ImageNet's, of
            which several may answer for one class of the data (`imagenet_members.csv`).
        group: Column of that table.
        view: "crop": what the model's weights expect; "whole": the short side resized to the
            model's size and nothing cut away, for networks that take pictures of any size.
        subset: File with the pairs to ask about, a line for each picture: the name of its file
            without ending, then 0 or 1 for each class, tab-separated, as TorchRay lists the
            difficult pairs of the pointing game. None asks about all.
        min_area: Least share of the picture that a class must cover to be asked about.
        min_classes: Least number of classes asked about in a picture.
        count: Most pictures, taken evenly; None uses all.
        on_error: "skip" leaves out and names pictures that cannot be read, "fail" ends the run.
        left_out: What the data set has already left out, reason -> pairs of picture and class.

    Attributes:
        photographs: Those that are left, with the classes that are left.
        skipped: Why, by id, of pictures that are left out since they cannot be read.
        notes: How many pairs and pictures were left out, and why.
        members: [classes, 1000] bool, ImageNet's classes that answer for each class; None where the
            model has the data set's own.
        model_names: Names of the model's classes.

    Raises:
        ConfigError: a model of other classes, or an option out of its range.
        BadData: nothing is left.
    """

    def __init__(
        self,
        found: Sequence[Photograph],
        class_names: Sequence[str],
        spec: InputSpec,
        num_classes: int | None,
        group: str,
        *,
        view: Literal["crop", "whole"],
        subset: str | None,
        min_area: float,
        min_classes: int,
        count: int | None,
        on_error: OnError,
        left_out: Counter[str],
    ) -> None:
        self.class_names = class_names
        self.model_names = class_names
        if num_classes not in (None, len(class_names)):
            self.members = _members(class_names, num_classes, group)
            self.model_names = imagenet_names()
        self.geometry = _geometry(spec, view)
        if not 0 <= min_area < 1 or min_classes < 1 or (count is not None and count < 1):
            raise ConfigError(
                f"data.min_area must be in [0, 1), data.min_classes and data.count at least 1, got "
                f"{min_area}, {min_classes}, {count}."
            )
        missing = [photograph.file for photograph in found if not photograph.file.is_file()]
        if missing:
            raise BadData(
                f"{len(missing)} of {len(found)} pictures are missing, such as '{missing[0]}'; "
                "unpack the whole archive, or choose another data.split."
            )
        pairs = None if subset is None else _pairs(Path(subset).expanduser(), len(class_names))
        self.photographs = self._asked(found, pairs, min_area, min_classes, left_out)
        if count is not None and count < len(self.photographs):
            picked = np.linspace(0, len(self.photographs) - 1, count).round().astype(int)
            self.photographs = [self.photographs[i] for i in picked]
        self.on_error = on_error
        broken = unreadable([photograph.file for photograph in self.photographs], on_error)
        self.skipped = {p.id: broken[p.file] for p in self.photographs if p.file in broken}
        self.photographs = [p for p in self.photographs if p.file not in broken]

    def regions(
        self, photograph: Photograph, classes: Sequence[int], size: tuple[int, int] | None
    ) -> Bool[Tensor, "A h w"]:
        """Where each class is: as the model sees it, or as stored.

        Args:
            photograph: One of them.
            classes: Classes that it holds.
            size: Width and height of the picture file; None asks for the regions as stored.

        Raises:
            BadData: the annotation is of another size.
        """
        raise NotImplementedError

    def as_annotated(
        self, photograph: Photograph, stated: tuple[int, int], size: tuple[int, int] | None
    ) -> None:
        """Refuse a picture of another width and height than its annotation was drawn on.

        Raises:
            BadData: it is.
        """
        if size not in (None, stated):
            raise BadData(
                f"'{photograph.file}' has {size} pixels and its annotation {stated}; "
                "take both from the same release of the data."
            )

    @property
    def fewest(self) -> Int[Tensor, " A"]:  # type: ignore[override]  # nobody sets it
        """Classes of the picture with the fewest, which a class rule must be able to take."""
        return torch.tensor(min((p.classes for p in self.photographs), key=len))

    def __len__(self) -> int:
        return len(self.photographs)

    def label(self, index: int) -> int:
        """First class asked about."""
        return self.photographs[index].classes[0]

    def sample_id(self, index: int) -> str:
        """Data set and the picture's name in it."""
        return self.photographs[index].id

    def files(self) -> Iterator[Path]:
        """The pictures, and the files that say where their objects are."""
        yield from (photograph.file for photograph in self.photographs)
        yield from dict.fromkeys(self.annotations())

    def annotations(self) -> Iterator[Path]:
        """The files that say where the objects of the pictures are."""
        return iter(())

    def __getitem__(self, index: int) -> Sample:
        photograph = self.photographs[index]
        with marked_unreadable(self.on_error):
            picture = read_picture(photograph.file, upright=False)
            regions = self.regions(photograph, photograph.classes, picture.size)
        return Sample(
            image=self.geometry.picture(picture),
            classes=torch.tensor(photograph.classes),
            regions=regions,
            id=photograph.id,
        )

    def _asked(
        self,
        found: Sequence[Photograph],
        pairs: Mapping[str, set[int]] | None,
        min_area: float,
        min_classes: int,
        left_out: Counter[str],
    ) -> list[Photograph]:
        """Leave out what cannot or should not be asked, and count it."""
        everything = range(len(self.class_names))
        answered = (
            set(everything)
            if self.members is None
            else set(self.members.any(1).nonzero()[:, 0].tolist())
        )
        kept: list[Photograph] = []
        for photograph in found:
            listed = everything if pairs is None else pairs.get(photograph.file.stem, ())
            classes = photograph.classes
            for reason, allowed in (
                ("not in the subset", listed),
                ("without a class of the model", answered),
            ):
                left_out[reason] += sum(c not in allowed for c in classes)
                classes = tuple(c for c in classes if c in allowed)
            if min_area and classes:
                areas = self.regions(photograph, classes, None).double().mean((1, 2)).tolist()
                large = tuple(c for c, area in zip(classes, areas, strict=True) if area >= min_area)
                left_out[f"below {min_area:.3g} of the picture"] += len(classes) - len(large)
                classes = large
            if len(classes) >= min_classes:
                kept.append(replace(photograph, classes=classes))
        reasons = ", ".join(f"{number} {reason}" for reason, number in left_out.items() if number)
        self.notes = {
            "classes asked": str(sum(len(photograph.classes) for photograph in kept)),
            "classes left out": reasons or "none",
            "pictures left out": f"{len(found) - len(kept)} with fewer than {min_classes} asked",
        }
        if not kept:
            raise BadData(
                f"none of the {len(found)} pictures is left to ask about ({reasons or 'no objects'}"
                f"); lower data.min_area or data.min_classes."
            )
        return kept


def _pairs(file: Path, num_classes: int) -> dict[str, set[int]]:
    """Picture's name -> classes to ask about."""
    pairs: dict[str, set[int]] = {}
    try:
        lines = file.read_text(encoding="utf-8-sig").splitlines()
    except (OSError, UnicodeDecodeError) as error:
        raise BadData(f"cannot read data.subset '{file}' ({error}).") from error
    for line in lines:
        name, *flags = line.split("\t")
        if len(flags) != num_classes or not set(flags) <= {"0", "1"}:
            raise BadData(
                f"'{file}' must have a picture's name and {num_classes} times 0 or 1 in each line, "
                f"tab-separated, got '{line[:40]}'."
            )
        pairs[name] = {number for number, flag in enumerate(flags) if flag == "1"}
    return pairs


def _members(names: Sequence[str], num_classes: int | None, group: str) -> Bool[Tensor, "M N"]:
    if num_classes != len(imagenet_names()):
        raise ConfigError(
            f"the model has {num_classes} classes; these data can ask a model of their own "
            f"{len(names)} classes or one of ImageNet's 1000: choose another model= or data=."
        )
    return imagenet_members(names, group)


def _geometry(spec: InputSpec, view: str) -> Geometry:
    if view == "crop":
        return Geometry.of(spec)
    if view != "whole":
        raise ConfigError(f"data.view must be crop or whole, got '{view}'.")
    if spec.fixed_size:
        raise ConfigError("data.view=whole needs a model that takes any size; use data.view=crop.")
    return Geometry(spec.size, interpolation=spec.interpolation, mode="whole", width=spec.width)
