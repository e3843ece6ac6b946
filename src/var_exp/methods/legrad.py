"""LeGrad: the gradient with respect to the attention of every layer, each for logits of its own.

    φ_c(j) = 1/L Σ_l mean over heads and rows i of relu(∂ y_c^l / ∂ A_l)(i, j)

y^l are the logits read after layer l: its tokens go through the network's own final normalisation,
read-out and head. Bousselham et al. 2024, arXiv 2404.03214.

Departures from the paper: the mean over the layers in place of their sum; not stretched to [0, 1];
the logits of all layers are read as the network reads its own, where the authors' code for CLIP
averages the tokens. That code takes the last two layers, here all: `layers=2`. Bilinear upsampling.
Cost: one forward and K short backward passes, plus what finding the tokens and layers costs on one
image (`engine.attention`, `engine.read_outs`).
"""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass

import torch
from jaxtyping import Float
from torch import Tensor, nn

from var_exp.engine.attention import attention_matrices, find_tokens
from var_exp.engine.chunks import check_at_least_one
from var_exp.engine.gradients import reduced_gradients
from var_exp.engine.read_outs import find_layers, read_after
from var_exp.engine.scores import class_scores
from var_exp.methods.method import Method
from var_exp.types import Classes, Images, Maps


@dataclass(frozen=True)
class LeGrad(Method):
    """Sensitivity of the logit of every layer to what its tokens attend to.

    Non-negative; one map channel.

    Args:
        layers: How many of the last layers count; None, or more than there are, takes all.

    Raises:
        ValueError: layers below 1.
        UnsupportedModel: by `check` and `attribute`, when the model is no plain vision transformer,
            see `engine.attention`, or its layers cannot be read one by one.
    """

    layers: int | None = None

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.layers is not None:
            check_at_least_one(layers=self.layers)

    def _check(self, model: nn.Module, image: Images) -> None:
        """Refuse a model that is no chain of layers whose tokens can be read."""
        find_layers(model, image, find_tokens(model, image).count)

    def _attribute(
        self, model: nn.Module, images: Images, classes: Classes, ids: Sequence[str | None]
    ) -> Maps:
        tokens = find_tokens(model, images[:1])
        layers = find_layers(model, images[:1], tokens.count)
        last = min(self.layers or len(layers), len(layers))

        @contextmanager
        def collect(_: Images) -> Iterator[Sequence[Tensor]]:
            with attention_matrices() as matrices, read_after(layers, last):
                yield matrices

        def sum_over_layers(
            logits: Float[Tensor, "rows N"], classes: Classes
        ) -> Float[Tensor, "B K"]:
            return class_scores(logits.unflatten(0, (last, -1)).sum(0), classes)

        def sensitivity(_: Sequence[Tensor], gradients: Sequence[Tensor]) -> Float[Tensor, "B N"]:
            found = [
                gradient.clamp_(min=0).mean(
                    (1, 2), dtype=torch.promote_types(gradient.dtype, torch.float32)
                )
                for gradient in gradients[-last:]
            ]
            return torch.stack(found).mean(0)

        relevance = reduced_gradients(
            model, images, classes, collect, sensitivity, score=sum_over_layers
        )
        return tokens.to_maps(relevance, images)
