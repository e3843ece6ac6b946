"""Sibling pairs: one critter, two classes that could be meant, and where the evidence lies.

A picture of class A is asked about against a competitor class B, of which nothing is there to be
seen. Which part of the critter speaks for A *rather than B* is known by construction, and no
photograph can tell it. Every scene is shown twice, once as A against B and once, with only the
differing parts exchanged, as B against A.
"""

from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Literal, get_args

import torch
from jaxtyping import Bool
from torch import Tensor

from var_exp.data.critter_drawing import PARTS, REMOVABLE, Scene, render, without_each
from var_exp.data.critters import CLASS_NAMES, Critters, differing_part, part_indices
from var_exp.seeds import sample_generator
from var_exp.types import ConfigError, Sample, SampleDataset

Asked = Literal["differing", "kept", "tail", "shared"]


@dataclass(frozen=True)
class CritterSiblings(SampleDataset):
    """Single critters, each asked about against one competitor class.

    The competitor competes, but nothing is asked about it: no truth is known for the map of a class
    that is not there. `scope` is the whole critter.

    Args:
        count: Number of pictures; two of each scene.
        seed: Name of the stream of pictures.
        size: Side of the picture in pixels.
        asked: "differing": the competitor is a sibling, and the region the one part in which it
            differs; "kept": the competitor shares neither part, and the region holds both, which a
            map should keep; "tail": the competitor is a sibling, and the region the tail, which
            says nothing (its score should be low); "shared": the competitor is a sibling, and the
            region all that both classes have, which is the critter without that part and the tail.
        parts: Draw each picture also without each of its parts (`critter_drawing.REMOVABLE`), the
            one that differs first; with asked="differing" alone.

    Raises:
        ConfigError: an option out of its range.
    """

    count: int = 400
    seed: int | str = 0
    size: int = 64
    asked: Asked = "differing"
    parts: bool = False

    def __post_init__(self) -> None:
        if self.asked not in get_args(Asked):
            raise ConfigError(
                f"critters: asked must be one of {', '.join(get_args(Asked))}, got "
                f"'{self.asked}'; set data.asked accordingly."
            )
        if self.parts and self.asked != "differing":
            raise ConfigError(
                f"critters: parts=true goes with asked=differing, got {self.asked}; set "
                "data.asked=differing."
            )
        self._scenes()  # checks the other options

    @property
    def class_names(self) -> tuple[str, ...]:  # type: ignore[override]  # nobody sets it
        """The 16 classes."""
        return CLASS_NAMES

    def __len__(self) -> int:
        return self.count

    def sample_id(self, index: int) -> str:
        """Stable name of a picture, such as "siblings-0-000012-b"."""
        if not 0 <= index < self.count:
            raise IndexError(f"index must be in 0 … {self.count - 1}, got {index}.")
        kind = "disjoint" if self.asked == "kept" else "siblings"
        return f"{kind}-{self.seed}-{index // 2:06d}-{'ab'[index % 2]}"

    def classes(self, index: int) -> tuple[int, int]:
        """The class in the picture and its competitor."""
        self.sample_id(index)  # checks the index
        first = self._scenes().label(index // 2)
        competitors = [label for label in range(len(CLASS_NAMES)) if self._may_meet(first, label)]
        generator = sample_generator(0, f"rival/{self.seed}/{index // 2}")
        second = competitors[int(torch.randint(len(competitors), (), generator=generator))]
        return (first, second) if index % 2 == 0 else (second, first)

    def label(self, index: int) -> int:
        """Class in the picture, without drawing it."""
        return self.classes(index)[0]

    def scene(self, index: int) -> Scene:
        """All facts of a picture; those of one scene differ in the class's parts alone."""
        scene = self._scenes().scene(index // 2)
        ornament, pattern = part_indices(self.label(index))
        (critter,) = scene.critters
        return replace(scene, critters=(replace(critter, ornament=ornament, pattern=pattern),))

    def __getitem__(self, index: int) -> Sample:
        present, competitor = self.classes(index)
        image, masks = render(self.scene(index), self.size)
        parts = dict(zip(PARTS, torch.from_numpy(masks[0]), strict=True))
        region = _REGIONS[self.asked](parts, present, competitor)
        critter = torch.from_numpy(masks[0].any(axis=0))
        without = None
        if self.parts:
            first = REMOVABLE.index(differing_part(present, competitor))
            rest = [part for part in range(len(REMOVABLE)) if part != first]
            without = torch.from_numpy(without_each(self.scene(index), self.size)[[first, *rest]])
        return Sample(
            image=torch.from_numpy(image),
            classes=torch.tensor([present]),
            regions=region[None],
            id=self.sample_id(index),
            scope=critter[None],
            competitors=torch.tensor([competitor]),
            without=without,
        )

    def _scenes(self) -> Critters:
        return Critters((self.count + 1) // 2, self.seed, self.size)

    def _may_meet(self, first: int, second: int) -> bool:
        """Siblings share one of the two parts, the competitors of "kept" none."""
        shared = sum(a == b for a, b in zip(part_indices(first), part_indices(second), strict=True))
        return shared == (0 if self.asked == "kept" else 1)


_REGIONS: dict[Asked, Callable[[dict[str, Tensor], int, int], Bool[Tensor, "H W"]]] = {
    "differing": lambda parts, present, competitor: parts[differing_part(present, competitor)],
    "kept": lambda parts, present, competitor: parts["ornament"] | parts["pattern"],
    "tail": lambda parts, present, competitor: parts["tail"],
    "shared": lambda parts, present, competitor: torch.stack(
        [p for n, p in parts.items() if n not in ("tail", differing_part(present, competitor))]
    ).any(0),
}
