"""The maps of a run on disk: one typed file for each batch, and an index over all of them.

A batch's file is written whole before its scores are, under a name that its samples decide. So
memory holds one batch, several processes do not meet, and a run that goes on after an interruption
replaces what it makes again. The index is made of the files at the end.
`var_exp.methods.map_files` reads them.
"""

import json
import os
from collections.abc import Collection, Mapping, Sequence
from hashlib import blake2b
from pathlib import Path

from jaxtyping import Int
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file
from torch import Tensor

from var_exp.files import whole_file
from var_exp.methods.map_files import INDEX, Key
from var_exp.text import TableWriter
from var_exp.types import BadData, CannotWrite, Maps

_COLUMNS = ["id", "class", "name", "variant", "shard", "row"]


class MapWriter:
    """Writes maps batch by batch; each process has one.

    Args:
        folder: Takes the files; made when it does not exist.
    """

    def __init__(self, folder: Path) -> None:
        self.folder = folder

    def write(
        self, ids: Sequence[str], classes: Int[Tensor, "B K"], maps: Mapping[str, Maps]
    ) -> None:
        """Write the maps of every variant: float32 [n, c, H, W], raw and signed.

        Args:
            ids: B sample ids.
            classes: [B, K].
            maps: Variant -> [B, k, c, H, W], of the first k <= K classes.

        Raises:
            CannotWrite: the disk is full, or the folder cannot be written.
        """
        path = self.folder / f"{blake2b(repr(tuple(ids)).encode(), digest_size=8).hexdigest()}"
        # class by class, so that the rows of a variant of fewer classes are the first of these
        rows = [
            (name, label)
            for labels in classes.T.tolist()
            for name, label in zip(ids, labels, strict=True)
        ]
        tensors = {
            variant: values.transpose(0, 1).flatten(0, 1).float().cpu().contiguous()
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
            for key, row in _rows(path):
                if key[0] in places:
                    lines[key] = path.name, row
        with whole_file(self.folder / INDEX) as file:
            table = TableWriter(file)
            table.writerow(_COLUMNS)
            for key in sorted(lines, key=lambda key: (places[key[0]], key[1:])):
                name, label, variant = key
                table.writerow([name, label, class_names[label], variant, *lines[key]])


def _rows(path: Path) -> list[tuple[Key, int]]:
    """Where each map of a shard is.

    Raises:
        BadData: the shard was damaged since it was written.
    """
    try:
        with safe_open(path, "np") as shard:
            rows = json.loads(shard.metadata()["rows"])
            return [
                ((name, label, variant), row)
                for variant in shard.keys()  # noqa: SIM118 (no mapping)
                for row, (name, label) in enumerate(rows[: shard.get_slice(variant).get_shape()[0]])
            ]
    except Exception as error:  # damage brings any
        raise BadData(
            f"the maps in '{path}' were damaged since they were written ({error}); remove the "
            "folder of this run, and give the command again."
        ) from error


def cannot_write(folder: Path, error: Exception) -> CannotWrite:
    """What to do where maps or their pictures cannot be written."""
    return CannotWrite(
        f"cannot write maps to {folder} ({error}); make room, or set maps=false. What is done is "
        "kept, and the same command goes on from there."
    )
