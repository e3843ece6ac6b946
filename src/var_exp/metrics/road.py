"""ROAD: what is left of a class when shares of the pixels are imputed away, without retraining.

    score = mean over p = 1 / (steps + 1) .. steps / (steps + 1) of f(x without the first p HW
    pixels), 10 %, 20 %, …, 90 % for steps = 9

Missing pixels become the weighted mean of their neighbours plus a little noise, so that their shape
says less than a hole of one colour would. `road` takes the most relevant pixels first (MoRF) and
lower is better, `road_lerf` the least relevant ones and higher is better. The score is the
probability of the class asked about, or whether it is the top one, which the paper reports of the
label ("accuracy").

Departure: the paper imputes pictures in [0, 1] and normalises them afterwards; imputation commutes
with that, and the noise is scaled by the `std` of the `Perturber` (a plain model has none: the
noise is then 0.01 in the units of the images).

Cost: steps forward passes and imputations per map; an imputation costs about as much as ten
forward passes of ResNet-18 on a CPU. Source: Rong et al., "A Consistent and Efficient Evaluation
Strategy for Attribution Methods", ICML 2022, arXiv:2202.00449.
"""

from typing import ClassVar, Unpack, get_args

import torch
from jaxtyping import Float, Int
from torch import Tensor

from var_exp.engine.chunks import check_at_least_one
from var_exp.metrics.baselines import Baseline
from var_exp.metrics.curve_metric import PerturbationCurve, Ties
from var_exp.metrics.perturbation import AskOptions, Question, as_perturber
from var_exp.metrics.perturber import Perturber, PixelOrder, Readout
from var_exp.metrics.share import MeasuresAndFlags
from var_exp.types import Images, Predict


def road(
    model: Predict | Perturber,
    images: Images,
    classes: Int[Tensor, " N"],
    maps: Float[Tensor, "N c h w"],
    steps: int = 9,
    baseline: Baseline = "noisy_linear",
    *,
    order: PixelOrder = "most_first",
    **options: Unpack[AskOptions],
) -> Float[Tensor, " N"]:
    """Mean score over the shares of pixels taken away.

    Args:
        model: From images to logits, in eval mode, or a `Perturber` of it.
        images: [N, C, H, W], normalised as the model expects.
        classes: [N] int64, the class of each map.
        maps: [N, c, h, w], raw and signed.
        steps: Number of shares.
        baseline: "noisy_linear", "zero", "mean" or "blur".
        order: Which pixels go first: "most_first" or "least_first".
        options: base_maps, ids, seed, max_batch and score; see `AskOptions`.

    Returns:
        [N] float64, in [0, 1] but for logits; NaN for a map that is not finite.

    Raises:
        ValueError: shapes that do not belong together, or an option out of its range.
    """
    if order not in get_args(PixelOrder):
        raise ValueError(f"order must be most_first or least_first, got '{order}'.")
    question = Question(as_perturber(model), images, classes, maps, baseline, **options)
    return _curves(question, order, steps)[0].mean(1)


class Road(PerturbationCurve):
    """Mean of `road`, most relevant pixels first.

    Args:
        model: From images to logits, in eval mode, or a `Perturber` of it.
        steps: Number of shares.
        baseline: "noisy_linear", "zero", "mean" or "blur".
        ties: What ranks equal pixels: "random", or "base" for `base_maps` and then at random.
        seed: Seed of the noise and the random order.
        max_batch: Most images in one forward, halved when memory runs out.
        score: "probability", "logit", "accuracy" or "sigmoid".

    Raises:
        ValueError: an option out of its range.
    """

    higher_is_better = False
    bounds = (0.0, 1.0)
    order: ClassVar[PixelOrder] = "most_first"

    def __init__(
        self,
        model: Predict | Perturber,
        steps: int = 9,
        baseline: Baseline = "noisy_linear",
        ties: Ties = "random",
        seed: int = 0,
        max_batch: int = 64,
        score: Readout = "probability",
    ) -> None:
        super().__init__(model, baseline, score, ties, seed, max_batch)
        check_at_least_one(steps=steps)
        self.steps = steps

    def places(self) -> list[float]:
        """Where on x the points of the curve are."""
        return [step / (self.steps + 1) for step in range(1, self.steps + 1)]

    def _measure(self, question: Question) -> MeasuresAndFlags:
        return _curves(question, self.order, self.steps)

    def _value(self, measured: Float[Tensor, "N points"]) -> Float[Tensor, " N"]:
        return measured.mean(1)


class RoadLerf(Road):
    """Mean of `road`, least relevant pixels first; the arguments are those of `Road`."""

    higher_is_better = True
    order: ClassVar[PixelOrder] = "least_first"


def _curves(question: Question, order: PixelOrder, steps: int) -> MeasuresAndFlags:
    """Curves [N, steps] and flags [N]."""
    check_at_least_one(steps=steps)
    ranking = question.ranking()
    counts = [round(step * ranking.cells / (steps + 1)) for step in range(1, steps + 1)]
    curves = question.read(question.ranked(ranking, order, counts))
    cuts = counts if order == "most_first" else [ranking.cells - count for count in counts]
    return curves.where(ranking.finite()[:, None], torch.nan), ranking.flags(cuts)
