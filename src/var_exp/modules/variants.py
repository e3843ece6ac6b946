"""The variants of one batch of maps: the base, what each refiner makes of it, and the controls."""

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import partial

import torch
from jaxtyping import Int
from torch import Tensor

from var_exp.refine.base import Refiner
from var_exp.refine.controls import (
    edge_map,
    gaussian_map,
    oracle_map,
    random_map,
    same_sparsity,
)
from var_exp.report.statistics import BASE, RANDOM_CLASSES, SAME_SPARSITY
from var_exp.types import Classes, Images, Logits, Maps, Regions

_PLAIN_CONTROLS = ("uniform_map", "random_map", "gaussian_map", "edge_map", "oracle_map")


def control_names(refiners: Sequence[str]) -> list[str]:
    """Names of the control variants that go with these refiners."""
    competition = [name + kind for name in refiners for kind in (SAME_SPARSITY, RANDOM_CLASSES)]
    return [*competition, *_PLAIN_CONTROLS]


@dataclass(frozen=True)
class Attributed:
    """Raw maps of one batch and all that its variants are made of.

    Attributes:
        images: [B, C, H, W], normalised.
        ids: B sample ids.
        logits: [B, N].
        classes: [B, K], those that compete.
        strangers: [B, S], random classes outside the competition; S may be 0.
        maps: [B, K + S, c, H, W], of the competing classes and then of the strangers.
        shown: How many of the first competing classes have variants.
        regions: [B, A, H, W], where the first A classes are; None when the data does not say.
    """

    images: Images
    ids: Sequence[str]
    logits: Logits
    classes: Classes
    strangers: Int[Tensor, "B S"]
    maps: Maps
    shown: int
    regions: Regions | None


class Variants(Mapping[str, Maps]):
    """Maps [B, shown, c, H, W] by variant, each made when it is asked for.

    Args:
        attributed: The raw maps.
        refiners: Name of the variant -> refiner.
        controls: Offer the controls as well: those named by `control_names`, but for random
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
        refined = self._refiners[name](competing, of.logits.gather(1, of.classes))
        return refined[:, : of.shown].contiguous()  # lets go of the other classes' maps

    def _controls(self) -> "dict[str, Callable[[Variants], Maps]]":
        of = self._of
        height, width = of.maps.shape[-2:]
        size = (len(of.maps), of.shown, 1, height, width)
        shown = of.classes[:, : of.shown]
        makers: dict[str, Callable[[Variants], Maps]] = {}
        for name in self._refiners:
            makers[name + SAME_SPARSITY] = partial(Variants._same_sparsity, name=name)
            if of.strangers.shape[1]:
                makers[name + RANDOM_CLASSES] = partial(Variants._random_classes, name=name)
        makers["uniform_map"] = lambda _: of.maps.new_ones(()).expand(size)
        makers["random_map"] = lambda my: random_map(of.ids, shown, (height, width), my._seed)
        makers["gaussian_map"] = lambda _: gaussian_map(height, width).to(of.maps).expand(size)
        makers["edge_map"] = lambda _: edge_map(of.images)[:, None].expand(size)
        if of.regions is not None:
            makers["oracle_map"] = partial(Variants._oracle, regions=of.regions, size=size)
        return makers

    def _same_sparsity(self, name: str) -> Maps:
        return same_sparsity(self[BASE], self[name])

    def _random_classes(self, name: str) -> Maps:
        """Each shown class against the strangers alone."""
        of = self._of
        outside = of.maps[:, of.classes.shape[1] :]
        against = [
            self._refiners[name](
                torch.cat([of.maps[:, a : a + 1], outside], 1),
                of.logits.gather(1, torch.cat([of.classes[:, a : a + 1], of.strangers], 1)),
            )[:, :1]
            for a in range(of.shown)
        ]
        return torch.cat(against, 1)

    def _oracle(self, regions: Regions, size: tuple[int, ...]) -> Maps:
        oracle = self._of.maps.new_zeros(size)
        oracle[:, : regions.shape[1]] = oracle_map(regions)
        return oracle
