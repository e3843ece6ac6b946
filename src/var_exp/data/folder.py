"""Your own pictures in folders on disk (`data=folder`)."""

import os
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import Literal

import numpy as np
import torch

from var_exp.data.geometry import Geometry
from var_exp.data.imagenet_classes import imagenet_names, names_of_classes, wordnet_numbers
from var_exp.data.pictures import SUFFIXES, read_mask, read_picture, refuse_address
from var_exp.data.unreadable import OnError, marked_unreadable, unreadable
from var_exp.data.walk import regular_files
from var_exp.text import printable
from var_exp.types import PREDICTED, BadData, InputSpec, Sample, SampleDataset

_MASK = ".mask.png"
_APPLE = (".heic", ".heif")


class PictureFolder(SampleDataset):
    """Pictures below a folder, with or without classes and masks.

    Pictures right in the root have no label: what the model itself predicts is asked about. Else
    each folder in the root is a class, whatever folders it holds. Beside `photo.jpg` the file
    `photo.mask.png` says where the class is (not black). Linked folders are followed; hidden files
    do not count; pipes and devices are passed over.

    Args:
        root: The folder; a file is a folder of one.
        spec: What the model expects to see.
        num_classes: Classes of the model.
        model_names: Their names, where known; 1000 classes without names are ImageNet's.
        labels: "auto": no labels when pictures lie in the root; else folders are found by the names
            of the model's classes (ImageNet's also by WordNet id), and in sorted order where these
            are unknown. "sorted": class i is the i-th folder in sorted order. "imagenet": folders
            are named by WordNet id (n01440764 …), whichever are present. "none": no labels.
        count: Most pictures to use, taken evenly over the sorted list; None uses all.
        on_error: "skip" leaves out and names what cannot be read, "fail" ends the run.

    Attributes:
        skipped: Why, by id, of what is left out before the run.
        notes: What else a reader should know of the data, label to text.

    Raises:
        BadData: the root or its pictures do not exist, a folder's name is no class, or a picture
            cannot be read.
    """

    def __init__(
        self,
        root: str | None,
        spec: InputSpec,
        num_classes: int | None = None,
        model_names: Sequence[str] | None = None,
        labels: Literal["auto", "sorted", "imagenet", "none"] = "auto",
        count: int | None = None,
        on_error: OnError = "skip",
    ) -> None:
        if root is None:
            raise BadData("the pictures are missing; give their folder with data.root=FOLDER.")
        refuse_address(root)
        place = Path(root).expanduser()
        if not place.is_dir() and not place.is_file():
            raise BadData(
                f"data.root '{root}' is neither a folder nor a file; give the folder of the "
                "pictures, or one picture."
            )
        self.root = place if place.is_dir() else place.parent
        self.geometry = Geometry.of(spec)
        self.on_error = on_error
        listed = _Listing(self.root, only=None if place.is_dir() else place)
        if labels == "auto" and listed.loose:
            labels = "none"
        if labels == "none":
            self.class_names = list(names_of_classes(num_classes, model_names).names)
            files = [(file, PREDICTED) for file in listed.pictures()]
        else:
            self.class_names, numbers = _classes(
                sorted(listed.folders), labels, num_classes, model_names
            )
            files = [
                (file, numbers[folder])
                for folder in sorted(listed.folders)
                for file in listed.folders[folder]
            ]
        if not files:
            where = " in class folders" if listed.loose else ""
            raise BadData(f"data.root '{root}' holds no pictures{where}{listed.instead()}.")
        if count is not None and count < len(files):
            picked = np.linspace(0, len(files) - 1, count).round().astype(int)
            files = [files[i] for i in picked]
        broken = unreadable([file for file, _ in files], on_error)
        self.pictures = [(file, label) for file, label in files if file not in broken]
        self.masks = listed.masks
        self.skipped = {self._id(file): reason for file, reason in broken.items()}
        self.notes = listed.notes(with_labels=labels != "none")

    def __len__(self) -> int:
        return len(self.pictures)

    def label(self, index: int) -> int:
        """Class number of a picture, from its folder; `PREDICTED` without labels."""
        return self.pictures[index][1]

    def sample_id(self, index: int) -> str:
        """Path of the file below the root."""
        return self._id(self.pictures[index][0])

    def files(self) -> Iterator[Path]:
        """The pictures and their masks."""
        yield from (file for file, _ in self.pictures)
        yield from self.masks.values()

    def content(self, index: int) -> bytes:
        """What tells a picture from every other: its file's length and the first of its bytes."""
        file = self.pictures[index][0]
        with file.open("rb") as opened:
            return file.stat().st_size.to_bytes(8, "little") + opened.read(2**16)

    def __getitem__(self, index: int) -> Sample:
        file, label = self.pictures[index]
        with marked_unreadable(self.on_error):
            picture = read_picture(file)
            regions = self._regions(file, picture.size)
        return Sample(
            image=self.geometry.picture(picture),
            classes=torch.tensor([label]),
            regions=regions,
            id=self._id(file),
        )

    def _regions(self, file: Path, size: tuple[int, int]) -> torch.Tensor | None:
        """[1, size, size] where the class is; empty without a mask when other pictures have one."""
        if not self.masks:
            return None
        name = self.masks.get(file.with_suffix(""))
        if name is None:
            return torch.zeros(1, self.geometry.size, self.geometry.size, dtype=torch.bool)
        mask = read_mask(name)
        if mask.shape[::-1] != size:
            raise BadData(
                f"the mask '{name}' has {mask.shape[1]} x {mask.shape[0]} px and its picture "
                f"{size[0]} x {size[1]}; save both in one size."
            )
        return self.geometry.masks(mask[None])

    def _id(self, file: Path) -> str:
        return _shown(file.relative_to(self.root).as_posix())


