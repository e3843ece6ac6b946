"""Contrastive deletion: does the class lose to its competitor when its own pixels go?

    AUC of p(class) - p(competitor) while pixels are deleted, strongest first, in [-1, 1]; lower is
    better

Deletion alone cannot tell a map of the class from a map of the object that both classes see: the
probability falls for either. Pixels that speak for the class and not for its competitor are those
whose loss hands the probability over. The competitor is the strongest other competing class, by
logit. Costs no forward pass where deletion AUC of the same options is measured.

Source: this project; the score is the difference that contrastive explanations are made for.
"""

from collections.abc import Sequence
from typing import ClassVar, Unpack

from jaxtyping import Float, Int
from torch import Tensor

from var_exp.metrics.baselines import Baseline
from var_exp.metrics.curve_metric import PerturbationAUC
from var_exp.metrics.perturbation import (
    AskOptions,
    CurveKind,
    Question,
    area_under,
    as_perturber,
    curves_of,
)
from var_exp.metrics.perturber import Perturber
from var_exp.types import Images, Predict


def contrastive_deletion(
    model: Predict | Perturber,
    images: Images,
    classes: Int[Tensor, " N"],
    competitors: Int[Tensor, " N"],
    maps: Float[Tensor, "N c h w"],
    steps: int = 224,
    baseline: Baseline = "zero",
    **options: Unpack[AskOptions],
) -> Float[Tensor, " N"]:
    """Area under the lead of the class over its competitor, as its first pixels are deleted first.

    Args:
        model: From images to logits, in eval mode, or a `Perturber` of it.
        images: [N, C, H, W], normalised as the model expects.
        classes: [N] int64, the class of each map.
        competitors: [N] int64, the class that each is measured against.
        maps: [N, c, h, w], raw and signed.
        steps: Number of steps.
        baseline: "zero", "mean", "blur" or "noisy_linear".
        options: base_maps, ids, seed, max_batch and score; see `AskOptions`.

    Returns:
        [N] float64, in [-1, 1] but for logits; NaN for a map that is not finite.

    Raises:
        ValueError: shapes that do not belong together, or an option out of its range.
    """
    question = Question(as_perturber(model), images, classes, maps, baseline, **options)
    return area_under(curves_of(question, "deletion", steps, competitors)[0])


class ContrastiveDeletion(PerturbationAUC):
    """Mean of `contrastive_deletion`; the arguments are those of `PerturbationAUC`."""

    higher_is_better = False
    bounds = (-1.0, 1.0)
    kind: ClassVar[CurveKind] = "deletion"

    def y_label(self) -> str:
        """What the curve shows."""
        return f"mean {self.score}, class - competitor"

    def update(  # type: ignore[override]  # the competitors are one more keyword
        self,
        *,
        images: Images,
        classes: Int[Tensor, " N"],
        competitors: Int[Tensor, " N"],
        maps: Float[Tensor, "N c h w"],
        base_maps: Float[Tensor, "N _ _ _"] | None = None,
        ids: Sequence[str] | None = None,
    ) -> None:
        """Score N maps against competitors; base_maps are used, and needed, with ties="base" only.

        Raises:
            ValueError: ties="base" without base maps, or what `contrastive_deletion` refuses.
        """
        question = self.question(images, classes, maps, base_maps, ids)
        measured = curves_of(question, self.kind, self.steps, competitors)
        self.forget()
        self.keep(*measured, classes, ids)
