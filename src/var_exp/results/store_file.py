"""The SQLite file of a store: whose it is, of which layout, and whether it still holds what it did.

A file that another program made is neither used nor removed. Each sample has a checksum over all
that is known of it, so that a flipped bit ends in a sentence and not in another score.
"""

import sqlite3
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from hashlib import blake2b
from pathlib import Path
from typing import TypeAlias

from var_exp.types import BadData, CannotWrite, ConfigError

Line: TypeAlias = tuple[object, ...]

TABLES = ("scores", "details", "facts", "samples")
"""In the order of writing; samples come last, since they say what is done."""

_APPLICATION = 0x76_61_72_78  # "varx", in the head of the file
_LAYOUT = 2  # of the tables; a change of them takes the next number
_WAIT_SECONDS = 2.0  # for a lock, such as that of a process that is just being killed
_CREATE = """
CREATE TABLE samples (place INTEGER PRIMARY KEY, id TEXT NOT NULL, checksum BLOB NOT NULL);
CREATE TABLE scores (
    place INTEGER, number INTEGER, class INTEGER NOT NULL, metric TEXT NOT NULL,
    variant TEXT NOT NULL, role TEXT NOT NULL, of TEXT NOT NULL, score REAL, flags TEXT NOT NULL,
    PRIMARY KEY (place, number)
) WITHOUT ROWID;
CREATE TABLE details (
    place INTEGER, number INTEGER, name TEXT, numbers BLOB NOT NULL,
    PRIMARY KEY (place, number, name)
);
CREATE TABLE facts (
    place INTEGER, number INTEGER, name TEXT NOT NULL, value REAL, PRIMARY KEY (place, number)
) WITHOUT ROWID;
"""
_KEYS = {"scores": "place, number", "details": "place, number, name", "facts": "place, number"}
_NO_ROOM = ("full", "readonly", "unable to open", "disk i/o")  # what SQLite says of the disk


def opened(path: Path) -> sqlite3.Connection:
    """Open a store's file and lock it; a new one gets its tables.

    Raises:
        ConfigError: another process is at work on it.
        BadData: it is another program's, of another layout, or damaged.
        CannotWrite: the disk is full, or the folder cannot be written.
    """
    if path.exists() and not path.is_file():
        raise BadData(f"{path} is no file; remove it, or choose another hydra.run.dir.")
    with explained(path):
        connection = sqlite3.connect(path, timeout=_WAIT_SECONDS, isolation_level=None)
        try:
            # Exclusive before the first access: then no shared memory, and network disks do
            connection.execute("PRAGMA locking_mode = EXCLUSIVE")
            new = _check_whose(connection, path)
            connection.execute("PRAGMA journal_mode = WAL")
            connection.execute("PRAGMA synchronous = FULL")  # a commit waits for the disk
            head = f"PRAGMA application_id = {_APPLICATION}; PRAGMA user_version = {_LAYOUT};"
            connection.executescript(f"BEGIN EXCLUSIVE; {head + _CREATE if new else ''} COMMIT;")
        except BaseException:
            connection.close()
            raise
    return connection


def _check_whose(connection: sqlite3.Connection, path: Path) -> bool:
    """Whether a file is new; refuse it when it is not ours."""
    application, layout, tables = (
        connection.execute(query).fetchone()[0]
        for query in (
            "PRAGMA application_id",
            "PRAGMA user_version",
            "SELECT count(*) FROM sqlite_master",
        )
    )
    if (application, layout, tables) == (0, 0, 0):
        return True
    if (application, layout) == (_APPLICATION, _LAYOUT):
        return False
    if application == _APPLICATION or _is_old(connection):
        raise BadData(
            f"{path} was written by another version of var_exp; go back to that to finish the run, "
            "or remove it, and its samples are scored again."
        )
    raise BadData(
        f"{path} is another program's database and stays as it is; choose another hydra.run.dir."
    )


def _is_old(connection: sqlite3.Connection) -> bool:
    """Whether a file is a store of the time before files said whose they are."""
    names = connection.execute("SELECT name FROM sqlite_master WHERE type = 'table'")
    return {*TABLES} <= {name for (name,) in names}


@contextmanager
def explained(path: Path) -> Iterator[None]:
    """What SQLite says, as a sentence of ours."""
    try:
        yield
    except (sqlite3.Error, UnicodeError) as error:
        text = str(error).lower()
        if "locked" in text:
            raise ConfigError(
                f"another process is at work in {path.parent}; wait for it or end it, or choose "
                "another hydra.run.dir."
            ) from error
        if isinstance(error, sqlite3.OperationalError) and any(word in text for word in _NO_ROOM):
            raise CannotWrite(
                f"cannot write {path} ({error}); make room or give another hydra.run.dir. What is "
                "done is kept, and the same command goes on from there."
            ) from error
        raise _damaged(path, str(error)) from error


def checksums(lines: Mapping[str, Iterable[Line]], ids: Mapping[int, str]) -> dict[int, bytes]:
    """Checksum of all that is known of each sample, by its place.

    Args:
        lines: As they go into each table, the place first, in the order of its key.
        ids: Sample id by place.

    Raises:
        KeyError: a line is of a sample that has no id.
    """
    digests = {place: blake2b(repr(id).encode(), digest_size=16) for place, id in ids.items()}
    for table in _KEYS:
        for place, *rest in lines[table]:
            digests[place].update(repr((table, *rest)).encode())  # type: ignore[index]
    return {place: digest.digest() for place, digest in digests.items()}


def verify(connection: sqlite3.Connection, path: Path, places: Mapping[str, int]) -> None:
    """Compare every sample with its checksum.

    Args:
        connection: An open store.
        path: Its file.
        places: Place in the data set, by sample id.

    Raises:
        BadData: one differs, or is none of the data's.
    """
    known: dict[int, object] = {}
    ids: dict[int, str] = {}
    with explained(path):
        for place, id, checksum in connection.execute("SELECT * FROM samples"):
            if places.get(str(id)) != place:
                raise _damaged(path, f"sample {str(id)[:60]!r} is none of these data")
            known[place], ids[place] = checksum, str(id)
        lines = {
            table: connection.execute(f"SELECT * FROM {table} ORDER BY {key}")
            for table, key in _KEYS.items()
        }
        try:
            found = checksums(lines, ids)
        except KeyError as error:
            raise _damaged(path, "it has scores of a sample that is not done") from error
    for place, checksum in found.items():
        if checksum != known[place]:
            raise _damaged(path, f"sample {ids[place][:60]!r} does not fit its checksum")


def remove(path: Path) -> None:
    """Remove a store's file and what SQLite keeps beside it."""
    for file in (path, Path(f"{path}-wal"), Path(f"{path}-shm")):
        file.unlink(missing_ok=True)


def stored(value: float | None) -> float | None:
    """A number as SQLite gives it back: it has no NaN and no negative zero."""
    return None if value is None or value != value else float(value) + 0.0


def _damaged(path: Path, reason: str) -> BadData:
    return BadData(f"{path} is damaged ({reason}); remove it, and its samples are scored again.")
