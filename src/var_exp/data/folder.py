"""Pictures in class folders on disk: your own (`data=folder`) or ImageNet's (`data=imagenet`)."""

from collections.abc import Sequence
from pathlib import Path
from typing import Literal

import numpy as np
import torch
from timm.data import ImageNetInfo

from var_exp.data.pictures import SUFFIXES, Geometry, read_picture
from var_exp.types import BadData, InputSpec, Sample


class ClassFolders:
    """One folder per class, pictures inside: `root/<class>/…/<picture>`.

    Pictures are turned upright (EXIF), made RGB, resized on the short side and cropped in the
    centre as the model's weights expect.

    Args:
        root: Folder that holds the class folders.
        spec: What the model expects to see.
        labels: "sorted": class i is the i-th folder in sorted order. "imagenet": folders are named
            by WordNet id (n01440764 …) and get ImageNet-1k's class number, whichever are present.
        count: Most pictures to use, taken evenly over the sorted list; None uses all.

    Raises:
        BadData: the root or its pictures do not exist, or a folder's name is no ImageNet class; on
            access, a picture that cannot be read.
    """

    def __init__(
        self,
        root: str | None,
        spec: InputSpec,
        labels: Literal["sorted", "imagenet"] = "sorted",
        count: int | None = None,
    ) -> None:
        if root is None:
            raise BadData("the pictures are missing; give their folder with data.root=FOLDER.")
        self.root = Path(root).expanduser()
        self.geometry = Geometry.of(spec)
        if not self.root.is_dir():
            raise BadData(f"data.root '{root}' is not a folder; give the folder of class folders.")
        folders = sorted(folder for folder in self.root.iterdir() if folder.is_dir())
        self.class_names, numbers = _classes(folders, labels)
        self.files = [
            (file, numbers[folder.name])
            for folder in folders
            for file in sorted(folder.rglob("*"))
            if file.suffix.lower() in SUFFIXES
        ]
        if not self.files:
            raise BadData(
                f"data.root '{root}' holds no pictures in class folders; expected "
                f"{self.root.name}/<class>/<picture> with one of {', '.join(sorted(SUFFIXES))}."
            )
        if count is not None and count < len(self.files):
            picked = np.linspace(0, len(self.files) - 1, count).round().astype(int)
            self.files = [self.files[i] for i in picked]

    def __len__(self) -> int:
        return len(self.files)

    def label(self, index: int) -> int:
        """Class number of a picture, from its folder."""
        return self.files[index][1]

    def sample_id(self, index: int) -> str:
        """Path of the file below the root."""
        return self.files[index][0].relative_to(self.root).as_posix()

    def __getitem__(self, index: int) -> Sample:
        file, label = self.files[index]
        return Sample(
            image=self.geometry.picture(read_picture(file)),
            classes=torch.tensor([label]),
            regions=None,
            id=self.sample_id(index),
        )


def _classes(folders: Sequence[Path], labels: str) -> tuple[list[str], dict[str, int]]:
    """Names of all classes and the class number of each folder."""
    if labels == "sorted":
        names = [folder.name for folder in folders]
        return names, {name: number for number, name in enumerate(names)}
    info = ImageNetInfo("imagenet-1k")
    known = {wordnet_id: number for number, wordnet_id in enumerate(info.label_names())}
    for folder in folders:
        if folder.name not in known:
            raise BadData(
                f"'{folder}' is not named by an ImageNet-1k WordNet id such as n01440764; "
                "use data=folder for other classes."
            )
    names = [info.index_to_description(number).split(",")[0] for number in range(len(known))]
    return names, known
