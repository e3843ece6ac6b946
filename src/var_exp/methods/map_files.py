"""Maps that lie in a folder, found by sample, class and variant, each read when it is asked for.

Three layouts; nothing in any of them is unpickled:

    a run's folder `maps`   index.csv (id, class, variant, shard, row) and .safetensors files
    .npy files              the same index.csv, in which `variant` may be missing; [n, c, H, W] each
    .npz files              no index: each holds `ids` [n], `classes` [n] and `maps` [n, c, H, W]
"""

import csv
import zipfile
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import IO, Any, TypeAlias

import numpy as np
from jaxtyping import Float
from safetensors import safe_open

from var_exp.text import first_line, plain_cell
from var_exp.types import BadData
from var_exp.variants import BASE

Key: TypeAlias = tuple[str, int, str]
"""Sample id, class number, variant."""

INDEX = "index.csv"
"""File that says where each map is."""

_MOST = 2**32  # bytes in one .npz file, which is held in memory


class SavedMaps(Mapping[Key, Float[np.ndarray, "c H W"]]):
    """Maps that a run, or another tool, has written; those of another tool are the variant "base".

    The latest .npz file is kept in memory, so that neighbours in it are read once.

    Args:
        folder: A run's folder `maps`, or a folder with .npz files, or with .npy files and an
            index.csv.

    Raises:
        BadData: there is nothing of the kind, or a file that is damaged, lacks an array, holds
            Python objects or arrays of other shapes, or a map that is there twice.

    Example:
        maps = SavedMaps("runs/…/maps")
        for sample_id, label, variant in maps:
            array = maps[sample_id, label, variant]  # float32 [c, H, W], raw and signed
    """

    def __init__(self, folder: str | Path) -> None:
        self.folder = Path(folder)
        self._places: dict[Key, tuple[str, int]] = {}
        self._latest: tuple[str, np.ndarray] = ("", np.empty(0))
        archives = sorted(self.folder.glob("*.npz"))
        if (self.folder / INDEX).is_file():
            self._read_index()
        elif archives:
            for path in archives:
                self._read_keys(path)
        else:
            raise BadData(
                f"'{self.folder}' holds neither {INDEX} nor .npz files; give the folder maps of a "
                "finished run, or maps in a layout of docs/own.md."
            )

    def __getitem__(self, key: Key) -> Float[np.ndarray, "c H W"]:
        name, row = self._places[key]
        path = self.folder / name
        try:
            values = self._row(path, key[2], row)
        except Exception as error:  # a damaged file brings any
            raise _damaged(path, error) from error
        _check_maps(path, values.dtype, (1, *values.shape))
        return values.astype(np.float32)

    def __iter__(self) -> Iterator[Key]:
        return iter(self._places)

    def __len__(self) -> int:
        return len(self._places)

    def files(self) -> list[Path]:
        """Every file that maps come from, and the index."""
        shards = {name for name, _ in self._places.values()}
        index = [INDEX] if (self.folder / INDEX).is_file() else []
        return [self.folder / name for name in sorted([*shards, *index])]

    def _row(self, path: Path, variant: str, row: int) -> np.ndarray:
        if path.suffix == ".safetensors":
            with safe_open(path, "np") as shard:
                values: np.ndarray = shard.get_slice(variant)[row]
            return values
        if path.suffix == ".npy":
            return np.asarray(np.load(path, mmap_mode="r", allow_pickle=False)[row])
        if self._latest[0] != path.name:
            with zipfile.ZipFile(path) as archive:
                self._latest = path.name, _member(archive, "maps")
        return np.asarray(self._latest[1][row])

    def _read_index(self) -> None:
        path = self.folder / INDEX
        try:
            with path.open(newline="", encoding="utf-8-sig") as file:
                self._read_lines(path, csv.DictReader(file))
        except (OSError, UnicodeDecodeError, csv.Error) as error:
            raise _damaged(path, error) from error
        for name in sorted({name for name, _ in self._places.values()}):
            shard = self.folder / name
            if Path(name).name != name or shard.suffix not in (".npy", ".safetensors"):
                raise BadData(f"'{path}' names '{name}', which is no .npy file of its folder.")
            if not shard.is_file():
                raise BadData(f"'{path}' names '{name}', which is not there; write it again.")
            if shard.suffix == ".npy":
                with shard.open("rb") as file:
                    _check_head(shard, file)

    def _read_lines(self, path: Path, lines: "csv.DictReader[str]") -> None:
        lacking = {"id", "class", "shard", "row"} - set(lines.fieldnames or ())
        if lacking:
            raise BadData(f"'{path}' lacks the column {sorted(lacking)[0]}; see docs/own.md.")
        for line in lines:
            try:
                if None in line.values():
                    raise ValueError("it is too short")
                label, row = int(line["class"]), int(line["row"])
                if row < 0:
                    raise ValueError(f"row {row}")
            except (TypeError, ValueError) as error:
                raise BadData(
                    f"line {lines.line_num} of '{path}' is no place of a map ({error})."
                ) from error
            variant = line.get("variant") or BASE
            self._add((plain_cell(line["id"]), label, variant), line["shard"], row)

    def _read_keys(self, path: Path) -> None:
        """Ids and classes of one .npz file; of the maps the head alone."""
        try:
            with zipfile.ZipFile(path) as archive:
                for name in ("ids", "classes", "maps"):
                    if f"{name}.npy" not in archive.namelist():
                        raise BadData(
                            f"'{path}' lacks the array '{name}'; save ids, classes and maps."
                        )
                if (size := sum(member.file_size for member in archive.infolist())) > _MOST:
                    raise BadData(
                        f"'{path}' holds {size / 2**30:.0f} GiB, and is read into memory; save "
                        "its maps in several files, or as .npy."
                    )
                ids, classes = _member(archive, "ids"), _member(archive, "classes")
                with archive.open("maps.npy") as file:
                    shape = _check_head(path, file)
        except BadData:
            raise
        except Exception as error:  # a damaged file brings any
            raise _damaged(path, error) from error
        if ids.shape != shape[:1] or classes.shape != shape[:1]:
            raise BadData(
                f"'{path}' must hold one id and one class per map, got ids {list(ids.shape)} and "
                f"classes {list(classes.shape)} for maps {list(shape)}."
            )
        if ids.dtype.kind != "U" or classes.dtype.kind not in "iu":
            raise BadData(
                f"'{path}' must hold ids as text and classes as integers, got {ids.dtype} and "
                f"{classes.dtype}."
            )
        for row, (name, label) in enumerate(zip(ids.tolist(), classes.tolist(), strict=True)):
            self._add((name, label, BASE), path.name, row)

    def _add(self, key: Key, shard: str, row: int) -> None:
        if key in self._places:
            raise BadData(
                f"'{self.folder}' holds two maps of class {key[1]} of '{key[0]}', in "
                f"{self._places[key][0]} and {shard}; keep one."
            )
        self._places[key] = shard, row


