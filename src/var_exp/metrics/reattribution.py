"""What a measure is handed that must see the maps again, under another model or other pictures."""

from collections.abc import Callable, Hashable, Sequence
from typing import Protocol, TypeAlias, TypeVar, runtime_checkable

from jaxtyping import Float
from torch import Tensor, nn

from var_exp.types import Images

Result = TypeVar("Result")
Change: TypeAlias = Callable[[nn.Module, Images, Sequence[str]], tuple[nn.Module, Images]]
"""From the model, the batch's pictures [B, C, H, W] and their ids to the model and the pictures
that are to be attributed instead."""


@runtime_checkable
class Reattribute(Protocol):
    """The maps of one variant, attributed again for the same samples and the same classes.

    A metric whose `update` takes `reattribute` is handed one. What it asks for is known by a key:
    all variants and metrics that ask for one key share the attribution. A control that never sees
    the model gives its own map again, and so is the control of the check.
    """

    def maps(self, key: Hashable, change: Change) -> Float[Tensor, "N c H W"]:
        """Maps of the N rows of the update after a change; `change` runs once for a key."""
        ...

    def logits(
        self, key: Hashable = None, change: Change | None = None
    ) -> Float[Tensor, "N classes"]:
        """Logits that go with these maps; without a change those of the batch as it is."""
        ...

    def once(self, key: Hashable, make: Callable[[], Result]) -> Result:
        """Something for all batches of the run, made when it is first asked for."""
        ...
