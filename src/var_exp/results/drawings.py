"""The pictures that a run draws of its samples: one each that can stand alone, and a small one.

    pictures/<name>.png     the maps as people see them
    thumbnails/<name>.jpg   to be shown beside others; its comment is the sentence that it answers

A name is that of the sample without its ending; where that is the name of another one too, such as
of a.jpg beside a.png, both keep theirs.
"""

from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from hashlib import blake2b
from pathlib import Path, PurePosixPath
from typing import IO

from PIL import Image

from var_exp.data.pictures import SUFFIXES
from var_exp.results.saved_maps import cannot_write

_PICTURES, _THUMBNAILS = "pictures", "thumbnails"
_LONGEST = 200  # bytes of a file's name


@dataclass(frozen=True)
class Drawing:
    """What was drawn of one sample.

    Attributes:
        sample_id: Which.
        sentence: What it answers.
        picture: Its file, seen from the folder of the run.
        thumbnail: The small picture: the bytes of a JPEG file.
    """

    sample_id: str
    sentence: str
    picture: PurePosixPath
    thumbnail: bytes


class Drawings:
    """Pictures of samples on disk; each process has one.

    Args:
        folder: Of the run's maps, in the folder of the run; made when it does not exist.
        ids: All samples of the run, which decide the names of the files.
    """

    def __init__(self, folder: Path, ids: Sequence[str]) -> None:
        self.folder = folder
        self._names = _file_names(ids)

    def write(
        self, sample_id: str, picture: Image.Image, thumbnail: Image.Image, sentence: str
    ) -> None:
        """Write the pictures of one sample.

        Raises:
            CannotWrite: the disk is full, or the folder cannot be written.
        """
        large, small = self._files(sample_id)
        try:
            for file in (large, small):
                file.parent.mkdir(parents=True, exist_ok=True)
            write_drawing(picture, thumbnail, sentence, large, small)
        except OSError as error:
            raise cannot_write(self.folder, error) from error

    def found(self, ids: Sequence[str]) -> Iterator[Drawing]:
        """What was drawn of some of the samples, in their order; those without are passed over."""
        for name in ids:
            large, small = self._files(name)
            if large.is_file() and small.is_file():
                with Image.open(small) as opened:
                    sentence = opened.info.get("comment", b"").decode()
                place = PurePosixPath(large.relative_to(self.folder.parent).as_posix())
                yield Drawing(name, sentence, place, small.read_bytes())

    def _files(self, sample_id: str) -> tuple[Path, Path]:
        name = self._names[sample_id]
        return (
            self.folder / _PICTURES / f"{name}.png",
            self.folder / _THUMBNAILS / f"{name}.jpg",
        )


def write_drawing(
    picture: Image.Image,
    thumbnail: Image.Image,
    sentence: str,
    large: Path | IO[bytes],
    small: Path | IO[bytes],
) -> None:
    """Write the pictures of one sample to two files."""
    picture.save(large, "PNG", compress_level=1)  # a third of the time, a tenth larger
    thumbnail.save(small, "JPEG", quality=80, comment=sentence.encode())


def _file_names(ids: Sequence[str]) -> dict[str, str]:
    """A name for each sample, without ending where that tells it from all others."""
    whole = {name: _on_disk(name) for name in ids}
    bare = {name: _on_disk(_without_ending(name)) for name in ids}
    # disks may not tell capitals from small letters
    taken = Counter(name.lower() for name in bare.values())
    kept = {name.lower() for name in whole.values()}
    return {
        name: short if taken[short.lower()] == 1 and short.lower() not in kept else whole[name]
        for name, short in bare.items()
    }


def _without_ending(sample_id: str) -> str:
    path = PurePosixPath(sample_id)
    return str(path.with_suffix("")) if path.suffix.lower() in SUFFIXES else sample_id


def _on_disk(sample_id: str) -> str:
    """A path below a folder, one for each id, with no part that a disk would refuse."""
    parts = [part for part in PurePosixPath(sample_id).parts if part not in ("/", "..")]
    return "/".join(map(_short, parts))


def _short(part: str) -> str:
    content = part.encode()
    if len(content) <= _LONGEST:
        return part
    start = content[: _LONGEST - 20].decode(errors="ignore")
    return f"{start}~{blake2b(content, digest_size=8).hexdigest()}"
