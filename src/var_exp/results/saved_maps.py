"""The maps of a run on disk: one typed file for each batch, and an index over all of them.

A batch's file is written whole before its scores are, under a name that its samples decide. So
memory holds one batch, several processes do not meet, and a run that goes on after an interruption
replaces what it makes again. The index is made of the files at the end.
"""

import csv
import json
import os
from collections.abc import Collection, Iterator, Mapping, Sequence
from hashlib import blake2b
from pathlib import Path
from typing import TypeAlias

import numpy as np
from jaxtyping import Float, Int
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file
from torch import Tensor

from var_exp.files import whole_file
from var_exp.text import TableWriter, plain_cell
from var_exp.types import BadData, CannotWrite, Maps

Key: TypeAlias = tuple[str, int, str]
"""Sample id, class number, variant."""

_COLUMNS = ["id", "class", "name", "variant", "shard", "row"]
_INDEX = "index.csv"


class MapWriter:
    """Writes maps batch by batch; each process has one.

    Args:
        folder: Takes the files; made when it does not exist.
    """

    def __init__(self, folder: Path) -> None:
        self.folder = folder

    def write(
        self, ids: Sequence[str], classes: Int[Tensor, "B A"], maps: Mapping[str, Maps]
    ) -> None:
        """Write the maps [B, A, c, H, W] of every variant: float32 [B A, c, H, W], raw and signed.

        Raises:
            CannotWrite: the disk is full, or the folder cannot be written.
        """
        path = self.folder / f"{blake2b(repr(tuple(ids)).encode(), digest_size=8).hexdigest()}"
        rows = [
            (name, label)
            for name, labels in zip(ids, classes.tolist(), strict=True)
            for label in labels
        ]
        tensors = {
            variant: values.flatten(0, 1).float().cpu().contiguous()
            for variant, values in maps.items()
        }
        draft = path.with_suffix(".part")
        try:
            self.folder.mkdir(parents=True, exist_ok=True)
            save_file(tensors, draft, {"rows": json.dumps(rows)})
            with draft.open("rb") as file:
                os.fsync(file.fileno())
            draft.replace(path.with_suffix(".safetensors"))
        except (OSError, SafetensorError) as error:
            raise cannot_write(self.folder, error) from error

    def write_index(self, done: Collection[str], class_names: Sequence[str]) -> None:
        """Write `index.csv`: where the map of every sample, class and variant is.

        Args:
            done: Ids of the samples that the run has scored, in the order of the index.
            class_names: Name of every class, by class number.
        """
        places = {name: place for place, name in enumerate(done)}
        lines: dict[Key, tuple[str, int]] = {}
        for path in sorted(self.folder.glob("*.safetensors")):
            with safe_open(path, "np") as shard:
                rows = json.loads(shard.metadata()["rows"])
                for variant in shard.keys():  # noqa: SIM118 (no mapping)
                    for row, (name, label) in enumerate(rows):
                        if name in places:
                            lines[name, label, variant] = path.name, row
        with whole_file(self.folder / _INDEX) as file:
            table = TableWriter(file)
            table.writerow(_COLUMNS)
            for key in sorted(lines, key=lambda key: (places[key[0]], key[1:])):
                name, label, variant = key
                table.writerow([name, label, class_names[label], variant, *lines[key]])


class SavedMaps(Mapping[Key, Float[np.ndarray, "c H W"]]):
    """Maps that a run has written, each read when it is asked for.

    Args:
        folder: The run's folder `maps`.

    Raises:
        BadData: there is no index.

    Example:
        maps = SavedMaps("runs/…/maps")
        for sample_id, label, variant in maps:
            array = maps[sample_id, label, variant]  # float32 [c, H, W], raw and signed
    """

    def __init__(self, folder: str | Path) -> None:
        self.folder = Path(folder)
        index = self.folder / _INDEX
        if not index.is_file():
            raise BadData(f"'{index}' does not exist; give the folder maps of a finished run.")
        with index.open(newline="", encoding="utf-8") as file:
            self._places = {
                (plain_cell(line["id"]), int(line["class"]), line["variant"]): (
                    line["shard"],
                    int(line["row"]),
                )
                for line in csv.DictReader(file)
            }

    def __getitem__(self, key: Key) -> Float[np.ndarray, "c H W"]:
        name, row = self._places[key]
        with safe_open(self.folder / name, "np") as shard:
            values: Float[np.ndarray, "c H W"] = shard.get_slice(key[2])[row]
        return values

    def __iter__(self) -> Iterator[Key]:
        return iter(self._places)

    def __len__(self) -> int:
        return len(self._places)


def cannot_write(folder: Path, error: Exception) -> CannotWrite:
    """What to do where maps or their pictures cannot be written."""
    return CannotWrite(
        f"cannot write maps to {folder} ({error}); make room, or set maps=false. What is done is "
        "kept, and the same command goes on from there."
    )
