"""Where a run keeps what it has measured: one SQLite file per process, committed batch by batch.

All that is known of a sample is committed in one transaction and is on the disk when the next batch
begins. So a sample is either done or not, wherever a run is killed, and what is reported at the end
comes from here alone: it does not depend on batches, processes or interruptions.

The first process owns `store.sqlite`; the others write `store.rank<N>.sqlite`, which the first one
absorbs when they are done, and when a run is started again. SQLite's lock keeps a second run out
and dies with its process.
"""

import sqlite3
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from functools import cached_property
from pathlib import Path
from types import TracebackType
from typing import Any, Self, TypeAlias

import numpy as np
from jaxtyping import Float, Int

from var_exp.results.batch_scores import BatchScores
from var_exp.results.rows import Row
from var_exp.types import BadData, CannotWrite, ConfigError
from var_exp.variants import Variant, read_variant

_TABLES = """
CREATE TABLE IF NOT EXISTS samples (place INTEGER PRIMARY KEY, id TEXT NOT NULL);
CREATE TABLE IF NOT EXISTS scores (
    place INTEGER, number INTEGER, class INTEGER NOT NULL, metric TEXT NOT NULL,
    variant TEXT NOT NULL, role TEXT NOT NULL, of TEXT NOT NULL, score REAL, flags TEXT NOT NULL,
    PRIMARY KEY (place, number)
) WITHOUT ROWID;
CREATE TABLE IF NOT EXISTS details (
    place INTEGER, number INTEGER, name TEXT, numbers BLOB NOT NULL,
    PRIMARY KEY (place, number, name)
);
CREATE TABLE IF NOT EXISTS facts (
    place INTEGER, number INTEGER, name TEXT NOT NULL, value REAL, PRIMARY KEY (place, number)
) WITHOUT ROWID;
"""
_NAMES = ("scores", "details", "facts", "samples")  # samples last: they say what is done
_WAIT_SECONDS = 2.0  # for a lock, such as that of a process that is just being killed

Measured: TypeAlias = tuple[str, Variant]
"""Metric and variant."""


