"""One batch attributed again, under another model or other pictures, for all variants at once."""

from collections.abc import Callable, Hashable
from dataclasses import replace
from typing import Any, TypeVar

import torch
from jaxtyping import Float
from torch import Tensor, nn

from var_exp.methods import Method
from var_exp.metrics.reattribution import Change
from var_exp.modules.variants import Attributed, Variants

Result = TypeVar("Result")


class Reattribution:
    """Attributes a batch again and remembers it; see `var_exp.metrics.reattribution.Reattribute`.

    Remembered are the raw maps of one batch, for every key; so the base is attributed once for all
    variants and metrics. Classes, competitors and ids stay those of the batch.

    Args:
        method: Attribution method.
        model: The model as it is.
        variants: From raw maps to their variants.
        as_given: What changes start from; where one leaves it as it is, the model itself is asked.
    """

    def __init__(
        self,
        method: Method,
        model: nn.Module,
        variants: Callable[[Attributed], Variants],
        as_given: nn.Module | None = None,
    ) -> None:
        self._method = method
        self._model = model
        self._as_given = model if as_given is None else as_given
        self._variants = variants
        self._kept: dict[Hashable, Any] = {}
        self._batch: Attributed | None = None
        self._changed: dict[Hashable, Attributed] = {}

    def of(self, batch: Attributed, variant: str, asked: int) -> "VariantReattribution":
        """What the metrics of one variant are handed, of the first `asked` classes."""
        if batch is not self._batch:
            self._batch, self._changed = batch, {}
        return VariantReattribution(self, variant, asked)

    def forget(self) -> None:
        """Drop the batch."""
        self._batch, self._changed = None, {}

    def once(self, key: Hashable, make: Callable[[], Result]) -> Result:
        """Something for all batches, made when it is first asked for."""
        if key not in self._kept:
            self._kept[key] = make()
        kept: Result = self._kept[key]
        return kept

    def changed(self, key: Hashable, change: Change | None) -> Attributed:
        """The batch after a change, or as it is."""
        assert self._batch is not None  # `of` hands this out with a batch
        if change is None:
            return self._batch
        if key not in self._changed:
            self._changed[key] = self._attribute(self._batch, change)
        return self._changed[key]

    def variant(self, key: Hashable, change: Change, name: str) -> Tensor:
        """Maps [B, shown, c, H, W] of one variant after a change."""
        return self._variants(self.changed(key, change))[name]

    def _attribute(self, batch: Attributed, change: Change) -> Attributed:
        model, images = change(self._as_given, batch.images, batch.ids)
        model = self._model if model is self._as_given else model
        with torch.no_grad():
            logits = model(images)
        every = torch.cat([batch.classes, batch.random_classes], 1)
        maps = self._method.attribute(model, images, every, ids=batch.ids)
        return replace(batch, images=images, logits=logits, maps=maps)


class VariantReattribution:
    """The part of a `Reattribution` that belongs to one variant; row n is class n % asked.

    It remembers the variant's maps, so one is given to all metrics of the variant and then dropped.
    """

    def __init__(self, of: Reattribution, variant: str, asked: int) -> None:
        self._of = of
        self._variant = variant
        self._asked = asked
        self._made: dict[Hashable, Tensor] = {}

    def maps(self, key: Hashable, change: Change) -> Float[Tensor, "N c H W"]:
        """Maps of the N rows of the update after a change; `change` runs once for a key."""
        if key not in self._made:
            maps = self._of.variant(key, change, self._variant)
            self._made[key] = maps[:, : self._asked].flatten(0, 1)
        return self._made[key]

    def logits(
        self, key: Hashable = None, change: Change | None = None
    ) -> Float[Tensor, "N classes"]:
        """Logits that go with these maps; without a change those of the batch as it is."""
        return self._of.changed(key, change).logits.repeat_interleave(self._asked, 0)

    def once(self, key: Hashable, make: Callable[[], Result]) -> Result:
        """Something for all batches of the run, made when it is first asked for."""
        return self._of.once(key, make)
