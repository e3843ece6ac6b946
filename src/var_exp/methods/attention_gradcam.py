"""GradCAM on attention: the last attention row of the read-out, weighted by its mean gradient.

    CAM_c(j) = relu(mean_heads A(j) · mean_j' ∂y_c/∂A(j'))      j, j' over the patch tokens
    map_c    = (CAM_c - min) / (max - min)                     of each class by itself

where A is the row of the class token in the last attention matrix. The form is that of the code of
Chefer, Gur & Wolf 2021, arXiv 2012.09838 (`generate_cam_attn`), and of the published code of VAR,
arXiv 2503.07346, for vision transformers.

Scaling comes before any competition, so every class arrives there with a largest value of 1,
however weak its evidence is. Departures from that code: where the logits read several prefix tokens
or the average of the patch tokens, the mean over their rows is taken, each row by its own mean
gradient; a map without any positive value is 0, where that code divides 0 by 0. Bilinear
upsampling, after the scaling. Cost: one forward and K backward passes, plus what
`engine.attention.find_tokens` costs on one image.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from var_exp.engine.attention import attention_matrices, find_tokens
from var_exp.engine.gradients import reduced_gradients
from var_exp.methods.cam import in_unit_range
from var_exp.methods.method import Method
from var_exp.models.spatial import to_pixels
from var_exp.types import Classes, Images, Maps


@dataclass(frozen=True)
class AttentionGradCAM(Method):
    """Where the read-out looks in the last layer, in heads whose attention speaks for the class.

    In [0, 1]; one map channel.

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
        prefix = tokens.count - tokens.grid[0] * tokens.grid[1]

        def weigh(matrices: Sequence[Tensor], gradients: Sequence[Tensor]) -> Tensor:
            rows, slopes = (
                last[:, :, list(tokens.read), prefix:].to(
                    torch.promote_types(last.dtype, torch.float32)
                )
                for last in (matrices[-1], gradients[-1])
            )
            return (rows * slopes.mean(3, keepdim=True)).mean((1, 2)).relu()

        cams = reduced_gradients(model, images, classes, lambda _: attention_matrices(), weigh)
        return to_pixels(in_unit_range(cams).unflatten(2, tokens.grid), images, tokens.frame)
