"""Insertion and deletion AUC: how fast a class appears, or vanishes, with a map's pixels.

Insertion puts the pixels into a blurred image, strongest first, and higher is better; deletion
takes them out of the image, and lower is better: the area under the MoRF curve (most relevant
first) is the deletion AUC. Formula, cost and source are in `var_exp.metrics.perturbation`.
"""

from typing import ClassVar, Unpack

from jaxtyping import Float, Int
from torch import Tensor

from var_exp.metrics.baselines import Baseline
from var_exp.metrics.curve_metric import PerturbationAUC, Ties
from var_exp.metrics.perturbation import (
    AskOptions,
    CurveKind,
    Question,
    area_under,
    as_perturber,
    curves_of,
)
from var_exp.metrics.perturber import Perturber, Readout
from var_exp.types import Images, Predict


def insertion_auc(
    model: Predict | Perturber,
    images: Images,
    classes: Int[Tensor, " N"],
    maps: Float[Tensor, "N c h w"],
    steps: int = 224,
    baseline: Baseline = "blur",
    **options: Unpack[AskOptions],
) -> Float[Tensor, " N"]:
    """Area under the probability of the class while pixels are inserted, first ones first.

    Args:
        model: From images to logits, in eval mode, or a `Perturber` of it.
        images: [N, C, H, W], normalised as the model expects.
        classes: [N] int64, the class of each map.
        maps: [N, c, h, w], raw and signed.
        steps: Number of steps; `steps + 1` forward passes per map.
        baseline: "zero", "mean", "blur" or "noisy_linear".
        options: base_maps, ids, seed, max_batch and score; see `AskOptions`.

    Returns:
        [N] float64, in [0, 1] but for logits; NaN for a map that is not finite.

    Raises:
        ValueError: shapes that do not belong together, or an option out of its range.
    """
    question = Question(as_perturber(model), images, classes, maps, baseline, **options)
    return area_under(curves_of(question, "insertion", steps)[0])


def deletion_auc(
    model: Predict | Perturber,
    images: Images,
    classes: Int[Tensor, " N"],
    maps: Float[Tensor, "N c h w"],
    steps: int = 224,
    baseline: Baseline = "zero",
    **options: Unpack[AskOptions],
) -> Float[Tensor, " N"]:
    """Area under the probability of the class while pixels are deleted, first ones first.

    Arguments, shapes, range and errors are those of `insertion_auc`.
    """
    question = Question(as_perturber(model), images, classes, maps, baseline, **options)
    return area_under(curves_of(question, "deletion", steps)[0])


class InsertionAUC(PerturbationAUC):
    """Mean of `insertion_auc`; the arguments are those of `PerturbationAUC`."""

    higher_is_better = True
    bounds = (0.0, 1.0)
    kind: ClassVar[CurveKind] = "insertion"

    def __init__(
        self,
        model: Predict | Perturber,
        steps: int = 224,
        baseline: Baseline = "blur",
        ties: Ties = "random",
        seed: int = 0,
        max_batch: int = 64,
        score: Readout = "probability",
    ) -> None:
        super().__init__(model, steps, baseline, ties, seed, max_batch, score)


class DeletionAUC(PerturbationAUC):
    """Mean of `deletion_auc`; the arguments are those of `PerturbationAUC`."""

    higher_is_better = False
    bounds = (0.0, 1.0)
    kind: ClassVar[CurveKind] = "deletion"
