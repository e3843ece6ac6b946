"""What a row of a table is: which maps it scores, what they are for, and what they belong to.

    base         the method's own maps
    refined      what a refiner makes of them
    control      maps without competition, or without a model, that a gain is measured against
    difference   the paired difference of two of these, which has rows in summaries alone

Every control is registered here, in `CONTROLS`; `modules.variants` makes its maps.
"""

import functools
import re
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal, get_args

from var_exp.types import ConfigError

Role = Literal["base", "refined", "control", "difference"]

BASE = "base"
"""Name of the base maps."""
SAME_SPARSITY = "same_sparsity"
"""Name of the control that says how much of a gain is sparsity; see `CONTROLS`."""
RANDOM_CLASSES = "random_classes"
"""Name of the control that says what the choice of the competitors is worth; likewise."""


@dataclass(frozen=True, slots=True)
class Variant:
    """One kind of maps, or the difference of two kinds.

    Attributes:
        name: As it stands in tables, such as "var".
        role: What it is for.
        of: The refiner that a control or a difference belongs to; "" for none.
    """

    name: str
    role: Role
    of: str = ""

    @property
    def subtracted(self) -> str:
        """Of a difference, the name of what is subtracted; "" for all else."""
        return self.name.removeprefix(f"{self.of}-") if self.role == "difference" else ""


@functools.cache
def read_variant(name: str, role: str, of: str) -> Variant:
    """The variant of three columns, one object for all rows that have it.

    Raises:
        ValueError: there is no such role.
    """
    for known in get_args(Role):
        if known == role:
            return Variant(name, known, of)
    raise ValueError(f"'{role}' is no role of a variant; there are {', '.join(get_args(Role))}")


@dataclass(frozen=True)
class Control:
    """One control.

    Attributes:
        name: Its name; of a control that goes with a refiner, what follows the refiner's name.
        of_refiner: Whether each refiner has one of its own.
        label: Its name in pictures.
        meaning: What a reader must know of it, one sentence.
        mark: Matplotlib marker that stands for it in pictures.
    """

    name: str
    of_refiner: bool
    label: str
    meaning: str
    mark: str

    def variant(self, refiner: str = "") -> Variant:
        """The variant that it is, beside a refiner where it has one."""
        return Variant(f"{refiner}_{self.name}" if refiner else self.name, "control", refiner)


CONTROLS = (
    Control(
        *(SAME_SPARSITY, True, "base at its sparsity"),
        "The base map cut to as many values, strongest first, as the refined map keeps.",
        "|",
    ),
    Control(
        *(RANDOM_CLASSES, True, "random competitors"),
        "The same competition against random classes.",
        "x",
    ),
    Control("uniform_map", False, "uniform map", "The same everywhere; scores chance.", "|"),
    Control("random_map", False, "random map", "Uniform noise.", "x"),
    Control("gaussian_map", False, "gaussian map", "The guess that it is in the centre.", "+"),
    Control("edge_map", False, "edge map", "An edge detector; never saw the model.", "2"),
    Control("oracle_map", False, "oracle map", "The true region; what a perfect map scores.", "*"),
)
"""All controls, in the order of the tables."""


def variants_of(refiners: Sequence[str], *, controls: bool) -> list[Variant]:
    """All variants that a run with these refiners scores, in the order of the tables.

    Examples:
        >>> [v.name for v in variants_of(["var"], controls=True)][:4]
        ['base', 'var', 'var_same_sparsity', 'var_random_classes']
    """
    found = [Variant(BASE, "base"), *(Variant(name, "refined") for name in refiners)]
    if controls:
        found += [c.variant(name) for name in refiners for c in CONTROLS if c.of_refiner]
        found += [c.variant() for c in CONTROLS if not c.of_refiner]
    return found


def difference(left: Variant, right: Variant) -> Variant:
    """The paired difference left - right, of a refiner."""
    return Variant(f"{left.name}-{right.name}", "difference", left.name)


def check_refiner_names(names: Sequence[str]) -> None:
    """Refuse a refiner whose alias another variant has, or would be read as another.

    Raises:
        ConfigError: a reserved or unreadable name.
    """
    for name in names:
        taken = name == BASE or any(
            name == control.name or (control.of_refiner and name.endswith(f"_{control.name}"))
            for control in CONTROLS
        )
        if taken:
            raise ConfigError(
                f"a refiner cannot be called '{name}', which names the "
                f"{'base maps' if name == BASE else 'maps of a control'}; rename its YAML file and "
                "the package in its first line."
            )
        if not re.fullmatch(r"\w+", name):
            raise ConfigError(
                f"a refiner cannot be called '{name}': letters, digits and _ only, since "
                "'a-b' names a difference; rename its YAML file and the package in its first line."
            )
