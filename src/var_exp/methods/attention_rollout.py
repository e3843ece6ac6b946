"""Attention rollout: how much of each token's input reaches the read-out through attention alone.

    R = Â_L · … · Â_1,  Â_l = ½ mean_heads(A_l) + ½ I

The map is the row of the class token in R, at the patch tokens. Abnar & Zuidema 2020,
arXiv 2005.00928. It knows no classes.

Departures from the paper, which is about language models: where the logits read several prefix
tokens (DeiT's distillation token) or the average of the patch tokens, the map is the mean of their
rows. Bilinear upsampling. Cost: one forward pass, plus what `engine.attention.find_tokens` costs on
one image.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import nn

from var_exp.engine.attention import attention_matrices, find_tokens, mean_of_heads
from var_exp.engine.scores import check_range
from var_exp.methods.method import Method
from var_exp.models.frozen import frozen
from var_exp.models.selfcheck import Needs
from var_exp.types import Classes, Images, Maps


@dataclass(frozen=True)
class AttentionRollout(Method):
    """Product of the attention matrices and residual paths of all layers; the same for every class.

    Non-negative, at most 1 per token; one map channel.

    Raises:
        UnsupportedModel: by `check` and `attribute`, when the model is no plain vision transformer;
            see `engine.attention`.
    """

    class_specific: ClassVar[bool] = False
    needs: ClassVar[Needs] = "calls"

    def _check(self, model: nn.Module, image: Images) -> None:
        """Refuse a model that is no chain of attention over the same tokens."""
        find_tokens(model, image)

    def _attribute(
        self, model: nn.Module, images: Images, classes: Classes, ids: Sequence[str | None]
    ) -> Maps:
        tokens = find_tokens(model, images[:1])
        with torch.no_grad(), frozen(model), attention_matrices(mean_of_heads) as matrices:
            logits = model(images)
        check_range(classes, logits.shape[1])
        relevance = tokens.read_out(matrices[-1])
        for matrix in reversed(matrices):  # a row of the product needs no other rows
            relevance = (relevance + (relevance.unsqueeze(1) @ matrix).squeeze(1)) / 2
        return tokens.to_maps(relevance.unsqueeze(1), images).expand(
            -1, classes.shape[1], -1, -1, -1
        )
