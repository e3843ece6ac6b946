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

from collections.abc import Sequence
from typing import Any, ClassVar

import torch
from jaxtyping import Float, Int
from torch import Tensor

from var_exp.metrics.baselines import Baseline
from var_exp.metrics.curve_metric import PerturbationCurve, Ties
from var_exp.metrics.perturbation import as_perturber, check_inputs, check_options
from var_exp.metrics.perturber import Order, Perturber, Score, read_scores
from var_exp.types import Images, Predict


def road(
    model: Predict | Perturber,
    images: Images,
    classes: Int[Tensor, " N"],
    maps: Float[Tensor, "N c h w"],
    steps: int = 9,
    baseline: Baseline = "noisy_linear",
    *,
    order: Order = "most_first",
    base_maps: Float[Tensor, "N _ _ _"] | None = None,
    ids: Sequence[str] | None = None,
    seed: int = 0,
    max_batch: int = 64,
    score: Score = "probability",
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
        base_maps: [N, c, h, w] that rank the pixels which `maps` leaves equal.
        ids: N sample ids, for the noise and for the random order of what is still equal.
        seed: Seed of both.
        max_batch: Most images in one forward, halved when memory runs out.
        score: "probability", "logit" or "accuracy".

    Returns:
        [N] float64, in [0, 1] but for logits; NaN for a map that is not finite.

    Raises:
        ValueError: shapes that do not belong together, or an option out of its range.
    """
    return _curves(
        as_perturber(model),
        images,
        classes,
        maps,
        order,
        steps=steps,
        baseline=baseline,
        base_maps=base_maps,
        ids=ids,
        seed=seed,
        max_batch=max_batch,
        score=score,
    )[0].mean(1)


class Road(PerturbationCurve):
    """Mean of `road`, most relevant pixels first.

    Args:
        model: From images to logits, in eval mode, or a `Perturber` of it.
        steps: Number of shares.
        baseline: "noisy_linear", "zero", "mean" or "blur".
        ties: What ranks equal pixels: "random", or "base" for `base_maps` and then at random.
        seed: Seed of the noise and the random order.
        max_batch: Most images in one forward, halved when memory runs out.
        score: "probability", "logit" or "accuracy".

    Raises:
        ValueError: an option out of its range.
    """

    higher_is_better = False
    order: ClassVar[Order] = "most_first"

    def __init__(
        self,
        model: Predict | Perturber,
        steps: int = 9,
        baseline: Baseline = "noisy_linear",
        ties: Ties = "random",
        seed: int = 0,
        max_batch: int = 64,
        score: Score = "probability",
    ) -> None:
        super().__init__(model, baseline, score, ties, seed, max_batch)
        check_options(steps, baseline, max_batch, score)
        self.steps = steps

    def places(self) -> list[float]:
        """Where on x the points of the curve are."""
        return [step / (self.steps + 1) for step in range(1, self.steps + 1)]

    def options(self) -> dict[str, Any]:
        """The options that go on to the pure function."""
        return {"steps": self.steps, **super().options()}

    def _measure(
        self, model: Perturber, images: Tensor, classes: Tensor, maps: Tensor, **given: Any
    ) -> tuple[Tensor, Tensor]:
        return _curves(model, images, classes, maps, self.order, **given, **self.options())

    def _value(self, measured: Float[Tensor, "N points"]) -> Float[Tensor, " N"]:
        return measured.mean(1)


class RoadLerf(Road):
    """Mean of `road`, least relevant pixels first; the arguments are those of `Road`."""

    higher_is_better = True
    order: ClassVar[Order] = "least_first"


def _curves(
    model: Perturber,
    images: Tensor,
    classes: Tensor,
    maps: Tensor,
    order: Order,
    *,
    steps: int,
    baseline: Baseline,
    base_maps: Tensor | None,
    ids: Sequence[str] | None,
    seed: int,
    max_batch: int,
    score: Score,
) -> tuple[Tensor, Tensor]:
    """Curves [N, steps] and flags [N]."""
    check_inputs(images, classes, maps, base_maps)
    check_options(steps, baseline, max_batch, score)
    batch = model.batch(images, ids, seed)
    ranking = batch.ranking(maps, base_maps)
    counts = [round(step * ranking.cells / (steps + 1)) for step in range(1, steps + 1)]
    logits = batch.ranked(ranking, order, counts, baseline, max_batch)
    curves = read_scores(logits, classes, score, batch.head)
    cuts = counts if order == "most_first" else [ranking.cells - count for count in counts]
    return curves.where(ranking.finite()[:, None], torch.nan), ranking.flags(cuts)
