"""LeRF AUC: how long a class survives while the least relevant pixels go first; higher is better.

The same pictures as insertion into the same baseline, backwards, so on one baseline both areas are
one number (`insertion_auc` blurs, this one blanks). Its counterpart, most relevant first (MoRF), is
`deletion_auc`. Formula, cost and source are in `var_exp.metrics.perturbation`.
"""

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


def lerf_auc(
    model: Predict | Perturber,
    images: Images,
    classes: Int[Tensor, " N"],
    maps: Float[Tensor, "N c h w"],
    steps: int = 224,
    baseline: Baseline = "zero",
    **options: Unpack[AskOptions],
) -> Float[Tensor, " N"]:
    """Area under the score of the class while pixels are deleted, least relevant ones first.

    Arguments, shapes, range and errors are those of `insertion_auc`.
    """
    question = Question(as_perturber(model), images, classes, maps, baseline, **options)
    return area_under(curves_of(question, "lerf", steps)[0])


class LerfAUC(PerturbationAUC):
    """Mean of `lerf_auc`; the arguments are those of `PerturbationAUC`."""

    higher_is_better = True
    bounds = (0.0, 1.0)
    kind: ClassVar[CurveKind] = "lerf"
