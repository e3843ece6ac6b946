"""Files that appear whole, so that a killed run never leaves half of one; and what is no file."""

import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TextIO


@contextmanager
def whole_file(path: Path) -> Iterator[TextIO]:
    """Open a text file for writing; it takes its name when all of it is on the disk.

    A file of that name is replaced at the end, and stays as it is when something fails before.
    """
    draft = path.with_name(f"{path.name}.part")
    try:
        with draft.open("w", newline="", encoding="utf-8") as file:
            yield file
            file.flush()
            os.fsync(file.fileno())
    except BaseException:
        draft.unlink(missing_ok=True)
        raise
    draft.replace(path)


def write_whole(path: Path, text: str) -> None:
    """Write a text file in one piece, see `whole_file`."""
    with whole_file(path) as file:
        file.write(text)


def no_file(path: Path) -> str | None:
    """What is at a path in place of a file, such as a pipe, on which one waits; None for a file."""
    if not path.exists():
        return "it does not exist"
    if path.is_dir():
        return "it is a folder"
    return None if path.is_file() else "it is a device or a pipe, no file"