class _Listing:
    """What lies below a folder.

    Attributes:
        loose: Pictures right in the root.
        folders: Pictures by the folder in the root that holds them.
        masks: Mask files by the path of their picture without its ending.
    """

    def __init__(self, root: Path, only: Path | None = None) -> None:
        self.loose: list[Path] = []
        self.folders: dict[str, list[Path]] = {}
        self.masks: dict[Path, Path] = {}
        self._others: Counter[str] = Counter()
        self._passed_over: Counter[str] = Counter()
        found = regular_files(root, self._passed_over) if only is None else [only]
        for file in self._sift(found):
            folder, *inside = file.relative_to(root).parts
            if inside:
                self.folders.setdefault(folder, []).append(file)
            else:
                self.loose.append(file)
        for entry in root.iterdir() if only is None else ():  # an empty folder is a class, too
            if entry.is_dir() and not entry.name.startswith("."):
                self.folders.setdefault(entry.name, [])

    def _sift(self, files: Iterable[Path]) -> Iterator[Path]:
        for file in files:
            if file.name.lower().endswith(_MASK):
                self.masks[file.with_name(file.name[: -len(_MASK)])] = file
            elif file.suffix.lower() in SUFFIXES:
                yield file
            else:
                self._others[_shown(file.suffix or file.name)] += 1

    def instead(self) -> str:
        """What is there where no pictures are, and what to do."""
        held = f" (it holds {self._counts()})" if self._others else ""
        if any(suffix.lower() in _APPLE for suffix in self._others):
            return f"{held}; HEIC is not read, so save the pictures as JPEG or PNG"
        suffixes = ", ".join(sorted(SUFFIXES))
        return f"{held}; expected pictures, or <class>/<picture>, that end in one of {suffixes}"

    def _counts(self) -> str:
        return ", ".join(f"{count} {suffix}" for suffix, count in sorted(self._others.items()))

    def pictures(self) -> list[Path]:
        """All pictures, sorted by path."""
        return sorted([*self.loose, *(file for held in self.folders.values() for file in held)])

    def notes(self, with_labels: bool) -> dict[str, str]:
        """What was left aside, and which masks belong to no picture."""
        notes: dict[str, str] = {}
        if self._others:
            notes["files not taken for pictures"] = self._counts()
        for kind, count in self._passed_over.items():
            notes[f"passed over: {kind}"] = str(count)
        if with_labels and self.loose:
            notes["pictures outside of class folders, left out"] = str(len(self.loose))
        owners = {file.with_suffix("") for file in self.pictures()}
        orphans = [mask.name for place, mask in self.masks.items() if place not in owners]
        if orphans:
            first = ", ".join(map(_shown, orphans[:3]))
            notes["masks without a picture"] = f"{len(orphans)}: {first}"
        return notes


def _shown(name: str) -> str:
    """A file's name as tables and pictures can show it, also one that is no UTF-8."""
    return printable(os.fsencode(name).decode("utf-8", "backslashreplace"))


def _classes(
    folders: Sequence[str],
    labels: str,
    num_classes: int | None,
    model_names: Sequence[str] | None,
) -> tuple[list[str], dict[str, int]]:
    """Names of all classes and the class number of each folder."""
    known = model_names is not None or num_classes == 1000
    if labels == "sorted" or (labels == "auto" and not known):
        numbers = {name: number for number, name in enumerate(folders)}
        return [_shown(name) for name in folders], numbers
    names, numbers = list(imagenet_names()), wordnet_numbers()
    advice = "use data=folder for other classes"
    kind = "not named by an ImageNet-1k WordNet id such as n01440764"
    if labels == "auto":
        names = list(names_of_classes(num_classes, model_names).names)
        named = {name: i for i, name in enumerate(names) if names.count(name) == 1}
        numbers = named if model_names is not None else named | numbers
        kind = f"not named by one of the model's classes ({', '.join(names[:3])}, …)"
        advice = (
            "rename it, or give data.labels=none when folders are no classes, or data.labels=sorted"
        )
    for folder in folders:
        if folder not in numbers:
            raise BadData(f"the folder '{_shown(folder)}' is {kind}; {advice}.")
    return names, numbers
