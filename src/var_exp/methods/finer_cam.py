"""Finer-CAM: GradCAM on the margin between a class and those of nearest logit.

    z_c = Σ_i q_i (y_c - α y_i),     i over the classes of smallest |y_i - y_c|
    CAM_c(i, j) = Σ_d A_d(i, j) · mean_ij d z_c / d A_d(i, j)

Zhang et al. 2025 (CVPR), arXiv 2501.11309. Two versions are published. The authors' code since
March 2025 takes q_i = p_i / Σ_i p_i, p the softmax of the logits, and α = 1: the default here, with
q differentiated as there. The paper takes the plain mean and α = 0.6: weighting=uniform alpha=0.6.

Departures: the map is signed and not normalised, as in `gradcam`, and every class asked about is
compared, not only the predicted one; q is exact, where the code adds 1e-9 to Σ_i p_i and so fades
the map of an unlikely class. Cost: as `gradcam`.
"""

from dataclasses import dataclass
from math import isfinite
from typing import Literal, TypeAlias, get_args

import torch
from jaxtyping import Float
from torch import Tensor, nn

from var_exp.engine.chunks import check_at_least_one
from var_exp.engine.scores import class_scores
from var_exp.methods.cam import CAM, feature_gradients, other_logits, weighted_sum
from var_exp.models.outputs import logits_of
from var_exp.types import Classes, Images, Logits

Weighting: TypeAlias = Literal["probability", "uniform"]


@dataclass(frozen=True)
class FinerCAM(CAM):
    """Signed GradCAM of the margin over the nearest classes, at the last spatial feature map.

    Args:
        alpha: How strongly the other classes count; 0 is GradCAM.
        references: How many classes of nearest logit to compare with; all others when the model
            has fewer.
        weighting: "probability" weights these classes by their softmax, "uniform" alike.
        layer: As in `CAM`.

    Raises:
        ValueError: an option out of its range.
        ConfigError: by `check` and `attribute`, when the model has no such layer.
        UnsupportedModel: likewise, when there is no spatial feature map, or a single class.
    """

    alpha: float = 1.0
    references: int = 3
    weighting: Weighting = "probability"

    def __post_init__(self) -> None:
        super().__post_init__()
        check_at_least_one(references=self.references)
        if not isfinite(self.alpha) or self.alpha < 0:
            raise ValueError(f"alpha must be 0 or more, got {self.alpha}; set alpha=1.")
        if self.weighting not in get_args(Weighting):
            raise ValueError(
                f"weighting must be one of {', '.join(get_args(Weighting))}, "
                f"got '{self.weighting}'; choose one of these."
            )

    def _look(self, model: nn.Module, image: Images) -> Logits:
        """Refuse a model with a single class."""
        logits = logits_of(model(image))
        self._margins(logits, torch.zeros(1, 1, dtype=torch.int64, device=logits.device))
        return logits

    def coarse(
        self, model: nn.Module, images: Images, classes: Classes
    ) -> Float[Tensor, "B K h w"]:
        """Class activation maps in the resolution of the target layer."""
        _, features, gradients = feature_gradients(
            model, images, classes, self.layer, score=self._margins
        )
        return weighted_sum(gradients.mean((3, 4)), features)

    def _margins(self, logits: Logits, classes: Classes) -> Float[Tensor, "B K"]:
        """Margin of each class over its nearest ones."""
        own = class_scores(logits, classes)
        nearness = -(logits[:, None] - own[:, :, None]).abs()
        others = other_logits(logits, classes, nearness, self.references)
        if self.weighting == "uniform":
            return own - self.alpha * others.mean(2)
        # a softmax over the others alone is p_i / Σ_i p_i, also where all p_i underflow
        return own - self.alpha * (others.softmax(2) * others).sum(2)
