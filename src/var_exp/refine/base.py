"""What every refiner is: finished maps of K competing classes in, the same maps refined out."""

import inspect
from typing import Protocol, runtime_checkable

from jaxtyping import Float
from torch import Tensor

from var_exp.types import ConfigError, Maps


@runtime_checkable
class Refiner(Protocol):
    """A refiner has options in its constructor and no state; each class is refined as the target.

    What is not finite in a map is not finite in the refined map either: nothing is patched.
    """

    def __call__(
        self, maps: Maps, logits: Float[Tensor, "B K"] | None = None
    ) -> Float[Tensor, "B K _ H W"]:
        """Refine the maps [B, K, c, H, W]; logits [B, K] are those of the K classes."""
        ...


def refined_by(refiner: Refiner, maps: Maps, logits: Float[Tensor, "B K"]) -> Maps:
    """What a refiner makes of maps; one whose `__call__` takes the maps alone gets no logits."""
    return refiner(maps, logits) if takes_logits(refiner) else refiner(maps)


def takes_logits(refiner: Refiner) -> bool:
    """Whether a refiner can be handed logits beside the maps.

    Raises:
        ConfigError: it can be handed neither both nor the maps alone.
    """
    signature = inspect.signature(getattr(refiner, "forward", refiner))  # of a torch module
    for arguments in ((None, None), (None,)):
        try:
            signature.bind(*arguments)
        except TypeError:
            continue
        return len(arguments) == 2
    raise ConfigError(
        f"{type(refiner).__name__} must be called with maps, or with maps and logits, but takes "
        f"{signature}; give what it needs beyond them to its constructor."
    )


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
