"""LeRF AUC: how long a class survives while the least relevant pixels go first; higher is better.

The same pictures as insertion into the same baseline, backwards, so on one baseline both areas are
one number (`insertion_auc` blurs, this one blanks). Its counterpart, most relevant first (MoRF), is
`deletion_auc`. Formula, cost and source are in `var_exp.metrics.perturbation`.
"""

from collections.abc import Sequence
from typing import ClassVar

from jaxtyping import Float, Int
from torch import Tensor

from var_exp.metrics.baselines import Baseline
from var_exp.metrics.curve_metric import PerturbationAUC
from var_exp.metrics.perturbation import Mode, area_under, perturbation_curves
from var_exp.metrics.perturber import Perturber, Score
from var_exp.types import Images, Predict


def lerf_auc(
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
    """Area under the score of the class while pixels are deleted, least relevant ones first.

    Arguments, shapes, range and errors are those of `insertion_auc`.
    """
    curves, _ = perturbation_curves(
        model,
        images,
        classes,
        maps,
        "lerf",
        steps=steps,
        baseline=baseline,
        base_maps=base_maps,
        ids=ids,
        seed=seed,
        max_batch=max_batch,
        score=score,
    )
    return area_under(curves)


class LerfAUC(PerturbationAUC):
    """Mean of `lerf_auc`; the arguments are those of `PerturbationAUC`."""

    higher_is_better = True
    mode: ClassVar[Mode] = "lerf"
