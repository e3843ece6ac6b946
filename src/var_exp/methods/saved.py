"""Saved: maps that exist already, made by another tool or by an earlier run.

Nothing is attributed; a map is found by its sample's id and its class. So a new measure needs no
new attribution, and classes compete on anybody's maps, as long as those of the competitors are
there too. Cost: reading.
"""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import ClassVar

import numpy as np
import torch
from torch import Tensor, nn

from var_exp.methods.map_files import SavedMaps
from var_exp.methods.method import Method
from var_exp.models.selfcheck import Needs
from var_exp.types import BadData, Classes, ConfigError, Images, Maps
from var_exp.variants import BASE

_NAMED = 3  # how many of the missing maps a message names


@dataclass(frozen=True)
class Saved(Method):
    """Maps read from a folder; as many channels as they have there.

    Args:
        root: Folder of the maps; its layouts are those of `methods.map_files.SavedMaps`.

    Raises:
        BadData: at the call: a map that is not there, not finite, or of another size than its
            picture; or what `SavedMaps` refuses.
        ConfigError: at the call: no ids, by which maps are found.
    """

    attributes_anew: ClassVar[bool] = False
    invariant_to_folding: ClassVar[bool] = True  # it never asks the network
    needs: ClassVar[Needs] = "logits"

    root: str

    @cached_property
    def maps(self) -> SavedMaps:
        """The maps, their index read when they are first asked for."""
        return SavedMaps(Path(self.root).expanduser())

    def files(self) -> list[Path]:
        """Every file that maps come from."""
        return self.maps.files()

    def refuse_missing(self, wanted: Iterable[tuple[str, int]]) -> None:
        """Refuse a folder that lacks any of these maps.

        Args:
            wanted: Sample ids and classes.

        Raises:
            BadData: it names the first of them.
        """
        missing = [pair for pair in wanted if (*pair, BASE) not in self.maps]
        if missing:
            named = ", ".join(f"class {label} of '{name}'" for name, label in missing[:_NAMED])
            more = f" and {len(missing) - _NAMED} others" if len(missing) > _NAMED else ""
            raise BadData(
                f"'{self.root}' lacks the maps of {named}{more}; add them, or choose classes that "
                "are there."
            )

    def _attribute(
        self, model: nn.Module, images: Images, classes: Classes, ids: Sequence[str | None]
    ) -> Maps:
        named = [name for name in ids if name is not None]
        if len(named) < len(ids):
            raise ConfigError(
                "saved maps are found by the id of their sample; pass ids= to attribute."
            )
        labels = classes.tolist()
        pairs = [(name, label) for name, row in zip(named, labels, strict=True) for label in row]
        self.refuse_missing(pairs)
        found = torch.stack([self._map(*pair, images.shape) for pair in pairs])
        return found.view(*classes.shape, *found.shape[1:]).to(images.device)

    def _map(self, name: str, label: int, shape: torch.Size) -> Tensor:
        values = self.maps[name, label, BASE]
        if values.shape[0] not in (1, shape[1]) or values.shape[1:] != shape[2:]:
            raise BadData(
                f"the map of class {label} of '{name}' in '{self.root}' is {list(values.shape)}, "
                f"and its picture {list(shape[1:])}; resize maps to the picture that the network "
                "sees, with 1 channel or as many as it has."
            )
        if not np.isfinite(values).all():
            raise BadData(
                f"the map of class {label} of '{name}' in '{self.root}' holds NaN or infinite "
                "values; make it again."
            )
        return torch.from_numpy(values)
