"""CGI, competition for pixels: a class keeps the values with which it beats all others.

    keep A_c where A_c > 0 and A_c = max_k A_k, or A_c < 0 and A_c = min_k A_k; 0 elsewhere

Source: Gupta & Arora, "A Simple Saliency Method That Passes the Sanity Checks", arXiv 1905.12152
(there on gradient x input; here on any map, per channel).
"""

from dataclasses import dataclass

import torch
from jaxtyping import Float
from torch import Tensor

from var_exp.refine.base import check_maps
from var_exp.types import Maps


@dataclass(frozen=True)
class CGI:
    """Winner takes all per location: the most positive and the most negative class keep theirs.

    Classes that tie for a place all keep their value.
    """

    def __call__(self, maps: Maps, logits: Float[Tensor, "B K"] | None = None) -> Maps:
        """Refine the maps [B, K, c, H, W] of all K classes; logits are not used.

        Raises:
            ValueError: fewer than two classes.
        """
        check_maps(maps)
        highest = maps.amax(1, keepdim=True)
        lowest = maps.amin(1, keepdim=True)
        keep = ((maps > 0) & (maps == highest)) | ((maps < 0) & (maps == lowest))
        # The losers get 0, or NaN where a competitor is not finite.
        return torch.where(keep, maps, 0 * highest + 0 * lowest)
