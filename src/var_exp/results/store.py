"""Where a run keeps what it has measured: one SQLite file per process, committed batch by batch.

All that is known of a sample is committed in one transaction and is on the disk when the next batch
begins. So a sample is either done or not, wherever a run is killed, and what is reported at the end
comes from here alone: it does not depend on batches, processes or interruptions.

The first process owns `store.sqlite`; the others write `store.rank<N>.sqlite`, which the first one
absorbs when they are done, and when a run is started again. SQLite's lock keeps a second run out
and dies with its process.
"""

import re
import sqlite3
import weakref
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
from var_exp.results.store_file import TABLES, checksums, explained, opened, remove, stored, verify
from var_exp.types import BadData
from var_exp.variants import Variant, read_variant

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
                (
                    *(*key, int(row.class_index), row.metric),
                    *(v.name, v.role, v.of, stored(row.score), row.flags),
                )
                for key, row, v in zip(keys, scored.rows, variants, strict=True)
            ],
            "details": sorted(
                (*keys[row], name, values.astype("<f4").tobytes())
                for row, name, values in scored.details
            ),
            "facts": [
                (self._places[id], number, name, stored(value))
                for number, (id, name, value) in enumerate(scored.facts)
            ],
        }
        ids = {self._places[id]: id for id in scored.ids}
        checksum = checksums(lines, ids)
        lines["samples"] = [(place, id, checksum[place]) for place, id in ids.items()]
        with self._transaction():
            for table in TABLES:
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
            found = re.fullmatch(r"store\.rank(\d+)\.sqlite", part.name)
            if found is None:
                continue
            with Store(self.folder, list(self._places), int(found[1])) as other:
                other.done()  # it is a store, and undamaged
            with explained(part):
                self._open.execute("ATTACH ? AS part", (str(part),))
            try:
                with explained(part), self._transaction():
                    for table in TABLES:
                        self._open.execute(
                            f"INSERT INTO main.{table} SELECT * FROM part.{table} "
                            "WHERE place NOT IN (SELECT place FROM main.samples)"
                        )
            finally:
                self._open.execute("DETACH part")
            remove(part)

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
        remove(self.path)

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
        """The connection, opened, locked and verified when it is first needed."""
        connection = opened(self.path)
        try:
            verify(connection, self.path, self._places)
        except BaseException:
            connection.close()
            raise
        weakref.finalize(self, connection.close)  # of a store that nobody closed
        return connection

    def _read(self, query: str, *given: object) -> Iterable[tuple[Any, ...]]:
        with explained(self.path):
            return self._open.execute(query, given)

    @contextmanager
    def _transaction(self) -> Iterator[None]:
        """All of the writes within, or none of them."""
        with explained(self.path):
            self._open.execute("BEGIN")
            try:
                yield
                self._open.execute("COMMIT")
            except BaseException:
                if self._open.in_transaction:  # a full disk has rolled back already
                    self._open.execute("ROLLBACK")
                raise
