"""AttnLRP: layer-wise relevance propagation for networks with attention.

    matrix product A B       half of R to A, half to B, each by the epsilon rule
    softmax s(x)             R_i = x_i (R_i - s_i Σ_j R_j), its deep Taylor decomposition
    layer normalisation      the standard deviation is a constant
    activation f(x)          R passes unchanged

(Achtibat et al. 2024, arXiv 2402.05602), and the gamma rule for linear layers and convolutions,
which the paper takes for vision transformers against their noise and tunes per model; the default
values are among those of the authors' example for ViT-B/16. The first layer has that rule too.

Departure from the paper: in a product with a gate (sigmoid, softmax) the signal takes all, as in
`lrp`. Cost: F + K · B with F and B more than a forward and backward pass, since the gamma rule
doubles the work of layers: 2.9 times the gradient's time (K = 4).
"""

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import nn

from var_exp.engine.relevance import rules as rules
from var_exp.engine.relevance.calls import Composite
from var_exp.engine.relevance.propagation import class_relevance, relevance
from var_exp.methods.method import Method
from var_exp.types import Classes, Images, Logits, Maps


@dataclass(frozen=True)
class AttnLRP(Method):
    """Relevance of every pixel for the logit, through attention.

    Args:
        gamma_linear: Extra weight, in linear layers, of contributions that agree with the output's
            sign; >= 0, 0 is the epsilon rule.
        gamma_convolution: The same in convolutions, such as the patch embedding.

    Raises:
        ValueError: a negative option.
        UnsupportedModel: by `check` and `attribute`, when the model has no attention, or computes
            something that has no rule.
    """

    gamma_linear: float = 0.05
    gamma_convolution: float = 0.25

    def __post_init__(self) -> None:
        super().__post_init__()
        for name, value in [
            ("gamma_linear", self.gamma_linear),
            ("gamma_convolution", self.gamma_convolution),
        ]:
            if value < 0:
                raise ValueError(f"{name} must not be negative, got {value}; set {name}=0.")

    def _look(self, model: nn.Module, image: Images) -> Logits:
        """Refuse a model without attention, or with something that has no rule."""
        one = torch.zeros(1, 1, dtype=torch.int64)
        return class_relevance(model, image, one, self._rules()).logits

    def _attribute(
        self, model: nn.Module, images: Images, classes: Classes, ids: Sequence[str | None]
    ) -> Maps:
        return relevance(model, images, classes, self._rules())

    def _rules(self) -> Composite:
        linear, convolution = rules.gamma(self.gamma_linear), rules.gamma(self.gamma_convolution)
        return Composite(
            first=convolution, convolution=convolution, tokens=linear, dense=linear, attention=True
        )
