"""What becomes of pictures that cannot be read: `data.on_error=skip` or `fail`; never silence.

A data set looks at the heads of its files before the run (`unreadable`), and reads each sample
within `marked_unreadable`. What it then cannot read is left out by the loader (`Unreadable`), or
ends the run (`BadData`). At the end of a run `not_scored` names every sample that has no score.
"""

import io
from collections.abc import Iterator, Mapping, Sequence
from collections.abc import Set as AbstractSet
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Literal, TypeAlias

from var_exp.data.pictures import check_header
from var_exp.files import whole_file
from var_exp.text import TableWriter, without_folders
from var_exp.types import BadData, Sample, SampleDataset, Unreadable

OnError: TypeAlias = Literal["skip", "fail"]

_HEAD = 2**14  # bytes that tell what most files are
_READERS = 16  # at once, since a network disk takes its time for each


def unreadable(files: Sequence[Path], on_error: OnError) -> dict[Path, str]:
    """Find the files whose head is not that of a readable picture; costs one short read each.

    Returns:
        Why, by file; the other files can still turn out to be cut off or broken inside.

    Raises:
        BadData: `on_error` is "fail" and there are some, or none of the files is readable.
    """
    reasons: dict[Path, str] = {}
    with ThreadPoolExecutor(_READERS) as readers:
        for file, head in zip(files, readers.map(_head, files), strict=True):
            with suppress(BadData):
                check_header(io.BytesIO(head))
                continue
            try:
                check_header(file)  # its head is longer, or it is what it seemed
            except BadData as error:
                reasons[file] = str(error)
    if reasons and (on_error == "fail" or len(reasons) == len(files)):
        advice = "" if on_error == "skip" else " Or leave such files out: data.on_error=skip."
        first = next(iter(reasons.values()))
        raise BadData(f"{len(reasons)} of {len(files)} pictures are unreadable: {first}{advice}")
    return reasons


@contextmanager
def marked_unreadable(on_error: OnError) -> Iterator[None]:
    """Read one sample within this: where bad files are to be skipped, `Unreadable` says so.

    Raises:
        Unreadable: in place of `BadData` when `on_error` is "skip".
    """
    try:
        yield
    except BadData as error:
        if on_error == "skip":
            raise Unreadable(str(error)) from error
        raise BadData(f"{error} Or go on without such files: data.on_error=skip.") from error


def first_readable(dataset: SampleDataset) -> Sample:
    """Read the first sample that can be read.

    Raises:
        BadData: there is none, or the first unreadable one ends the run.
    """
    reason = "it is empty"
    for index in range(len(dataset)):
        try:
            return dataset[index]
        except Unreadable as error:
            reason = str(error)
    raise BadData(f"no sample of the data can be read; the last one: {reason}")


def not_scored(dataset: SampleDataset, scored: AbstractSet[str]) -> dict[str, str]:
    """Why the samples without a score have none, by sample id; they are read once more for that."""
    reasons: dict[str, str] = {}
    for index in range(len(dataset)):
        name = dataset.sample_id(index)
        if name not in scored:
            try:
                dataset[index]
            except BadData as error:
                reasons[name] = str(error)
            else:
                reasons[name] = "it could not be read during the run, but now; run again"
    return reasons


def write_skipped(path: Path, reasons: Mapping[str, str], total: int) -> str:
    """Write ids and reasons of all that was left out as CSV; returns the short of it."""
    with whole_file(path) as file:
        table = TableWriter(file)
        table.writerow(["id", "reason"])
        table.writerows((name, without_folders(reason)) for name, reason in reasons.items())
    first = ", ".join(list(reasons)[:3]) + (", …" if len(reasons) > 3 else "")
    return f"{len(reasons)} of {total}: {first}; reasons in {path.name}"


def _head(file: Path) -> bytes:
    try:
        if not file.is_file():  # opening a pipe would wait for ever
            return b""
        with file.open("rb") as opened:
            return opened.read(_HEAD)
    except OSError:
        return b""
