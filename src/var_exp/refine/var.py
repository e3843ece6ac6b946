"""VAR: at every location the K classes compete, and a map keeps what its class wins.

    M_c = exp(T m(A_c)) / sum_k exp(T m(A_k))      share of class c, per location
    V_c = A_c * M_c * 1[M_c - 1/K > tau]           signed map x share x gate

with A_c the raw map of class c and m the magnitude (|A| in the paper's code). One softmax serves
all K refined maps.

Source: Walter et al., "Hidden in Plain Sight: Class Competition Focuses Attribution Maps", arXiv
2503.07346. The defaults are the published code (T = 10, |A|, tau = 0.01, per channel, no scaling);
the published formula leaves |.| and T out.
"""

import math
from dataclasses import dataclass
from typing import Literal, get_args

import torch
from jaxtyping import Float, Int
from torch import Tensor

from var_exp.refine.base import check_maps
from var_exp.types import Maps

Magnitude = Literal["abs", "signed", "positive"]
Scale = Literal["none", "max", "rms", "class_rms"]
Channels = Literal["separate", "sum"]


@dataclass(frozen=True)
class VAR:
    """Class competition by a softmax over the classes and a gate above the uniform share.

    Without scaling the result depends on the units of the maps: with the competitors at 0 a value
    survives only if |A| > tau K^2 / ((K - 1) T), so small maps come out all zero and large ones
    become a hard argmax.

    Args:
        temperature: T > 0; multiplies the magnitude inside the softmax, so larger is harder.
        tau: Share above 1/K that a class must exceed to be kept; 0 <= tau < 1.
        magnitude: What competes: "abs" |A|, so that strong evidence against a class counts as
            much as evidence for it; "signed" A; "positive" max(A, 0).
        scale: Divides A inside the softmax (never the A that is kept). "max" and "rms" of |A| over
            classes, channels and pixels are one number per image, shared by its K maps;
            "class_rms" is that of each class's own map, for methods whose maps differ in size
            from class to class for other reasons than evidence; "none" leaves the units. All-zero
            maps stay zero.
        channels: "separate" lets every channel of every pixel compete; "sum" adds the channels
            first, and the refined maps have one channel.

    Raises:
        ValueError: an option out of its range.

    Examples:
        >>> maps = torch.zeros(1, 2, 1, 1, 2)
        >>> maps[0, 0, 0, 0, 0] = 1.0  # the first class alone has something, at the first pixel
        >>> VAR()(maps)[0, :, 0, 0]
        tensor([[1.0000, 0.0000],
                [0.0000, 0.0000]])
    """

    temperature: float = 10.0
    tau: float = 0.01
    magnitude: Magnitude = "abs"
    scale: Scale = "none"
    channels: Channels = "separate"

    @classmethod
    def scaled(cls) -> "VAR":
        """The setting that no unit of the maps can spoil: conf/refine/var_scaled.yaml."""
        return cls(temperature=3.0, magnitude="signed", scale="rms", channels="sum")

    def __post_init__(self) -> None:
        if not 0.0 < self.temperature < math.inf:
            raise ValueError(
                f"temperature must be positive and finite, got {self.temperature}; "
                "the paper uses 10."
            )
        if not 0.0 <= self.tau < 1.0:
            raise ValueError(f"tau must be in [0, 1), got {self.tau}; the paper uses 0.01.")
        options = {"magnitude": Magnitude, "scale": Scale, "channels": Channels}
        for name, allowed in options.items():
            value, known = getattr(self, name), get_args(allowed)
            if value not in known:
                raise ValueError(f"{name} must be one of {', '.join(known)}, got '{value}'.")

    def __call__(
        self, maps: Maps, logits: Float[Tensor, "B K"] | None = None
    ) -> Float[Tensor, "B K _ H W"]:
        """Refine the maps of all K classes at once.

        Args:
            maps: [B, K, c, H, W], raw and signed.
            logits: Not used.

        Returns:
            [B, K, c, H, W] (c = 1 with channels="sum") in the dtype of the maps.

        Raises:
            ValueError: fewer than two classes.
        """
        shares = self.distribution(maps)
        if self.channels == "sum":
            maps = maps.sum(2, keepdim=True)
        gate = shares - 1 / maps.shape[1] > self.tau
        # Products rather than torch.where: what is not finite must stay visible.
        return shares.mul_(maps).mul_(gate).to(maps.dtype)

    def distribution(self, maps: Maps) -> Float[Tensor, "B K _ H W"]:
        """Shares M of the classes, [B, K, c, H, W]; see `class_distribution`."""
        return class_distribution(maps, self.temperature, self.magnitude, self.scale, self.channels)


def class_distribution(
    maps: Maps,
    temperature: float = 10.0,
    magnitude: Magnitude = "abs",
    scale: Scale = "none",
    channels: Channels = "separate",
) -> Float[Tensor, "B K _ H W"]:
    """Share of every class at every location, summing to 1 over the classes.

    Args:
        maps: [B, K, c, H, W], raw and signed; K >= 2.
        temperature: See `VAR`, as the other options.
        magnitude: What competes.
        scale: Unit of the maps inside the softmax.
        channels: Whether channels compete separately or summed.

    Returns:
        [B, K, c, H, W] (c = 1 with channels="sum"), float32 or float64, each in [0, 1].

    Raises:
        ValueError: fewer than two classes, or an option out of its range.
    """
    check_maps(maps)
    VAR(temperature, 0.0, magnitude, scale, channels)  # refuses what it does not know
    if channels == "sum":
        maps = maps.sum(2, keepdim=True)
    maps = maps.to(torch.promote_types(maps.dtype, torch.float32))
    if magnitude == "signed":
        strength = maps.clone()
    else:
        strength = maps.abs() if magnitude == "abs" else maps.clamp_min(0)
    if scale != "none":
        strength /= _unit(maps, scale)
    return strength.mul_(temperature).softmax(dim=1)


def winner_map(shares: Float[Tensor, "B K c H W"]) -> Int[Tensor, "B c H W"]:
    """Index k of the class with the largest share at every location.

    Args:
        shares: [B, K, c, H, W], as `class_distribution` returns them.

    Returns:
        [B, c, H, W] int64 in 0..K-1, or -1 where several classes share the first place.
    """
    best, winners = shares.max(dim=1)
    alone = (shares == best[:, None]).sum(dim=1) == 1
    return torch.where(alone, winners, -1)


def entropy_map(shares: Float[Tensor, "B K c H W"]) -> Float[Tensor, "B c H W"]:
    """Entropy of the class distribution at every location, in nats.

    Args:
        shares: [B, K, c, H, W], as `class_distribution` returns them.

    Returns:
        [B, c, H, W] from 0 (one class has it all) to ln K (nobody stands out).
    """
    entropy: Tensor = torch.special.entr(shares).sum(dim=1)
    return entropy


def _unit(maps: Maps, scale: Literal["max", "rms", "class_rms"]) -> Float[Tensor, "B _ 1 1 1"]:
    """Max or root mean square of |A| of an image, or of each of its classes; 1 where that is 0."""
    dims = (2, 3, 4) if scale == "class_rms" else (1, 2, 3, 4)
    if scale == "max":
        size = maps.abs().amax(dims, keepdim=True)
    else:  # in float64, for squares of small maps vanish in float32
        size = maps.double().square().mean(dims, keepdim=True).sqrt().to(maps.dtype)
    return torch.where(size != 0, size, torch.ones_like(size))
