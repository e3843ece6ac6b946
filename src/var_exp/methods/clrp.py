"""Contrastive layer-wise relevance propagation (CLRP): relevance beyond that of all other classes.

    CLRP_c = max(0, R_c - R_dual)

R_c starts from |y_c| at logit c, R_dual from the same amount spread evenly over all other logits
(CLRP1 of Gu et al. 2018, arXiv 1812.02100). The z_plus rule holds in all layers, the dense ones
too.

Departures from the paper: layers on the image get the flat rule, not z_box, which needs the range
of pixels and differs only within the reach of one such layer. R_dual is scaled to the sum of R_c,
as in the authors' code: biases absorb more of one than of the other. The amount is |y_c|, as in
that code, so that a class with a negative logit is not explained by its opposite.
Cost: one forward and 2 K backward passes, with those of `lrp`.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import ClassVar

import torch
from jaxtyping import Float
from torch import Tensor, nn
from torch.nn.functional import one_hot

from var_exp.engine.relevance.calls import Composite
from var_exp.engine.relevance.propagation import class_relevance, relevance
from var_exp.engine.relevance.rules import flat, stabilised, z_plus
from var_exp.engine.scores import class_scores
from var_exp.methods.method import Method
from var_exp.types import Classes, Images, Logits, Maps, UnsupportedModel


@dataclass(frozen=True)
class CLRP(Method):
    """Positive part of what class c has more than the mean of the other classes; never negative.

    Raises:
        UnsupportedModel: by `check` and `attribute`, when the model has attention, a single logit,
            or computes something that has no rule.
    """

    invariant_to_folding: ClassVar[bool] = True  # relevance merges batch norm itself

    def _look(self, model: nn.Module, image: Images) -> Logits:
        """Refuse a model with attention, or with something that has no rule."""
        one = torch.zeros(1, 2, dtype=torch.int64)
        return class_relevance(model, image, one, plus_flat(), _start).logits

    def _attribute(
        self, model: nn.Module, images: Images, classes: Classes, ids: Sequence[str | None]
    ) -> Maps:
        both = relevance(model, images, classes.repeat(1, 2), plus_flat(), _start)
        target, dual = both.chunk(2, dim=1)
        target_sum, dual_sum = (part.sum((2, 3, 4), keepdim=True) for part in (target, dual))
        return (target - dual * (target_sum / stabilised(dual_sum, 1e-12))).clamp_(min=0)


def plus_flat() -> Composite:
    """z_plus in all layers but those on the image, which spread relevance evenly."""
    rule = z_plus()
    return Composite(flat(), rule, rule, rule, attention=False)


def _start(logits: Logits, classes: Classes) -> Float[Tensor, "B K N"]:
    """Relevance of the logits: first for the K classes themselves, then for their duals."""
    n_classes = logits.shape[1]
    if n_classes < 2:
        raise UnsupportedModel("the model has a single logit, nothing to contrast; use method=lrp.")
    amount = class_scores(logits, classes).abs()[:, :, None]
    chosen = one_hot(classes.to(logits.device), n_classes).to(logits)
    target, dual = (amount * chosen).chunk(2, 1)[0], (amount * (1 - chosen)).chunk(2, 1)[1]
    return torch.cat([target, dual / (n_classes - 1)], dim=1)
