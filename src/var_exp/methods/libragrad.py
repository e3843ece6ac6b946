"""LibraGrad: input times a gradient whose backward paths are pruned and scaled to be in balance.

    φ_c = x · g_c,     g_c = ∂ y_c / ∂ x by the rules of `engine.balanced`

Mehri et al. 2025 (CVPR), arXiv 2411.16760, and their code; of the gradient methods that they
balance this is input times gradient. With the biases' part, bias · g_c, it sums to the logit: in a
network without biases and positions, the map alone does.

Departures from the paper, which is about GELU, SiLU, gated products and layer normalisation: the
rule of x · gate(x) holds for every activation, f(x) / x being its gate; a gate by a sigmoid
(squeeze-and-excitation) is a constant. What has no rule is refused. The authors' evaluation also
suppresses opposing signs in the patch embedding and starts at the probability; neither is here.
Cost: one forward and K backward passes.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import nn

from var_exp.engine.balanced import balanced_gradients
from var_exp.methods.method import Method
from var_exp.types import Classes, Images, Logits, Maps


@dataclass(frozen=True)
class LibraGrad(Method):
    """Input times balanced gradient, for networks with attention, normalisation or smooth bends.

    Raises:
        UnsupportedModel: by `check` and `attribute`, when the model has nothing to balance, or
            computes something that has no rule.
    """

    def _look(self, model: nn.Module, image: Images) -> Logits:
        """Refuse a model with nothing to balance, or with something that has no rule."""
        return balanced_gradients(model, image, torch.zeros(1, 1, dtype=torch.int64)).logits

    def _attribute(
        self, model: nn.Module, images: Images, classes: Classes, ids: Sequence[str | None]
    ) -> Maps:
        return balanced_gradients(model, images, classes).gradients.mul_(images[:, None])
