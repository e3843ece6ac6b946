"""How far a run is: a bar on a terminal, now and then a line in a log file."""

import time
from collections.abc import Sequence
from datetime import timedelta
from typing import Any

from lightning import Callback, LightningModule, Trainer
from rich.console import Console
from rich.progress import (
    BarColumn,
    MofNCompleteColumn,
    Progress,
    Task,
    TextColumn,
    TimeElapsedColumn,
    TimeRemainingColumn,
)
from rich.text import Text

from var_exp.types import Batch

_QUIET_SECONDS = 60.0  # between two lines of a log file


class SampleProgress(Callback):
    """Counts samples, with their rate and the time left; of several processes only the first tells.

    Args:
        console: Where to; None is the standard error.
    """

    def __init__(self, console: Console | None = None) -> None:
        self._console = console or Console(stderr=True)
        self._progress: Progress | None = None
        self._done = self._total = 0
        self._began = self._told = 0.0

    def on_test_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Begin to count."""
        if not trainer.is_global_zero:
            return
        loader: Any = trainer.test_dataloaders
        self._total = sum(map(len, loader.batch_sampler))
        self._done, self._began = 0, time.monotonic()
        self._told = self._began
        if self._console.is_terminal:
            shared = f" of process 1 of {trainer.world_size}" if trainer.world_size > 1 else ""
            self._progress = Progress(
                TextColumn(f"samples{shared}"),
                BarColumn(bar_width=None),
                MofNCompleteColumn(),
                _Rate(),
                TimeElapsedColumn(),
                TextColumn("left"),
                TimeRemainingColumn(),
                console=self._console,
                expand=True,
            )
            self._progress.add_task("", total=self._total)
            self._progress.start()

    def on_test_batch_end(
        self,
        trainer: Trainer,
        pl_module: LightningModule,
        outputs: Any,
        batch: Sequence[Batch],
        batch_idx: int,
        dataloader_idx: int = 0,
    ) -> None:
        """Count what is done."""
        if not trainer.is_global_zero:
            return
        self._done += sum(len(part.ids) for part in batch)
        if self._progress is not None:
            self._progress.update(self._progress.task_ids[0], completed=self._done)
        elif time.monotonic() - self._told >= _QUIET_SECONDS:
            self._told = time.monotonic()
            self._console.print(self._line(), soft_wrap=True, highlight=False)

    def on_test_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Leave the full bar behind."""
        self._stop()

    def on_exception(
        self, trainer: Trainer, pl_module: LightningModule, exception: BaseException
    ) -> None:
        """Give the terminal back."""
        self._stop()

    def _stop(self) -> None:
        if self._progress is not None:
            self._progress.stop()
            self._progress = None

    def _line(self) -> str:
        rate = self._done / (self._told - self._began)
        left = timedelta(seconds=round((self._total - self._done) / rate)) if rate else "unknown"
        return f"{self._done:,} of {self._total:,} samples, {rate:.3g} samples/s, time left {left}"


class _Rate(TextColumn):
    """Samples per second over the whole run, which slow and fast batches move least."""

    def __init__(self) -> None:
        super().__init__("")

    def render(self, task: Task) -> Text:
        """Rate of one bar."""
        seconds = task.elapsed or 0.0
        return Text(f"{task.completed / seconds:.3g}/s" if seconds and task.completed else "-/s")
