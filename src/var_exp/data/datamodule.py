"""The batches of a run, from a data set of samples; see `batches.collate`."""

import logging
from collections.abc import Collection, Iterable, Sequence
from functools import partial

import torch
from lightning import LightningDataModule
from lightning.fabric.utilities.data import suggested_max_num_workers
from torch.utils.data import DataLoader, Dataset

from var_exp.data.batches import collate
from var_exp.data.measured_loader import MeasuredLoader
from var_exp.types import (
    BadData,
    Batch,
    ConfigError,
    InputSpec,
    Sample,
    SampleDataset,
    Unreadable,
)

_log = logging.getLogger(__name__)


class SampleModule(LightningDataModule):
    """Batches of any data set, in order, each sample exactly once whatever the number of processes.

    Whole batches are dealt out to the processes, so that what is computed together is always the
    same, and scores with it, whatever their number and wherever a run was interrupted.

    Args:
        dataset: Gives the samples.
        spec: Mean and standard deviation that images are normalised with.
        batch_size: Images that are loaded and attributed together in each process; scores do not
            depend on it.
        workers: Loader processes; 0 loads in the main process. None is 0 where the network computes
            on the CPU, whose cores they would take, else what the first batches show to be worth it
            (`measured_loader`).
        done: Places of samples that are left out; the first process tells the others.
        first: Ids of samples that come first, in batches of their own.

    Raises:
        ConfigError: batch_size below 1 or workers below 0.
    """

    def __init__(
        self,
        dataset: SampleDataset,
        spec: InputSpec,
        batch_size: int = 8,
        workers: int | None = 0,
        done: Collection[int] = (),
        first: Collection[str] = (),
    ) -> None:
        super().__init__()
        self.allow_zero_length_dataloader_with_multiple_devices = True  # fewer batches than devices
        if batch_size < 1 or (workers is not None and workers < 0):
            raise ConfigError(
                f"batch_size must be at least 1 and workers at least 0, got {batch_size} and "
                f"{workers}; set batch_size=8 workers=0."
            )
        self.dataset = dataset
        self.spec = spec
        self.batch_size = batch_size
        self.workers = workers
        self.done = done
        self.first = first

    def setup(self, stage: str) -> None:
        """Let every process leave out the same samples."""
        if self.trainer is not None:
            self.done = self.trainer.strategy.broadcast(self.done)

    def test_dataloader(self) -> Iterable[tuple[Batch | BadData, ...]]:
        """The whole data set in order, several batches at a time where shapes differ (`collate`).

        In order but for those that come first.

        Under several processes each takes its own share. In place of a sample that could not be
        read stands the error, until `on_before_batch_transfer`.
        """
        ahead: list[int] = []
        rest: list[int] = []
        for place in range(len(self.dataset)):
            (ahead if self.dataset.sample_id(place) in self.first else rest).append(place)
        size = self.batch_size
        batches = [
            places[start : start + size]
            for places in (ahead, rest)
            for start in range(0, len(places), size)
        ]
        left = [[place for place in batch if place not in self.done] for batch in batches]
        left = [batch for batch in left if batch]
        if self.trainer is not None:
            left = left[self.trainer.global_rank :: self.trainer.world_size]
        if self.workers is not None or self._cores_are_taken():
            return self._loader(left, self.workers or 0)
        processes = 1 if self.trainer is None else self.trainer.num_devices  # of this machine
        return MeasuredLoader(left, self._loader, suggested_max_num_workers(processes))

    def _cores_are_taken(self) -> bool:
        """Whether the network itself computes on the processor."""
        if self.trainer is None:
            return not torch.cuda.is_available()
        return self.trainer.strategy.root_device.type == "cpu"

    def _loader(self, batches: Sequence[list[int]], workers: int) -> DataLoader[Sample | BadData]:
        return DataLoader(
            _Attempts(self.dataset),
            batch_sampler=batches,
            num_workers=workers,
            collate_fn=partial(_collate_read, spec=self.spec),
            pin_memory=torch.cuda.is_available(),  # copied while the device computes
        )

    def on_before_batch_transfer(
        self, batch: Sequence[Batch | BadData], dataloader_idx: int
    ) -> tuple[Batch, ...]:
        """Go on without the samples that are to be skipped, and say so.

        Raises:
            BadData: a sample cannot be read, and that is to end the run.
        """
        for loaded in batch:
            if isinstance(loaded, Unreadable):
                _log.warning("skipped: %s", loaded)
            elif isinstance(loaded, BadData):
                raise loaded
        return tuple(loaded for loaded in batch if isinstance(loaded, Batch))


class _Attempts(Dataset[Sample | BadData]):
    """Samples, or why they cannot be read: an error raised in a loader process loses its words."""

    def __init__(self, dataset: SampleDataset) -> None:
        self.dataset = dataset

    def __len__(self) -> int:
        return len(self.dataset)

    def __getitem__(self, index: int) -> Sample | BadData:
        try:
            return self.dataset[index]
        except BadData as error:
            return error


def _collate_read(
    attempts: Sequence[Sample | BadData], spec: InputSpec
) -> tuple[Batch | BadData, ...]:
    errors = [attempt for attempt in attempts if isinstance(attempt, BadData)]
    return (*errors, *collate([a for a in attempts if isinstance(a, Sample)], spec))
