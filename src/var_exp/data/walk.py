"""What lies below a folder: regular files, through links, in order; the rest is counted."""

import os
from collections import Counter
from collections.abc import Iterator
from pathlib import Path


def regular_files(folder: Path, passed_over: Counter[str] | None = None) -> list[Path]:
    """All files below a folder, sorted by path; hidden ones do not count.

    Linked files and folders are followed, as torchvision does. A link to nowhere is listed, since
    reading it says what is wrong.

    Args:
        folder: Where to look.
        passed_over: Takes what is left aside and how often: pipes, sockets and devices, which
            would be waited for for ever; links that lead back into a folder around them; folders
            that may not be read.
    """
    counts = Counter[str]() if passed_over is None else passed_over
    return sorted(_walk(folder, (_identity(folder),), counts))


def _walk(
    folder: Path, around: tuple[tuple[int, int], ...], counts: Counter[str]
) -> Iterator[Path]:
    try:
        entries = sorted(os.scandir(folder), key=lambda entry: entry.name)
    except OSError as error:
        counts[f"folders that cannot be read ({error.strerror})"] += 1
        return
    for entry in entries:
        path = folder / entry.name
        if entry.name.startswith("."):
            continue
        if entry.is_dir():
            identity = _identity(path)
            if identity in around:
                counts["links back into a folder around them"] += 1
            else:
                yield from _walk(path, (*around, identity), counts)
        elif entry.is_file() or (entry.is_symlink() and not path.exists()):
            yield path
        else:
            counts["pipes and devices"] += 1


def _identity(folder: Path) -> tuple[int, int]:
    told = folder.stat()
    return told.st_dev, told.st_ino
