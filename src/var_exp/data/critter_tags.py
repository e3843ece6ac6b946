"""Tagged critters: a planted cue that predicts some classes in training, and means nothing after.

A magenta tag hangs beside every critter with a hat, and beside no other, while a network learns;
half of those critters have lost their hat, so the tag alone tells them. What the network has then
learnt is known: a picture of a critter without a hat, tag beside it, is taken for one with a hat.
Nothing but the tag speaks for that, by construction, and the same picture without it says how much.
"""

from dataclasses import dataclass, replace
from typing import Literal, get_args

import numpy as np
import torch

from var_exp.data.critter_background import TAG_HALF
from var_exp.data.critter_drawing import Critter, Scene, render, without_each
from var_exp.data.critters import CLASS_NAMES, ORNAMENTS, PATTERNS, Critters, part_indices
from var_exp.seeds import sample_generator
from var_exp.types import ConfigError, Sample, SampleDataset

Tagged = Literal["predictive", "misleading"]
Rival = Literal["other", "sharing"]

HAT = ORNAMENTS.index("hat")
"""The ornament of the four classes that the tag stands for."""

_PLACES = 64  # random places for a tag, of which the one farthest from the critter is taken


@dataclass(frozen=True)
class CritterTags(SampleDataset):
    """Single critters with a tag.

    Args:
        count: Number of pictures.
        seed: Name of the stream of pictures.
        size: Side of the picture in pixels.
        tagged: "predictive", to learn from: critters of all classes, asked about their own, with a
            tag where the class has a hat, and half of these without the hat. "misleading", to
            explain: critters without a hat, all with a tag, asked about the class with a hat that
            has their pattern. Region is the tag, scope tag and critter, and each picture is drawn
            also without the tag and without each part of the critter.
        rival: Who competes in "misleading". "other": the class in the picture, for which the tag
            does not speak. "sharing": a class with a hat and another pattern, for which it speaks
            as much.

    Raises:
        ConfigError: an option out of its range.
    """

    count: int = 300
    seed: int | str = 0
    size: int = 64
    tagged: Tagged = "misleading"
    rival: Rival = "other"

    def __post_init__(self) -> None:
        for name, known in (("tagged", Tagged), ("rival", Rival)):
            if getattr(self, name) not in get_args(known):
                raise ConfigError(
                    f"critters: {name} must be {' or '.join(get_args(known))}, got "
                    f"'{getattr(self, name)}'; set data.{name} accordingly."
                )
        self._critters()  # checks the other options

    @property
    def class_names(self) -> tuple[str, ...]:  # type: ignore[override]  # nobody sets it
        """The 16 classes."""
        return CLASS_NAMES

    def __len__(self) -> int:
        return self.count

    def sample_id(self, index: int) -> str:
        """Stable name of a picture, such as "tags-misleading-0-000012"."""
        if not 0 <= index < self.count:
            raise IndexError(f"index must be in 0 … {self.count - 1}, got {index}.")
        return f"tags-{self.tagged}-{self.seed}-{index:06d}"

    def label(self, index: int) -> int:
        """The class asked about, without drawing the picture."""
        label = self._critters().label(index)
        return label if self.tagged == "predictive" else _with_hat(label)

    def scene(self, index: int) -> Scene:
        """All facts of a picture."""
        scene = self._critters().scene(index)
        (critter,) = scene.critters
        stream = np.random.default_rng(self._stream(index).initial_seed() % 2**63)
        other, lost = int(stream.integers(HAT)), stream.random() < 0.5
        tag = _place(critter, stream)
        if self.tagged == "misleading":
            critter = replace(critter, ornament=other)
        elif critter.ornament != HAT:
            return scene
        elif lost:
            critter = replace(critter, missing=("ornament",))
        return Scene((critter,), replace(scene.background, tag=tag))

    def __getitem__(self, index: int) -> Sample:
        scene, asked = self.scene(index), self.label(index)
        image, masks = render(scene, self.size)
        picture, classes = torch.from_numpy(image), torch.tensor([asked])
        if self.tagged == "predictive":
            return Sample(picture, classes, None, self.sample_id(index))
        untagged = replace(scene, background=replace(scene.background, tag=None))
        alone = torch.from_numpy(render(untagged, self.size)[0])
        tag = (alone != picture).any(0)
        critter = torch.from_numpy(masks[0].any(axis=0))
        return Sample(
            image=picture,
            classes=classes,
            regions=tag[None],
            id=self.sample_id(index),
            scope=(tag | critter)[None],
            competitors=torch.tensor([self._competitor(index, scene)]),
            without=torch.cat([alone[None], torch.from_numpy(without_each(scene, self.size))]),
        )

    def _competitor(self, index: int, scene: Scene) -> int:
        (critter,) = scene.critters
        if self.rival == "other":
            return critter.ornament * len(PATTERNS) + critter.pattern
        turn = int(torch.randint(1, len(PATTERNS), (), generator=self._stream(index)))
        return HAT * len(PATTERNS) + (critter.pattern + turn) % len(PATTERNS)

    def _stream(self, index: int) -> torch.Generator:
        return sample_generator(0, f"tag/{self.seed}/{index}")

    def _critters(self) -> Critters:
        return Critters(self.count, self.seed, self.size)


def _with_hat(label: int) -> int:
    """The class with a hat of the same pattern."""
    return HAT * len(PATTERNS) + part_indices(label)[1]


def _place(critter: Critter, stream: np.random.Generator) -> tuple[float, float]:
    """Centre of a tag inside the picture, away from the critter."""
    places = stream.uniform(TAG_HALF, 1 - TAG_HALF, (_PLACES, 2))
    apart = np.abs(places - (critter.x, critter.y)) / (0.45 * critter.height, 0.53 * critter.height)
    x, y = places[int(np.argmax(apart.max(axis=1)))].tolist()
    return x, y
