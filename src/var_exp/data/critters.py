"""Critters: pictures whose truth about class competition is known by construction.

A class is a pair of one head ornament and one belly pattern. Body, head, legs and eyes are shared
by all classes; tail, colours, pose, size, light and background say nothing about the class. Each
class has six siblings, which differ from it in exactly one part, so the evidence between two
siblings lies in a place that is known.
"""

import hashlib
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import torch
from jaxtyping import Bool, Int
from numpy.typing import NDArray
from torch import Tensor

from var_exp.data.critter_background import sample_background
from var_exp.data.critter_drawing import Critter, Scene, render
from var_exp.types import ConfigError, Sample, SampleDataset

ORNAMENTS = ("round ears", "pointed ears", "antennae", "hat")
PATTERNS = ("spot", "bars across", "bars upright", "quadrants")
CLASS_NAMES = tuple(f"{ornament} / {pattern}" for ornament in ORNAMENTS for pattern in PATTERNS)

_COLOURED = ("body", "belly", "pattern", "ornament", "eyes", "tail")
_BESIDE = {"belly": "body", "pattern": "belly", "ornament": "body", "eyes": "body"}
_PLACES = 32  # random placements of a pair, of which the first without overlap is taken


def part_indices(label: int) -> tuple[int, int]:
    """Ornament and pattern of a class."""
    return divmod(label, len(PATTERNS))


def differing_part(first: int, second: int) -> str:
    """Name of the one part, of `critter_drawing.PARTS`, in which two sibling classes differ.

    Raises:
        ValueError: the classes are the same or share no part.
    """
    ornaments, patterns = zip(part_indices(first), part_indices(second), strict=True)
    if (ornaments[0] == ornaments[1]) == (patterns[0] == patterns[1]):
        raise ValueError(
            f"classes must differ in exactly one part, got {first} ({CLASS_NAMES[first]}) and "
            f"{second} ({CLASS_NAMES[second]}); take the second from Critters.siblings[{first}]."
        )
    return "pattern" if ornaments[0] == ornaments[1] else "ornament"


@dataclass(frozen=True)
class Critters(SampleDataset):
    """Procedural pictures of one or two critters; the same id is the same picture everywhere.

    Picture `i` depends on `seed`, `objects`, `size` and `i` alone: neither on `count`, nor on the
    batch or the process that asks for it.

    Args:
        count: Number of pictures.
        seed: Name of the stream of pictures; the shipped models saw the stream "train" only.
        size: Side of the square picture in pixels; at least 16.
        objects: 1, or 2 critters whose classes share no part, without overlap.

    Raises:
        ConfigError: an option out of its range.
    """

    count: int = 800
    seed: int | str = 0
    size: int = 64
    objects: int = 1

    def __post_init__(self) -> None:
        for name, value, least, most in (
            ("count", self.count, 1, 10**9),
            ("size", self.size, 16, 4096),
            ("objects", self.objects, 1, 2),
        ):
            if not least <= value <= most:
                raise ConfigError(
                    f"critters: {name} must be between {least} and {most}, got {value}; "
                    f"set data.{name} accordingly."
                )

    @property
    def class_names(self) -> tuple[str, ...]:  # type: ignore[override]  # nobody sets it
        """The 16 classes, such as "round ears / spot"."""
        return CLASS_NAMES

    @property
    def siblings(self) -> Int[Tensor, "classes 6"]:  # type: ignore[override]  # likewise
        """Per class the six classes that differ from it in exactly one part, ascending."""
        parts = torch.tensor([part_indices(label) for label in range(len(CLASS_NAMES))])
        shared = (parts[:, None] == parts[None]).sum(-1)
        return (shared == 1).nonzero()[:, 1].reshape(len(CLASS_NAMES), -1)

    def __len__(self) -> int:
        return self.count

    def sample_id(self, index: int) -> str:
        """Stable name of a picture, such as "critters-0-000012"."""
        if not 0 <= index < self.count:
            raise IndexError(f"index must be in 0 … {self.count - 1}, got {index}.")
        kind = "critters" if self.objects == 1 else "critter-pairs"
        return f"{kind}-{self.seed}-{index:06d}"

    def label(self, index: int) -> int:
        """Class of the (first) critter, without drawing it."""
        return _sample_classes(self._generator(index), self.objects)[0]

    def scene(self, index: int) -> Scene:
        """All facts of a picture; change one with `dataclasses.replace` and `render` it again."""
        generator = self._generator(index)
        classes = _sample_classes(generator, self.objects)
        return _sample_scene(generator, classes)

    def __getitem__(self, index: int) -> Sample:
        scene = self.scene(index)
        image, parts = render(scene, self.size)
        classes = [c.ornament * len(PATTERNS) + c.pattern for c in scene.critters]
        objects = torch.from_numpy(parts.any(axis=1))
        return Sample(
            image=torch.from_numpy(image),
            classes=torch.tensor(classes),
            regions=objects,
            id=self.sample_id(index),
            # of two critters: which of them? of one: where in the picture?
            scope=objects.any(0, keepdim=True).expand(2, -1, -1) if self.objects == 2 else None,
        )

    def scenes(self) -> "Critters":
        """The same stream options with two critters in every picture."""
        return replace(self, objects=2)

    def parts(self, index: int) -> Bool[Tensor, "objects parts H W"]:
        """Where each of `critter_drawing.PARTS` is visible; disjoint, together the region."""
        return torch.from_numpy(render(self.scene(index), self.size)[1])

    def _generator(self, index: int) -> np.random.Generator:
        digest = hashlib.blake2b(self.sample_id(index).encode(), digest_size=16).digest()
        return np.random.Generator(np.random.Philox(key=int.from_bytes(digest, "little")))


