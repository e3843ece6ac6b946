"""COCO in its own layout: `annotations/instances_val2017.json` and `val2017/000000000139.jpg`.

Lin et al., "Microsoft COCO: Common Objects in Context", ECCV 2014.
"""

import json
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, Literal

import torch
from jaxtyping import Bool
from torch import Tensor

from var_exp.data.coco_masks import is_drawn, pycocotools_mask, union
from var_exp.data.photographs import Photograph, Photographs
from var_exp.data.unreadable import OnError
from var_exp.text import printable
from var_exp.types import BadData, InputSpec

_TORCHVISION_CLASSES = 91  # category ids as class numbers, the unused among them too


class COCO(Photographs):
    """COCO: each picture with all its classes, and where they are.

    A region is the union of the class's instance masks, crowds included, as in the pointing game.
    Classes are numbered 0 … 79 in the order of their category ids; for a model of 91 classes they
    are the ids themselves.

    Args:
        root: Folder that holds `annotations` and the pictures' folder (or `images` around it).
        spec: What the model expects to see.
        num_classes: As for `Photographs`, likewise what is not listed here.
        split: "val2017", "val2014", "train2017" …

    Raises:
        BadData: files are missing, or say what cannot be.
        ConfigError: pycocotools is not installed.
    """

    def __init__(
        self,
        root: str | None,
        spec: InputSpec,
        num_classes: int | None = None,
        split: str = "val2017",
        view: Literal["crop", "whole"] = "crop",
        subset: str | None = None,
        min_area: float = 0.0,
        min_classes: int = 1,
        count: int | None = None,
        on_error: OnError = "fail",
    ) -> None:
        pycocotools_mask()
        file, folder = _home(root, split)
        content = _read(file)
        named = {c["id"]: printable(c["name"]) for c in content["categories"]}
        ids = sorted(named)
        if num_classes == _TORCHVISION_CLASSES:
            names = [named.get(number, f"unused {number}") for number in range(num_classes)]
            numbers = {identity: identity for identity in ids}
        else:
            names = [named[identity] for identity in ids]
            numbers = {identity: number for number, identity in enumerate(ids)}
        left_out: Counter[str] = Counter()
        self._file = file
        super().__init__(
            _photographs(content, numbers, f"coco-{split}", folder, file, left_out),
            names,
            spec,
            num_classes,
            group="coco",
            view=view,
            subset=subset,
            min_area=min_area,
            min_classes=min_classes,
            count=count,
            on_error=on_error,
            left_out=left_out,
        )

    def annotations(self) -> Iterator[Path]:
        """The one file of instances."""
        yield self._file

    def regions(
        self, photograph: Photograph, classes: Sequence[int], size: tuple[int, int] | None
    ) -> Bool[Tensor, "A h w"]:
        """Where each class is; see `Photographs`."""
        (width, height), instances = photograph.annotation
        self.as_annotated(photograph, (width, height), size)
        masks = torch.stack(
            [
                union(
                    [drawn for owner, drawn in instances if owner == number],
                    *(height, width, f"'{self._file.name}', picture {photograph.id},"),
                )
                for number in classes
            ]
        )
        return self.geometry.masks(masks) if size else masks


def _photographs(
    content: Mapping[str, Any],
    numbers: Mapping[int, int],
    set_name: str,
    folder: Path,
    file: Path,
    left_out: Counter[str],
) -> list[Photograph]:
    """The pictures in the order of their ids, with (class, segmentation) of each instance."""
    instances: dict[int, list[tuple[int, Any]]] = {image["id"]: [] for image in content["images"]}
    for found in content["annotations"]:
        if found["category_id"] not in numbers:
            raise BadData(
                f"'{file}': annotation {found.get('id')} is of category {found['category_id']}, "
                "which is none of its categories."
            )
        if found["image_id"] not in instances:
            raise BadData(
                f"'{file}': annotation {found.get('id')} is of image {found['image_id']}, which is "
                "none of its images."
            )
        outline = found.get("segmentation")
        instances[found["image_id"]].append((numbers[found["category_id"]], outline))
    photographs = []
    for image in sorted(content["images"], key=lambda image: image["id"]):
        drawn = [(owner, drawn) for owner, drawn in instances[image["id"]] if is_drawn(drawn)]
        present = {owner for owner, _ in drawn}
        left_out["without outlines"] += len({o for o, _ in instances[image["id"]]} - present)
        size = image["width"], image["height"]
        name = Path(image["file_name"]).name
        photographs.append(
            Photograph(
                printable(f"{set_name}/{Path(name).stem}"),
                folder / name,
                tuple(sorted(present)),
                (size, drawn),
            )
        )
    return photographs


def _home(root: str | None, split: str) -> tuple[Path, Path]:
    """The file of instances and the folder of pictures."""
    if root is None:
        raise BadData("COCO is missing; give the folder that holds annotations with data.root=…")
    given = Path(root).expanduser()
    file = given / "annotations" / f"instances_{split}.json"
    if not file.is_file():
        known = sorted(found.stem.partition("_")[2] for found in file.parent.glob("instances_*"))
        raise BadData(
            f"there is no '{file}'; "
            + (f"data.split can be {', '.join(known)}." if known else "unpack the archives there.")
        )
    for folder in (given / split, given / "images" / split):
        if folder.is_dir():
            return file, folder
    raise BadData(f"data.root '{root}' holds no folder {split} with the pictures; unpack it there.")


def _read(file: Path) -> dict[str, list[dict[str, Any]]]:
    """What the file holds, once every entry has what is needed of it.

    Raises:
        BadData: it has not; the file and the entry are named.
    """
    try:
        content = json.loads(file.read_text(encoding="utf-8-sig"))
        missing = _NEEDED.keys() - content.keys()
    except (OSError, ValueError, AttributeError, RecursionError) as error:
        raise BadData(f"cannot read '{file}' ({error}); unpack it again.") from error
    if missing:
        raise BadData(f"'{file}' lacks {', '.join(sorted(missing))}; take the file of instances.")
    for kind, needed in _NEEDED.items():
        if not isinstance(content[kind], list):
            raise BadData(f"'{file}': {kind} is no list; take the file of instances.")
        for place, entry in enumerate(content[kind]):
            for key, fits in needed.items():
                if not isinstance(entry, dict) or not fits(entry.get(key)):
                    told = str(entry.get(key) if isinstance(entry, dict) else entry)[:40]
                    raise BadData(
                        f"'{file}': entry {place} of {kind} has {key} {told!r}, which cannot be; "
                        "correct or remove it."
                    )
    return dict(content)


def _is_side(value: object) -> bool:
    return type(value) is int and 1 <= value <= _LONGEST_SIDE


def _is_id(value: object) -> bool:
    return type(value) is int


def _is_name(value: object) -> bool:
    return isinstance(value, str) and bool(Path(value).name)


_LONGEST_SIDE = 2**14
_NEEDED: dict[str, dict[str, Callable[[object], bool]]] = {
    "images": {"id": _is_id, "file_name": _is_name, "width": _is_side, "height": _is_side},
    "annotations": {"image_id": _is_id, "category_id": _is_id},
    "categories": {"id": _is_id, "name": _is_name},
}
