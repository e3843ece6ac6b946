"""What the competing classes share: evidence for all of them, as far as none of them has won it.

    S = min_k max(A_k, 0) · H(M) / ln K

The first factor is the part of the evidence that every class has (the intersection of fuzzy sets,
Zadeh 1965); the second how undecided the competition is there, the entropy H of the classes' shares
M (see `refine.var`) over that of equal shares. So S is the common evidence where the classes are
level, and fades to 0 as one of them takes the place; it is 0 where some class has no evidence of
its own. It is the same for every class, and what a refined map leaves out.
"""

import math
from dataclasses import dataclass, field

from jaxtyping import Float
from torch import Tensor

from var_exp.refine.base import check_maps
from var_exp.refine.var import VAR, entropy_map
from var_exp.types import Maps


@dataclass(frozen=True)
class SharedEvidence:
    """What speaks for all K classes and is won by none, in place of each class's own map.

    Args:
        competition: How the classes compete; only its shares count.
    """

    competition: VAR = field(default_factory=VAR.scaled)
    channels = "sum"

    def __call__(
        self, maps: Maps, logits: Float[Tensor, "B K"] | None = None
    ) -> Float[Tensor, "B K 1 H W"]:
        """Return the shared evidence once for each class; logits are not used.

        Raises:
            ValueError: fewer than two classes.
        """
        shared = shared_evidence(maps, self.competition)
        return shared[:, None, None].expand(-1, maps.shape[1], 1, -1, -1).contiguous()


def shared_evidence(maps: Maps, competition: VAR | None = None) -> Float[Tensor, "B H W"]:
    """What speaks for all K classes and is won by none.

    Args:
        maps: [B, K, c, H, W], raw and signed; channels are summed, after they have competed as the
            settings say. K >= 2.
        competition: Settings of the class competition; None is `VAR.scaled()`.

    Returns:
        [B, H, W], at least 0, in the units and dtype of the maps: at most the smallest of the
        classes' positive parts, which is reached where all shares are equal. NaN where a map is.

    Raises:
        ValueError: fewer than two classes.

    Examples:
        >>> import torch
        >>> maps = torch.tensor([[2.0, 2.0, 2.0, 0.0], [2.0, 0.0, -1.0, 0.0]]).view(1, 2, 1, 1, 4)
        >>> shared_evidence(maps).flatten()
        tensor([2., 0., 0., 0.])
    """
    check_maps(maps)
    shares = (competition or VAR.scaled()).distribution(maps).mean(2, keepdim=True)
    undecided = entropy_map(shares)[:, 0] / math.log(maps.shape[1])
    common = maps.sum(2).clamp_min(0).amin(1)
    return (common * undecided.clamp(0, 1)).to(maps.dtype)
