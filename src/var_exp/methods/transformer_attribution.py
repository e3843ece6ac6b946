"""Transformer attribution: attention matrices weighted by their gradient, rolled out.

    R ← R + Ā_l R,  l = 1 … L, from R = I,   Ā_l = mean_heads relu(∂y_c/∂A_l ⊙ A_l)

The map is the row of the class token in R, at the patch tokens. Chefer, Gur & Wolf 2021, "Generic
attention-model explainability", arXiv 2103.15679, for self-attention.

Departures from the paper, which reads the class token alone: where the logits read several prefix
tokens (DeiT's distillation token) or the average of the patch tokens, the map is the mean of their
rows of R − I; I would add the same constant to every class and every place. At the class token the
two are the same. Bilinear upsampling. Cost: one forward and K backward passes, plus what
`engine.attention.find_tokens` costs on one image.
"""

from collections.abc import Sequence
from dataclasses import dataclass

from torch import Tensor, nn

from var_exp.engine.attention import attention_matrices, find_tokens, mean_of_heads
from var_exp.engine.gradients import reduced_gradients
from var_exp.methods.method import Method
from var_exp.types import Classes, Images, Maps


@dataclass(frozen=True)
class TransformerAttribution(Method):
    """Relevance of the patch tokens for the read-out, through what speaks for the class.

    Non-negative; one map channel.

    Raises:
        UnsupportedModel: by `check` and `attribute`, when the model is no plain vision transformer;
            see `engine.attention`.
    """

    def _check(self, model: nn.Module, image: Images) -> None:
        """Refuse a model that is no chain of attention over the same tokens."""
        find_tokens(model, image)

    def _attribute(
        self, model: nn.Module, images: Images, classes: Classes, ids: Sequence[str | None]
    ) -> Maps:
        tokens = find_tokens(model, images[:1])

        def roll_out(matrices: Sequence[Tensor], gradients: Sequence[Tensor]) -> Tensor:
            weighted = [
                mean_of_heads((gradient * matrix).relu_())
                for matrix, gradient in zip(matrices, gradients, strict=True)
            ]
            start = relevance = tokens.read_out(weighted[-1])
            for matrix in reversed(weighted):  # a row of the product needs no other rows
                relevance = relevance + (relevance.unsqueeze(1) @ matrix).squeeze(1)
            return relevance - start

        relevance = reduced_gradients(
            model, images, classes, lambda _: attention_matrices(), roll_out
        )
        return tokens.to_maps(relevance, images)
