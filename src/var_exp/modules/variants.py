"""The variants of one batch of maps: the base, what each refiner makes of it, and the controls."""

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import partial

import torch
from jaxtyping import Int
from torch import Tensor

from var_exp.refine.base import Refiner, refined_by
from var_exp.refine.controls import (
    edge_map,
    gaussian_map,
    oracle_map,
    random_map,
    same_sparsity,
)
from var_exp.types import Classes, Images, Logits, Maps, Regions
from var_exp.variants import BASE, CONTROLS, RANDOM_CLASSES, SAME_SPARSITY


@dataclass(frozen=True)
class Attributed:
    """Raw maps of one batch and all that its variants are made of.

    Attributes:
        images: [B, C, H, W], normalised.
        ids: B sample ids.
        logits: [B, N].
        classes: [B, K], those that compete.
        random_classes: [B, S], random classes outside the competition; S may be 0, as for the
            samples on which this control is not made.
        maps: [B, K + S, c, H, W], of the competing classes and then of the random_classes.
        shown: How many of the first competing classes have variants.
        regions: [B, A, H, W], where the first A classes are; None when the data does not say.
    """

    images: Images
    ids: Sequence[str]
    logits: Logits
    classes: Classes
    random_classes: Int[Tensor, "B S"]
    maps: Maps
    shown: int
    regions: Regions | None


class Variants(Mapping[str, Maps]):
    """Maps [B, shown, c, H, W] by variant, each made when it is asked for.

    Args:
        attributed: The raw maps.
        refiners: Name of the variant -> refiner.
        controls: Offer the controls as well: those of `CONTROLS`, but for random
            competitors when every class competes already, and the oracle without regions.
        seed: Of the random map.
    """

    def __init__(
        self, attributed: Attributed, refiners: Mapping[str, Refiner], *, controls: bool, seed: int
    ) -> None:
        self._of = attributed
        self._refiners = refiners
        self._seed = seed
        self._made: dict[str, Maps] = {}
        # Functions of this object, not bound to it: a cycle would keep every batch's maps alive
        # until Python looks for cycles, and it does not see how large they are.
        self._makers: dict[str, Callable[[Variants], Maps]] = {BASE: Variants._base}
        self._makers |= {name: partial(Variants._refined, name=name) for name in refiners}
        if controls:
            self._makers |= self._controls()

    def __getitem__(self, name: str) -> Maps:
        if name in self._made:
            return self._made[name]
        maps = self._makers[name](self)
        if name in self._refiners:  # a control asks for them again; the rest is not worth keeping
            self._made[name] = maps
        return maps

    def __iter__(self) -> Iterator[str]:
        return iter(self._makers)

    def __len__(self) -> int:
        return len(self._makers)

    def _base(self) -> Maps:
        return self._of.maps[:, : self._of.shown]

    def _refined(self, name: str) -> Maps:
        of = self._of
        competing = of.maps[:, : of.classes.shape[1]]
        refined = refined_by(self._refiners[name], competing, of.logits.gather(1, of.classes))
        return refined[:, : of.shown].contiguous()  # lets go of the other classes' maps

    def _controls(self) -> "dict[str, Callable[[Variants], Maps]]":
        """Makers of the controls that can be made of this batch, by the name of the variant."""
        impossible = set() if self._of.random_classes.shape[1] else {RANDOM_CLASSES}
        impossible |= {"oracle_map"} if self._of.regions is None else set()
        return {
            control.variant(refiner).name: partial(_MAKERS[control.name], refiner=refiner)
            for control in CONTROLS
            if control.name not in impossible
            for refiner in (self._refiners if control.of_refiner else [""])
        }

    def _size(self) -> tuple[int, ...]:
        """Of the maps of a control that has one channel."""
        return (len(self._of.maps), self._of.shown, 1, *self._of.maps.shape[-2:])

    def _same_sparsity(self, refiner: str) -> Maps:
        return same_sparsity(self[BASE], self[refiner])

    def _random_classes(self, refiner: str) -> Maps:
        """Each shown class against the random ones alone."""
        of = self._of
        outside = of.maps[:, of.classes.shape[1] :]
        against = [
            refined_by(
                self._refiners[refiner],
                torch.cat([of.maps[:, a : a + 1], outside], 1),
                of.logits.gather(1, torch.cat([of.classes[:, a : a + 1], of.random_classes], 1)),
            )[:, :1]
            for a in range(of.shown)
        ]
        return torch.cat(against, 1)

    def _uniform(self, refiner: str) -> Maps:
        return self._of.maps.new_ones(()).expand(self._size())

    def _random(self, refiner: str) -> Maps:
        shown = self._of.classes[:, : self._of.shown]
        height, width = self._of.maps.shape[-2:]
        return random_map(self._of.ids, shown, (height, width), self._seed)

    def _gaussian(self, refiner: str) -> Maps:
        height, width = self._of.maps.shape[-2:]
        return gaussian_map(height, width).to(self._of.maps).expand(self._size())

    def _edges(self, refiner: str) -> Maps:
        return edge_map(self._of.images)[:, None].expand(self._size())

    def _oracle(self, refiner: str) -> Maps:
        regions = self._of.regions
        assert regions is not None  # else it is not offered
        oracle = self._of.maps.new_zeros(self._size())
        oracle[:, : regions.shape[1]] = oracle_map(regions)
        return oracle


_MAKERS: dict[str, Callable[..., Maps]] = {
    SAME_SPARSITY: Variants._same_sparsity,
    RANDOM_CLASSES: Variants._random_classes,
    "uniform_map": Variants._uniform,
    "random_map": Variants._random,
    "gaussian_map": Variants._gaussian,
    "edge_map": Variants._edges,
    "oracle_map": Variants._oracle,
}
"""How each control of `var_exp.variants.CONTROLS` is made."""