def _sample_classes(generator: np.random.Generator, objects: int) -> tuple[int, ...]:
    """One class, or two that share no part."""
    ornament, pattern, turn_o, turn_p = generator.integers((4, 4, 3, 3))
    first = int(ornament * 4 + pattern)
    second = int((ornament + 1 + turn_o) % 4 * 4 + (pattern + 1 + turn_p) % 4)
    return (first, second)[:objects]


def _sample_scene(generator: np.random.Generator, classes: tuple[int, ...]) -> Scene:
    """Draw all that the classes leave open; the draws do not depend on the classes."""
    alone = len(classes) == 1
    heights = generator.uniform(*((0.48, 0.9) if alone else (0.42, 0.5)), len(classes))
    places = _sample_places(generator, heights)
    critters = tuple(
        _sample_critter(generator, label, (float(x), float(y)), float(height))
        for label, (x, y), height in zip(classes, places, heights, strict=True)
    )
    return Scene(critters, sample_background(generator))


def _sample_places(
    generator: np.random.Generator, heights: NDArray[np.float64]
) -> NDArray[np.float64]:
    """Centres [objects, 2] inside the picture: the first draw that keeps the critters apart."""
    half = np.stack([0.45 * heights, 0.53 * heights], axis=-1) + 0.015
    places = generator.uniform(half, 1 - half, (_PLACES, len(heights), 2))
    needed = half.sum(axis=0) if len(heights) == 2 else np.zeros(2)
    slack = (np.abs(places[:, 0] - places[:, -1]) - needed).max(axis=-1)
    chosen: NDArray[np.float64] = places[int(np.argmax(np.minimum(slack, 0.0)))]
    return chosen


def _sample_critter(
    generator: np.random.Generator, label: int, centre: tuple[float, float], height: float
) -> Critter:
    ornament, pattern = part_indices(label)
    angle, girth, head, lift, slope_x, slope_y = generator.uniform(
        (-0.3, 0.88, 0.9, -0.3, -0.25, -0.25), (0.3, 1.08, 1.06, 1.0, 0.25, 0.25)
    ).tolist()
    side, tip = generator.integers((2, 3)).tolist()
    return Critter(
        ornament=ornament,
        pattern=pattern,
        x=centre[0],
        y=centre[1],
        height=height,
        angle=angle,
        girth=girth,
        head=head,
        tail_side=2 * side - 1,
        tail_lift=lift,
        tail_tip=tip,
        light=(slope_x, slope_y),
        colours=_sample_colours(generator),
    )


def _sample_colours(generator: np.random.Generator) -> dict[str, NDArray[np.floating[Any]]]:
    """Random colours; of six candidates the first that stands out from the colour beside it."""
    candidates = generator.random((len(_COLOURED), 6, 3), dtype=np.float32)
    colours: dict[str, NDArray[np.floating[Any]]] = {}
    for name, options in zip(_COLOURED, candidates, strict=True):
        choice = 0
        if name in _BESIDE:
            distance = np.linalg.norm(options - colours[_BESIDE[name]], axis=-1)
            choice = int(np.argmax(np.minimum(distance, 0.7)))
        colours[name] = options[choice]
    return colours
