"""What it costs to commit a batch, beside an fsync of as many bytes and beside scoring it.

    python benchmarks/store.py [FOLDER]

FOLDER is on the disk to be measured. A batch is eight grids of four classes under eleven variants,
with one metric, and with six of which two have curves of 225 points.
"""

import os
import sys
import time
from io import FileIO
from pathlib import Path
from statistics import median
from tempfile import TemporaryDirectory

import torch

from var_exp.metrics.base import Recorded
from var_exp.results.batch_scores import BatchScores
from var_exp.results.store import Store

BATCHES, SAMPLES, CLASSES, VARIANTS, POINTS = 200, 8, 4, 11, 225


def batch(number: int, metrics: int, curves: int) -> BatchScores:
    """What one batch adds to a run."""
    ids = [f"picture {number * SAMPLES + i}" for i in range(SAMPLES)]
    owners = [id for id in ids for _ in range(CLASSES)]
    scored = BatchScores(ids)
    for variant in range(VARIANTS):
        for metric in range(metrics):
            details = {"curves": torch.rand(len(owners), POINTS)} if metric < curves else {}
            flags = torch.zeros(len(owners), dtype=torch.int64)
            recorded = Recorded(torch.rand(len(owners)).double(), flags, details)
            classes = list(range(CLASSES)) * SAMPLES
            scored.add(f"metric {metric}", f"variant {variant}", owners, classes, recorded)
    scored.note("top1_asked", torch.ones(SAMPLES))
    return scored


def milliseconds(work: object, *given: object) -> float:
    """Time of one call."""
    started = time.perf_counter()
    work(*given)  # type: ignore[operator]
    return 1000 * (time.perf_counter() - started)


def flush(file: FileIO, content: bytes) -> None:
    """Write and wait for the disk."""
    file.write(content)
    os.fsync(file.fileno())


def main() -> None:
    """Print the medians."""
    where = sys.argv[1] if len(sys.argv) > 1 else None
    for metrics, curves in ((1, 0), (6, 2)):
        with TemporaryDirectory(dir=where) as folder:
            ids = [f"picture {i}" for i in range(BATCHES * SAMPLES)]
            with Store(Path(folder), ids) as store:
                store.done()  # opens it
                made, committed = [], []
                for number in range(BATCHES):
                    started = time.perf_counter()
                    scored = batch(number, metrics, curves)
                    made.append(1000 * (time.perf_counter() - started))
                    committed.append(milliseconds(store.commit, scored))
            size = sum(file.stat().st_size for file in Path(folder).iterdir()) // BATCHES
            with Path(folder, "bare").open("wb", buffering=0) as bare:
                content = bytes(size)
                flushed = [milliseconds(flush, bare, content) for _ in range(BATCHES)]
        rows = SAMPLES * CLASSES * VARIANTS * metrics
        print(
            f"{metrics} metrics, {curves} with curves: {rows:5d} rows, {size / 1024:6.0f} KiB; "
            f"collected in {median(made):5.1f} ms, committed in {median(committed):5.1f} ms, "
            f"bare fsync {median(flushed):4.1f} ms"
        )


if __name__ == "__main__":
    main()
