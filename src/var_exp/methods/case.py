"""CASE: GradCAM whose weights are made orthogonal to those of the competing classes.

    w_c = mean_ij d y_c / d A(i, j),     v_c = mean of w_n over the contrast classes n of c
    CAM_c(i, j) = Σ_d A_d(i, j) · (w_c - (w_c · v_c / |v_c|²) v_c)_d

Williamson et al. 2025, arXiv 2506.07327, and their code. The contrast classes of c are those of the
highest logits of the image, without c: the code's variant by logits. The paper's own choice, the
classes that c is most often confused with over a data set, needs a confusion matrix, which a method
that sees a model and some images does not have.

Departures: the map is signed and not normalised, as in `gradcam`; the projection is exact, where
the code adds 1e-8 to |v_c|², which weakens it where gradients are small. Of two classes whose
logits are opposites nothing is left. Cost: as `gradcam` with 2 K backward passes, since v_c is the
gradient of the mean contrast logit.
"""

from dataclasses import dataclass

import torch
from jaxtyping import Float
from torch import Tensor, nn

from var_exp.engine.chunks import check_at_least_one
from var_exp.engine.scores import class_scores
from var_exp.methods.cam import CAM, feature_gradients, other_logits, weighted_sum
from var_exp.models.outputs import logits_of
from var_exp.types import Classes, Images, Logits


@dataclass(frozen=True)
class CASE(CAM):
    """Signed GradCAM without what a class shares with the mean of its strongest competitors.

    Args:
        contrasts: How many classes of highest logit to contrast with; all others when the model
            has fewer. The authors' code has 5 as its default and 1 or 2 in its experiments.
        layer: As in `CAM`.

    Raises:
        ValueError: contrasts below 1.
        ConfigError: by `check` and `attribute`, when the model has no such layer.
        UnsupportedModel: likewise, when there is no spatial feature map, or a single class.
    """

    contrasts: int = 5

    def __post_init__(self) -> None:
        super().__post_init__()
        check_at_least_one(contrasts=self.contrasts)

    def _look(self, model: nn.Module, image: Images) -> Logits:
        """Refuse a model with a single class."""
        logits = logits_of(model(image))
        self._own_and_contrast(logits, torch.zeros(1, 2, dtype=torch.int64, device=logits.device))
        return logits

    def coarse(
        self, model: nn.Module, images: Images, classes: Classes
    ) -> Float[Tensor, "B K h w"]:
        """Class activation maps in the resolution of the target layer."""
        _, features, gradients = feature_gradients(
            model, images, classes.repeat(1, 2), self.layer, score=self._own_and_contrast
        )
        own, shared = gradients.mean((3, 4)).chunk(2, dim=1)  # each [B, K, D]
        norms = shared.norm(dim=2, keepdim=True)
        direction = shared / norms.masked_fill(norms == 0, 1)
        along = (own * direction).sum(2, keepdim=True)
        return weighted_sum(own - along * direction, features)

    def _own_and_contrast(self, logits: Logits, classes: Classes) -> Float[Tensor, "B K"]:
        """Logits of the classes in the first half, then the mean of their competitors' logits."""
        own = class_scores(logits, classes.chunk(2, dim=1)[0])
        ranking = logits[:, None].expand(-1, own.shape[1], -1)
        others = other_logits(logits, classes.chunk(2, dim=1)[0], ranking, self.contrasts)
        return torch.cat([own, others.mean(2)], dim=1)
