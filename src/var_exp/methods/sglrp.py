"""Softmax-gradient layer-wise relevance propagation (SGLRP): all classes compete from the start.

    R_n = d p_c / d y_n = p_c (1 - p_c) at n = c, -p_c p_n at every other logit n

with the softmax p of the logits y (Iwana et al. 2019, arXiv 1908.04351), and the z_plus rule in all
layers. Where p_c nears 1 all of it vanishes together: 1 - p_c is computed as Σ_(n≠c) p_n, so that
the map keeps its pattern.

Departure from the paper: layers on the image get the flat rule, not z_box, as in `clrp`. Cost: one
forward and K backward passes, with those of `lrp`.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import ClassVar

import torch
from jaxtyping import Float
from torch import Tensor, nn
from torch.nn.functional import one_hot

from var_exp.engine.relevance.propagation import class_relevance, relevance
from var_exp.engine.scores import class_scores
from var_exp.methods.clrp import plus_flat
from var_exp.methods.method import Method
from var_exp.types import Classes, Images, Logits, Maps


@dataclass(frozen=True)
class SGLRP(Method):
    """Relevance of the softmax probability's gradient; signed, negative where others win.

    Raises:
        UnsupportedModel: by `check` and `attribute`, when the model has attention, or computes
            something that has no rule.
    """

    invariant_to_folding: ClassVar[bool] = True  # relevance merges batch norm itself

    def _look(self, model: nn.Module, image: Images) -> Logits:
        """Refuse a model with attention, or with something that has no rule."""
        one = torch.zeros(1, 1, dtype=torch.int64)
        return class_relevance(model, image, one, plus_flat(), _start).logits

    def _attribute(
        self, model: nn.Module, images: Images, classes: Classes, ids: Sequence[str | None]
    ) -> Maps:
        return relevance(model, images, classes, plus_flat(), _start)


def _start(logits: Logits, classes: Classes) -> Float[Tensor, "B K N"]:
    """Gradient of the probabilities p_c with respect to the logits."""
    probabilities = logits.softmax(1)
    chosen = one_hot(classes.to(logits.device), logits.shape[1]).to(logits)
    others = probabilities[:, None] * (1 - chosen)
    change = chosen * others.sum(2, keepdim=True) - others
    return change * class_scores(probabilities, classes)[:, :, None]
