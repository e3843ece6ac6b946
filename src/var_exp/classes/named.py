"""The class rule of people who know what they want to ask: the classes that they name."""

import csv
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from jaxtyping import Int
from torch import Tensor

from var_exp.classes.names import ClassNames
from var_exp.types import Classes, ConfigError, Logits


@dataclass(frozen=True, eq=False)
class Named:
    """The classes that somebody names, on every picture or on single ones; all are asked about.

    Args:
        names: By name, WordNet id or number, mixed; for every picture that the file does not have.
        file: CSV without a head: a picture's path below the folder of the pictures, then the
            classes that compete on it.
        known: What the classes are called.

    Attributes:
        of_picture: Numbers of the classes, by picture that the file names.

    Raises:
        ConfigError: no such class or file, fewer than two classes, or one twice.
    """

    known: ClassNames
    names: Sequence[str | int] | None = None
    file: str | None = None
    of_picture: Mapping[str, Sequence[int]] = field(init=False)

    def __post_init__(self) -> None:
        if self.names is None and self.file is None:
            raise ConfigError(
                "classes=named needs the names; add 'classes.names=[tabby,Egyptian cat]', or "
                "classes.file=FILE with a line for each picture: picture, class, class."
            )
        if self.names is not None:
            self._numbers(self.names, "classes.names")
        object.__setattr__(self, "of_picture", self._read() if self.file else {})

    def question(self, id: str) -> list[int]:
        """Numbers of the classes that compete on a picture.

        Raises:
            ConfigError: nobody asks about this one.
        """
        if id in self.of_picture:
            return list(self.of_picture[id])
        if self.names is None:
            raise ConfigError(
                f"'{self.file}' has no line for the picture '{id}'; add one, or name classes for "
                "all others with classes.names=[…]."
            )
        return self._numbers(self.names, "classes.names")

    def __call__(
        self, logits: Logits, classes: Int[Tensor, "B A"], ids: Sequence[str] | None = None
    ) -> Classes:
        """Return the classes that the pictures are asked about, as they are."""
        return classes

    def _numbers(self, names: Sequence[str | int], where: str) -> list[int]:
        found = self.known.numbers(names)
        if len(found) < 2 or len(set(found)) < len(found):
            raise ConfigError(
                f"{where} must name two or more different classes, got {list(names)}; "
                "two must compete."
            )
        return found

    def _read(self) -> dict[str, list[int]]:
        try:
            with Path(str(self.file)).expanduser().open(newline="", encoding="utf-8-sig") as file:
                lines = [[cell.strip() for cell in line] for line in csv.reader(file) if line]
        except (OSError, UnicodeDecodeError, csv.Error) as error:
            raise ConfigError(
                f"cannot read classes.file '{self.file}' ({error}); give a CSV file with a line "
                "for each picture: picture, class, class."
            ) from error
        return {
            picture: self._numbers([cell for cell in cells if cell], f"'{self.file}': {picture}")
            for picture, *cells in lines
        }