def _member(archive: zipfile.ZipFile, name: str) -> np.ndarray:
    """One array of an .npz file."""
    with archive.open(f"{name}.npy") as file:
        found: np.ndarray = np.lib.format.read_array(file, allow_pickle=False)
    return found


def _check_head(path: Path, file: IO[bytes]) -> tuple[int, ...]:
    """Shape of an array [n, c, H, W] of floats, of which nothing but the head is read."""
    heads = {
        (1, 0): np.lib.format.read_array_header_1_0,
        (2, 0): np.lib.format.read_array_header_2_0,
    }
    try:
        shape, _, dtype = heads[np.lib.format.read_magic(file)](file)
    except Exception as error:  # a damaged file brings any
        raise _damaged(path, error) from error
    _check_maps(path, dtype, shape)
    found: tuple[int, ...] = shape
    return found


def _check_maps(path: Path, dtype: np.dtype[Any], shape: tuple[int, ...]) -> None:
    if dtype.kind != "f" or len(shape) != 4:
        kind = "Python objects, which are never loaded" if dtype.hasobject else str(dtype)
        raise BadData(
            f"'{path}' must hold maps as floats [n, c, H, W], got {kind} {list(shape)}; a map of "
            "one channel has c = 1."
        )


def _damaged(path: Path, error: Exception) -> BadData:
    if "allow_pickle" in str(error):
        return BadData(
            f"'{path}' holds Python objects, which are never loaded; save ids as text, classes as "
            "integers and maps as floats."
        )
    return BadData(f"'{path}' cannot be read ({first_line(error)}); write it again.")
