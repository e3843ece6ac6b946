"""ABPC: the area between the curves of deleting the least and the most relevant pixels first.

    ABPC = AUC(LeRF) - AUC(MoRF), in [-1, 1] for probabilities; higher is better

What any order of the pixels costs the model cancels: a random order scores 0 in the mean, and a map
turned upside down the negative. The symmetric relevance gain (SRG, Blücher et al. 2024) is this
number. Averaging the difference of the curves over the steps, as some tools do, differs by the
trapezoid rule's ends, where both curves meet. Costs no forward pass where deletion AUC and LeRF AUC
of the same options are measured.

Source: Schulz et al., "Restricting the Flow", ICLR 2020 (degradation test, the area between both
curves); Blücher, Vielhaben, Strodthoff, "Decoupling Pixel Flipping and Occlusion Strategy for
Consistent XAI Benchmarks", TMLR 2024 (SRG).
"""

from typing import Unpack

from jaxtyping import Float, Int
from torch import Tensor

from var_exp.metrics.baselines import Baseline
from var_exp.metrics.curve_metric import PerturbationAUC
from var_exp.metrics.perturbation import (
    AskOptions,
    Question,
    area_under,
    as_perturber,
    curves_of,
)
from var_exp.metrics.perturber import Perturber
from var_exp.metrics.share import MeasuresAndFlags
from var_exp.types import Images, Predict


def abpc(
    model: Predict | Perturber,
    images: Images,
    classes: Int[Tensor, " N"],
    maps: Float[Tensor, "N c h w"],
    steps: int = 224,
    baseline: Baseline = "zero",
    **options: Unpack[AskOptions],
) -> Float[Tensor, " N"]:
    """Area between the curves of both orders of deletion.

    Arguments, shapes and errors are those of `insertion_auc`.

    Returns:
        [N] float64, in [-1, 1] but for logits; NaN for a map that is not finite.
    """
    question = Question(as_perturber(model), images, classes, maps, baseline, **options)
    return area_under(_differences(question, steps)[0])


class ABPC(PerturbationAUC):
    """Mean of `abpc`; the arguments are those of `PerturbationAUC`."""

    higher_is_better = True
    bounds = (-1.0, 1.0)

    def y_label(self) -> str:
        """What the curve shows."""
        return f"mean {self.score}, least first - most first"

    def _measure(self, question: Question) -> MeasuresAndFlags:
        return _differences(question, self.steps)


def _differences(question: Question, steps: int) -> MeasuresAndFlags:
    """Differences of both curves [N, steps + 1] and flags."""
    least, odd = curves_of(question, "lerf", steps)
    most, odd_too = curves_of(question, "deletion", steps)
    return least - most, odd | odd_too
