"""The classes that people name: by their name, a synonym, a WordNet id, or their number."""

import re
from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence

from var_exp.conf_files import did_you_mean
from var_exp.text import printable
from var_exp.types import ConfigError

_NUMBER = re.compile(r"-?\d{1,18}", re.ASCII)
_SHOWN = 80  # characters of what is no class


def stand_ins(count: int) -> list[str]:
    """Names for classes that nobody has named."""
    return [f"class {number}" for number in range(count)]


class ClassNames:
    """Finds the number of a class by what people call it.

    Case, and "_" for a blank, do not matter. A class's own name comes before what is only a synonym
    of another.

    Args:
        names: Name of every class, by number.
        synonyms: Further names, such as WordNet ids, and the numbers of the classes that have them.

    Examples:
        >>> names = ClassNames(["tabby", "Egyptian cat"], {"n02123045": [0]})
        >>> names.numbers(["Egyptian_Cat", "n02123045", 0, "1"])
        [1, 0, 0, 1]
    """

    def __init__(
        self, names: Sequence[str], synonyms: Mapping[str, Iterable[int]] | None = None
    ) -> None:
        self.names = names
        self._own: dict[str, list[int]] = defaultdict(list)
        self._others: dict[str, list[int]] = defaultdict(list)
        for number, name in enumerate(names):
            self._own[_plain(name)].append(number)
        for name, numbers in (synonyms or {}).items():
            self._others[_plain(name)] += numbers

    def number(self, asked: str | int) -> int:
        """Number of one class.

        Raises:
            ConfigError: there is no such class, or several have the name.
        """
        known = len(self.names)
        called_so = isinstance(asked, str) and _plain(asked) in self._own
        if not called_so and (isinstance(asked, int) or _NUMBER.fullmatch(asked.strip())):
            if 0 <= int(asked) < known:
                return int(asked)
            raise ConfigError(
                f"there is no class {int(asked)}; the model has {known}, numbered 0 to {known - 1}."
            )
        asked = str(asked)
        if self.names.count(asked) == 1:  # "Cardigan" is a dog, "cardigan" a garment
            return self.names.index(asked)
        found = self._own.get(_plain(asked)) or self._others.get(_plain(asked)) or []
        if len(found) == 1:
            return found[0]
        if found:
            which = " or ".join(f"{number} ({self.names[number]})" for number in found)
            raise ConfigError(f"several classes are called '{asked}'; name one by number: {which}.")
        spelt = {_plain(name): name for name in (*self._others, *self.names)}
        guess = did_you_mean(_plain(asked[:_SHOWN]), list(spelt))
        for plain, name in spelt.items():
            guess = guess.replace(f"'{plain}'", f"'{name}'")
        few = ", ".join(self.names[:5]) + (", …" if known > 5 else "")
        unnamed = list(self.names) == stand_ins(known)
        way = "; they have no names yet: NAME.classes.txt beside NAME.pt gives them, or names="
        raise ConfigError(
            f"the model has no class '{printable(asked)[:_SHOWN]}'{guess}; name one of its {known} "
            f"({few}), or its number{way if unnamed else ''}."
        )

    def numbers(self, asked: Iterable[str | int]) -> list[int]:
        """Numbers of several classes, in their order.

        Raises:
            ConfigError: as `number`.
        """
        return [self.number(each) for each in asked]


def _plain(name: str) -> str:
    return " ".join(name.replace("_", " ").lower().split())
