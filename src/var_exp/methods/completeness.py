"""By how much maps miss the sum that their method promises (`Method.sums`)."""

import torch
from jaxtyping import Float
from torch import Tensor, nn

from var_exp.engine.scores import check_logits, class_scores
from var_exp.models.frozen import frozen
from var_exp.types import Classes, Images, Logits, Maps


def completeness_error(maps: Maps, classes: Classes, sums: Logits) -> Float[Tensor, "B K"]:
    """How far maps are from their sums.

        (Σ φ_c - S_c) / |S_c|

    0 is complete, ±0.05 is 5 % too much or too little; infinite or NaN where the sum should be 0.

    Args:
        maps: [B, K, c, H, W].
        classes: [B, K] int64.
        sums: [B, N], what a map of each class should sum to.

    Returns:
        [B, K], signed share of the sum.

    Raises:
        ValueError: a class beyond the N.
    """
    expected = class_scores(sums, classes)
    return (maps.sum(dim=(2, 3, 4)) - expected) / expected.abs()


def change_from_zero(model: nn.Module, images: Images, logits: Logits) -> Logits:
    """y(x) - y(0), the sum of a method with the zero baseline; one forward pass of the baseline."""
    with torch.no_grad(), frozen(model):
        change: Tensor = logits - check_logits(model(torch.zeros_like(images[:1])))
    return change
