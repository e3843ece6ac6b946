"""Contrast: the map of the target minus a mean of the other classes' maps.

    V_t = A_t - sum_{s != t} w_ts A_s        the weights of each target's competitors sum to 1

Source: Wang & Wang, "Why Not Other Classes? Towards Class-Contrastive Back-Propagation
Explanations", NeurIPS 2022. There the competitors are all other classes of the model, here the
other classes of the competing set.
"""

from dataclasses import dataclass
from typing import Literal, get_args

import torch
from jaxtyping import Float
from torch import Tensor

from var_exp.refine.base import check_maps
from var_exp.types import Maps

Weights = Literal["weighted", "mean", "max"]


@dataclass(frozen=True)
class Contrast:
    """Subtract the competitors.

    Args:
        against: How the competitors are weighted: "weighted" by the softmax of the competitors'
            logits; "mean" all alike; "max" only the competitor with the highest logit (competitors
            that tie for it share the weight).

    Raises:
        ValueError: an unknown weighting.
    """

    against: Weights = "weighted"

    def __post_init__(self) -> None:
        if self.against not in get_args(Weights):
            raise ValueError(
                f"against must be one of {', '.join(get_args(Weights))}, got '{self.against}'."
            )

    def __call__(self, maps: Maps, logits: Float[Tensor, "B K"] | None = None) -> Maps:
        """Refine the maps of all K classes.

        Args:
            maps: [B, K, c, H, W], raw and signed.
            logits: [B, K] of the K classes; needed unless against="mean".

        Returns:
            [B, K, c, H, W] in the dtype of the maps.

        Raises:
            ValueError: fewer than two classes, or no logits where they are needed.
        """
        check_maps(maps)
        contrast = maps.to(torch.promote_types(maps.dtype, torch.float32), copy=True)
        weights = self._weights(maps, logits).to(contrast.dtype)
        # K fused passes rather than one matmul: autocast would do a matmul in half precision.
        for competitor in range(maps.shape[1]):
            weight = weights[:, :, competitor, None, None, None]
            contrast.addcmul_(weight, maps[:, competitor, None].to(contrast.dtype), value=-1)
        return contrast.to(maps.dtype)

    def _weights(self, maps: Maps, logits: Tensor | None) -> Float[Tensor, "B K K"]:
        """Weight of competitor s (last axis) for target t; rows sum to 1, the diagonal is 0."""
        count = maps.shape[1]
        if self.against == "mean":
            logits = maps.new_zeros(maps.shape[:2])
        elif logits is None:
            raise ValueError(
                f"contrast against '{self.against}' needs the logits [B, K] of the competing "
                "classes, got None; pass logits=model(images).gather(1, classes)."
            )
        itself = torch.eye(count, dtype=torch.bool, device=maps.device)
        competitors = logits.double()[:, None].expand(-1, count, -1).masked_fill(itself, -torch.inf)
        if self.against == "max":
            strongest = (competitors == competitors.amax(-1, keepdim=True)).double()
            return strongest / strongest.sum(-1, keepdim=True)
        return competitors.softmax(-1)
