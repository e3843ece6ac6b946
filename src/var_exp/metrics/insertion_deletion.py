"""Insertion and deletion AUC: how fast a class appears, or vanishes, with a map's pixels.

Insertion puts the pixels into a blurred image, strongest first, and higher is better; deletion
takes them out of the image, and lower is better: the area under the MoRF curve (most relevant
first) is the deletion AUC. Formula, cost and source are in `var_exp.metrics.perturbation`.
"""

from collections.abc import Sequence
from typing import ClassVar

from jaxtyping import Float, Int
from torch import Tensor

from var_exp.metrics.baselines import Baseline
from var_exp.metrics.curve_metric import PerturbationAUC, Ties
from var_exp.metrics.perturbation import Mode, area_under, perturbation_curves
from var_exp.metrics.perturber import Perturber, Score
from var_exp.types import Images, Predict


def insertion_auc(
    model: Predict | Perturber,
    images: Images,
    classes: Int[Tensor, " N"],
    maps: Float[Tensor, "N c h w"],
    steps: int = 224,
    baseline: Baseline = "blur",
    *,
    base_maps: Float[Tensor, "N _ _ _"] | None = None,
    ids: Sequence[str] | None = None,
    seed: int = 0,
    max_batch: int = 64,
    score: Score = "probability",
) -> Float[Tensor, " N"]:
    """Area under the probability of the class while pixels are inserted, first ones first.

    Args:
        model: From images to logits, in eval mode, or a `Perturber` of it.
        images: [N, C, H, W], normalised as the model expects.
        classes: [N] int64, the class of each map.
        maps: [N, c, h, w], raw and signed.
        steps: Number of steps; `steps + 1` forward passes per map.
        baseline: "zero", "mean", "blur" or "noisy_linear".
        base_maps: [N, c, h, w] that rank the pixels which `maps` leaves equal.
        ids: N sample ids, for the random order of what is still equal.
        seed: Seed of that order, and of noise.
        max_batch: Most images in one forward, halved when memory runs out.
        score: "probability", "logit" or "accuracy".

    Returns:
        [N] float64, in [0, 1] but for logits; NaN for a map that is not finite.

    Raises:
        ValueError: shapes that do not belong together, or an option out of its range.
    """
    curves, _ = perturbation_curves(
        model,
        images,
        classes,
        maps,
        "insertion",
        steps=steps,
        baseline=baseline,
        base_maps=base_maps,
        ids=ids,
        seed=seed,
        max_batch=max_batch,
        score=score,
    )
    return area_under(curves)


def deletion_auc(
    model: Predict | Perturber,
    images: Images,
    classes: Int[Tensor, " N"],
    maps: Float[Tensor, "N c h w"],
    steps: int = 224,
    baseline: Baseline = "zero",
    *,
    base_maps: Float[Tensor, "N _ _ _"] | None = None,
    ids: Sequence[str] | None = None,
    seed: int = 0,
    max_batch: int = 64,
    score: Score = "probability",
) -> Float[Tensor, " N"]:
    """Area under the probability of the class while pixels are deleted, first ones first.

    Arguments, shapes, range and errors are those of `insertion_auc`.
    """
    curves, _ = perturbation_curves(
        model,
        images,
        classes,
        maps,
        "deletion",
        steps=steps,
        baseline=baseline,
        base_maps=base_maps,
        ids=ids,
        seed=seed,
        max_batch=max_batch,
        score=score,
    )
    return area_under(curves)


class InsertionAUC(PerturbationAUC):
    """Mean of `insertion_auc`; the arguments are those of `PerturbationAUC`."""

    higher_is_better = True
    mode: ClassVar[Mode] = "insertion"

    def __init__(
        self,
        model: Predict | Perturber,
        steps: int = 224,
        baseline: Baseline = "blur",
        ties: Ties = "random",
        seed: int = 0,
        max_batch: int = 64,
        score: Score = "probability",
    ) -> None:
        super().__init__(model, steps, baseline, ties, seed, max_batch, score)


class DeletionAUC(PerturbationAUC):
    """Mean of `deletion_auc`; the arguments are those of `PerturbationAUC`."""

    higher_is_better = False
    mode: ClassVar[Mode] = "deletion"

    def __init__(
        self,
        model: Predict | Perturber,
        steps: int = 224,
        baseline: Baseline = "zero",
        ties: Ties = "random",
        seed: int = 0,
        max_batch: int = 64,
        score: Score = "probability",
    ) -> None:
        super().__init__(model, steps, baseline, ties, seed, max_batch, score)
