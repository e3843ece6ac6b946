"""What every refiner is: finished maps of K competing classes in, the same maps refined out."""

from typing import Protocol

from jaxtyping import Float
from torch import Tensor

from var_exp.types import Maps


class Refiner(Protocol):
    """A refiner has options in its constructor and no state; each class is refined as the target.

    What is not finite in a map is not finite in the refined map either: nothing is patched.
    """

    def __call__(
        self, maps: Maps, logits: Float[Tensor, "B K"] | None = None
    ) -> Float[Tensor, "B K _ H W"]:
        """Refine the maps [B, K, c, H, W]; logits [B, K] are those of the K classes."""
        ...


def check_maps(maps: Tensor) -> None:
    """Refuse what cannot compete.

    Raises:
        ValueError: maps are not [B, K, c, H, W] with K >= 2, or not floating point.
    """
    if maps.ndim != 5 or not maps.is_floating_point():
        raise ValueError(
            f"maps must be a float tensor [B, K, c, H, W], got {maps.dtype} of shape "
            f"{list(maps.shape)}; pass what method.attribute returns."
        )
    if maps.shape[1] < 2:
        raise ValueError(
            f"at least two classes must compete, got K={maps.shape[1]}; "
            "ask for more classes or add competitors with a class rule such as top_k."
        )
