"""ImageNet-1k's validation pictures in whatever layout they lie on the disk; Imagenette.

Russakovsky et al., "ImageNet Large Scale Visual Recognition Challenge", IJCV 2015.
"""

from collections.abc import Iterator
from pathlib import Path
from typing import Literal
from urllib.error import URLError
from urllib.request import urlopen

import numpy as np
import torch
from jaxtyping import Bool
from torch import Tensor
from torchvision.datasets import Imagenette

from var_exp.data.boxes import Boxes
from var_exp.data.geometry import Geometry
from var_exp.data.imagenet_classes import imagenet_names
from var_exp.data.imagenet_layouts import Entry, boxes_of, entries_of, masks_of
from var_exp.data.pictures import read_labels, read_picture
from var_exp.data.unreadable import OnError, marked_unreadable, unreadable
from var_exp.types import BadData, ConfigError, InputSpec, Sample, SampleDataset

_ANSWER_SECONDS = 4.0  # time the server has for its first answer


class ImageNet(SampleDataset):
    """Pictures of ImageNet-1k's classes, and where the class is.

    The layout is found out from the folder; the same picture has the same id and place in each:
    class folders (`n01440764/…`, also below `val` or `validation`), Kaggle's
    (`ILSVRC/Data/CLS-LOC/val` beside `LOC_val_solution.csv`), Hugging Face's (`data/validation-*.
    parquet`), ImageNet-S's (`validation` beside `validation-segmentation`).

    Pictures are taken as they are stored: boxes and masks are drawn on that, and timm and
    torchvision evaluate so.

    Args:
        root: The folder.
        spec: What the model expects to see.
        regions: "none"; "boxes" of the localisation challenge; "masks" of ImageNet-S.
        annotations: Where the boxes are: the folder of their XML files, or Kaggle's CSV file; None
            looks for them where Kaggle puts them.
        count: Most pictures, taken evenly; None uses all.
        on_error: "skip" leaves out and names pictures that cannot be read, "fail" ends the run.

    Attributes:
        entries: The pictures.
        skipped: Why, by id, of pictures that are left out since they cannot be read.

    Raises:
        BadData: the pictures or their annotations are missing, or say what cannot be.
        ConfigError: an option that is none, or a package that is not installed.
    """

    def __init__(
        self,
        root: str | None,
        spec: InputSpec,
        regions: Literal["none", "boxes", "masks"] = "none",
        annotations: str | None = None,
        count: int | None = None,
        on_error: OnError = "fail",
    ) -> None:
        if root is None:
            raise BadData(
                "ImageNet's pictures are missing; give their folder with data.root=FOLDER."
            )
        if regions not in ("none", "boxes", "masks"):
            raise ConfigError(f"data.regions must be none, boxes or masks, got '{regions}'.")
        home = Path(root).expanduser()
        if not home.is_dir():
            raise BadData(f"data.root '{root}' is not a folder; give the folder of the pictures.")
        self.class_names = imagenet_names()
        self.geometry = Geometry.of(spec)
        self.on_error = on_error
        found = sorted(entries_of(home), key=lambda entry: entry.id)
        if count is not None and count < len(found):
            picked = np.linspace(0, len(found) - 1, count).round().astype(int)
            found = [found[i] for i in picked]
        files = [entry.source for entry in found if isinstance(entry.source, Path)]
        broken = unreadable(files, on_error)
        self.skipped = {entry.id: broken[entry.source] for entry in found if entry.source in broken}
        self.entries = [entry for entry in found if entry.id not in self.skipped]
        self._boxes: dict[str, tuple[tuple[int, int] | None, Boxes]] | None = None
        self._box_files: list[Path] = []
        self._masks: dict[str, tuple[Path, int]] | None = None
        if regions == "boxes":
            where = None if annotations is None else Path(annotations).expanduser()
            self._boxes, self._box_files = boxes_of(self.entries, home, where)
        elif regions == "masks":
            self._masks = masks_of(self.entries, home)

    def __len__(self) -> int:
        return len(self.entries)

    def label(self, index: int) -> int:
        """Class number of a picture."""
        return self.entries[index].label

    def sample_id(self, index: int) -> str:
        """WordNet id and file name, such as "n01751748/ILSVRC2012_val_00000001.JPEG"."""
        return self.entries[index].id

    def files(self) -> Iterator[Path]:
        """The pictures, or the parquet files that hold them, and the masks and boxes."""
        sources = (entry.source for entry in self.entries)
        yield from dict.fromkeys(s if isinstance(s, Path) else s.file for s in sources)
        yield from (file for file, _ in (self._masks or {}).values())
        yield from self._box_files

    def __getitem__(self, index: int) -> Sample:
        entry = self.entries[index]
        with marked_unreadable(self.on_error):
            picture = read_picture(entry.open(), entry.id, upright=False)
            regions = self._regions(entry, picture.size)
        return Sample(
            image=self.geometry.picture(picture),
            classes=torch.tensor([entry.label]),
            regions=regions,
            id=entry.id,
        )

    def _regions(self, entry: Entry, size: tuple[int, int]) -> Bool[Tensor, "1 h w"] | None:
        if self._boxes is not None:
            stated, boxes = self._boxes[entry.id]
            _check_size(entry, size, stated or size)
            return boxes.regions([entry.label], self.geometry, size)
        if self._masks is None:
            return None
        file, number = self._masks[entry.id]
        mask = torch.from_numpy(read_labels(file) == number)
        _check_size(entry, size, (mask.shape[1], mask.shape[0]))
        return self.geometry.masks(mask[None])


def _check_size(entry: Entry, size: tuple[int, int], stated: tuple[int, int]) -> None:
    if size != stated:
        raise BadData(
            f"{entry.id} has {size} pixels and its annotation {stated}; take both from the same "
            "release of the data."
        )


def imagenette(
    root: str,
    spec: InputSpec,
    size: Literal["full", "320px", "160px"] = "320px",
    count: int | None = None,
    on_error: OnError = "fail",
) -> ImageNet:
    """Imagenette: the validation pictures of ten easy classes of ImageNet, downloaded when missing.

    Args:
        root: Where it is or shall be.
        spec: What the model expects to see.
        size: As published: in full, or the short side 320 or 160 px.
        count: Most pictures, taken evenly; None uses all.
        on_error: As for `ImageNet`.

    Raises:
        BadData: it is not there and cannot be downloaded.
    """
    archives = Imagenette._ARCHIVES
    if size not in archives:
        raise ConfigError(f"data.size must be one of {', '.join(archives)}, got '{size}'.")
    url, _ = archives[size]
    folder = Path(root).expanduser() / Path(url).stem
    if not folder.is_dir():
        try:
            urlopen(url, timeout=_ANSWER_SECONDS).close()
            Imagenette(str(folder.parent), split="val", size=size, download=True)
        except (URLError, OSError, RuntimeError) as error:
            raise BadData(
                f"Imagenette is not in '{folder}' and cannot be downloaded ({error}); unpack "
                f"{url} in '{folder.parent}', or choose another with data.root=FOLDER."
            ) from error
    return ImageNet(str(folder / "val"), spec, count=count, on_error=on_error)