class Store:
    """Samples of a run that are done, with all that is reported of them.

    Args:
        folder: The run's folder; None keeps everything in memory.
        ids: Sample ids of the data set, in its order.
        rank: Number of the process.

    Raises:
        BadData: two samples have the same id.
    """

    def __init__(self, folder: Path | None, ids: Sequence[str], rank: int = 0) -> None:
        self.folder = folder
        self.rank = rank
        self._places = {id: place for place, id in enumerate(ids)}
        if len(self._places) < len(ids):
            twice = next(id for place, id in enumerate(ids) if self._places[id] != place)
            raise BadData(f"two samples have the id '{twice}'; give each a name of its own.")

    def __len__(self) -> int:
        """Samples of the data set."""
        return len(self._places)

    @property
    def path(self) -> Path:
        """File of this process."""
        name = f"store.rank{self.rank}.sqlite" if self.rank else "store.sqlite"
        return Path(":memory:") if self.folder is None else self.folder / name

    def commit(self, scored: BatchScores) -> None:
        """Put all that is known of some samples on the disk, or none of it.

        Raises:
            CannotWrite: the disk is full, or the folder cannot be written.
        """
        numbers = dict.fromkeys((self._places[id] for id in scored.ids), 0)
        keys, variants = [], [row.variant for row in scored.rows]
        for row in scored.rows:
            place = self._places[row.sample_id]
            keys.append((place, numbers[place]))
            numbers[place] += 1
        lines: dict[str, list[tuple[object, ...]]] = {
            "scores": [
                (*key, row.class_index, row.metric, v.name, v.role, v.of, row.score, row.flags)
                for key, row, v in zip(keys, scored.rows, variants, strict=True)
            ],
            "details": [
                (*keys[row], name, values.astype("<f4").tobytes())
                for row, name, values in scored.details
            ],
            "facts": [
                (self._places[id], number, name, value)
                for number, (id, name, value) in enumerate(scored.facts)
            ],
            "samples": [(self._places[id], id) for id in scored.ids],
        }
        with self._transaction():
            for table in _NAMES:
                if lines[table]:
                    marks = ", ".join("?" * len(lines[table][0]))
                    self._open.executemany(f"INSERT INTO {table} VALUES ({marks})", lines[table])

    def absorb(self) -> None:
        """Take over what the other processes have written, and remove their files.

        Raises:
            ConfigError: one of them is still at work.
            BadData: one of the files is damaged.
            CannotWrite: the disk is full.
        """
        if self.folder is None:
            return
        for part in sorted(self.folder.glob("store.rank*.sqlite")):
            with self._explained(part):
                self._open.execute("ATTACH ? AS part", (str(part),))
            try:
                with self._explained(part), self._transaction():
                    if self._open.execute("SELECT count(*) FROM part.sqlite_master").fetchone()[0]:
                        for table in _NAMES:
                            self._open.execute(
                                f"INSERT INTO main.{table} SELECT * FROM part.{table} "
                                "WHERE place NOT IN (SELECT place FROM main.samples)"
                            )
            finally:
                self._open.execute("DETACH part")
            _remove(part)

    def done(self) -> set[int]:
        """Places in the data set of the samples that are done."""
        return {place for (place,) in self._read("SELECT place FROM samples")}

    def metrics(self) -> list[str]:
        """Names of the metrics, sorted."""
        return [name for (name,) in self._read("SELECT DISTINCT metric FROM scores ORDER BY 1")]

    def rows(self, metric: str | None = None) -> Iterator[Row]:
        """Score rows in the order of the data set, of one metric or of all."""
        chosen = "" if metric is None else "WHERE metric = ?"
        lines = self._read(
            "SELECT id, class, metric, variant, role, of, score, flags FROM scores JOIN samples "
            f"USING (place) {chosen} ORDER BY place, number",
            *([] if metric is None else [metric]),
        )
        for id, index, metric, name, role, of, score, flags in lines:
            variant = read_variant(name, role, of)
            # SQLite has no NaN, and keeps it as NULL
            yield Row(id, index, metric, variant, float("nan") if score is None else score, flags)

    def means(self, detail: str) -> dict[Measured, Float[np.ndarray, " n"]]:
        """Mean of one detail over all rows, each number of what is defined; float64, flattened.

        Rows that differ in length have no mean, and are left out.
        """
        sums: dict[Measured, Float[np.ndarray, " n"]] = {}
        counts: dict[Measured, Int[np.ndarray, " n"]] = {}
        ragged: set[Measured] = set()
        lines = self._read(
            "SELECT metric, variant, role, of, numbers FROM details "
            "JOIN scores USING (place, number) WHERE name = ? ORDER BY place, number",
            detail,
        )
        for metric, name, role, of, numbers in lines:
            values = np.frombuffer(numbers, "<f4").astype(np.float64)
            key, defined = (metric, read_variant(name, role, of)), ~np.isnan(values)
            if len(sums.setdefault(key, np.zeros_like(values))) != len(values):
                ragged.add(key)
                continue
            sums[key][defined] += values[defined]
            counts.setdefault(key, np.zeros(values.shape, dtype=int))[defined] += 1
        return {
            key: np.where(counts[key] > 0, total / np.maximum(counts[key], 1), np.nan)
            for key, total in sums.items()
            if key not in ragged
        }

    def facts(self, name: str) -> Float[np.ndarray, " n"]:
        """All values of one fact, in the order of the data set; empty when nobody noted it."""
        lines = self._read("SELECT value FROM facts WHERE name = ? ORDER BY place, number", name)
        return np.array([np.nan if value is None else value for (value,) in lines], dtype=float)

    def close(self) -> None:
        """Let go of the file; it stays."""
        if "_open" in self.__dict__:
            self._open.close()
            del self._open

    def remove(self) -> None:
        """Close and remove the file, when all that it holds has been reported."""
        self.close()
        _remove(self.path)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.close()

    @cached_property
    def _open(self) -> sqlite3.Connection:
        """The connection, opened and locked when it is first needed."""
        with self._explained(self.path):
            connection = sqlite3.connect(self.path, timeout=_WAIT_SECONDS, isolation_level=None)
            try:
                # Exclusive before the first access: then no shared memory, and network disks do
                connection.execute("PRAGMA locking_mode = EXCLUSIVE")
                connection.execute("PRAGMA journal_mode = WAL")
                connection.execute("PRAGMA synchronous = FULL")  # a commit waits for the disk
                connection.executescript(f"BEGIN EXCLUSIVE; {_TABLES} COMMIT;")
            except BaseException:
                connection.close()
                raise
        return connection

    def _read(self, query: str, *given: object) -> Iterable[tuple[Any, ...]]:
        with self._explained(self.path):
            return self._open.execute(query, given)

    @contextmanager
    def _transaction(self) -> Iterator[None]:
        """All of the writes within, or none of them."""
        with self._explained(self.path):
            self._open.execute("BEGIN")
            try:
                yield
                self._open.execute("COMMIT")
            except BaseException:
                if self._open.in_transaction:  # a full disk has rolled back already
                    self._open.execute("ROLLBACK")
                raise

    @contextmanager
    def _explained(self, path: Path) -> Iterator[None]:
        """What SQLite says, as a sentence of ours."""
        try:
            yield
        except sqlite3.OperationalError as error:
            if "locked" in str(error):
                raise ConfigError(
                    f"another process is at work in {self.folder}; wait for it or end it, or "
                    "choose another hydra.run.dir."
                ) from error
            raise CannotWrite(
                f"cannot write {path} ({error}); make room or give another hydra.run.dir. What is "
                "done is kept, and the same command goes on from there."
            ) from error
        except sqlite3.DatabaseError as error:
            raise BadData(
                f"{path} is damaged ({error}); remove it, and its samples are scored again."
            ) from error


def _remove(path: Path) -> None:
    for file in (path, Path(f"{path}-wal"), Path(f"{path}-shm")):
        file.unlink(missing_ok=True)
