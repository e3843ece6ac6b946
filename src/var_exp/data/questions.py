"""The same pictures, asked about other classes than their labels: those that somebody named."""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from pathlib import Path

import torch

from var_exp.types import ConfigError, Sample, SampleDataset


class AskedAbout(SampleDataset):
    """A data set in which every picture is asked about given classes.

    Where a class is in the picture is not known any more: regions belonged to the labels.

    Args:
        dataset: Gives the pictures.
        question: From a sample's id to the classes that compete on it, two or more.

    Raises:
        ConfigError: by the question, for a picture that has none.
    """

    def __init__(self, dataset: SampleDataset, question: Callable[[str], Sequence[int]]) -> None:
        self.dataset = dataset
        self.class_names = dataset.class_names
        self.model_names = dataset.model_names
        self.members = dataset.members
        self.siblings = dataset.siblings
        self.notes = dict(dataset.notes)
        self.skipped = dict(dataset.skipped)
        self._asked = [list(question(name)) for name in dataset.ids()]
        self.fewest = torch.tensor(min(self._asked, key=len))

    def __len__(self) -> int:
        return len(self.dataset)

    def __getitem__(self, index: int) -> Sample:
        asked = torch.tensor(self._asked[index])
        known = replace(self.dataset[index], classes=asked, regions=None, scope=None)
        return replace(known, competitors=None, without=None)

    def label(self, index: int) -> int:
        """The class that was named first."""
        return self._asked[index][0]

    def sample_id(self, index: int) -> str:
        """Id of a sample."""
        return self.dataset.sample_id(index)

    def content(self, index: int) -> bytes:
        """What tells a picture from every other."""
        return self.dataset.content(index)

    def files(self) -> Iterator[Path]:
        """Every file that a sample comes from."""
        return self.dataset.files()


def check_pictures(asked: Sequence[str], dataset: SampleDataset, file: str) -> None:
    """Refuse questions about pictures that are not there.

    Raises:
        ConfigError: it names the first of them.
    """
    known = {dataset.sample_id(index) for index in range(len(dataset))}
    for name in asked:
        if name not in known:
            raise ConfigError(
                f"'{file}' asks about '{name}', which is not among the {len(known)} pictures "
                f"({', '.join(sorted(known)[:3])}, …); names are paths below data.root."
            )
