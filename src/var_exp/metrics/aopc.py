"""AOPC: how far the score falls, on average, while the most relevant regions go.

    AOPC = 1 / (L + 1) Σ_{k=0..L} f(x) - f(x without its k most relevant regions); higher is better

Regions are square patches, ranked by the sum of the map over them; L = 100 patches of 8 px take 13
% of a picture of 224 px. A picture with fewer patches loses them all, and L is their number.

Departures: the paper takes patches of 9 px and fills them with uniform noise; here they take the
baseline, which needs no repeats. Quantus returns the drops without the one at k = 0, which is 0 but
belongs to the mean.

Cost: L + 1 forward passes per map. Source: Samek et al., "Evaluating the Visualization of What a
Deep Neural Network Has Learned", TNNLS 2017, arXiv:1509.06321.
"""

from typing import Unpack

import torch
from jaxtyping import Float, Int
from torch import Tensor

from var_exp.engine.chunks import check_at_least_one
from var_exp.metrics.baselines import Baseline
from var_exp.metrics.curve_metric import PerturbationMetric, Ties
from var_exp.metrics.perturbation import AskOptions, Question, as_perturber
from var_exp.metrics.perturber import Perturber, Readout
from var_exp.metrics.share import ScoresAndFlags
from var_exp.types import Images, Predict


def aopc(
    model: Predict | Perturber,
    images: Images,
    classes: Int[Tensor, " N"],
    maps: Float[Tensor, "N c h w"],
    regions: int = 100,
    patch: int = 8,
    baseline: Baseline = "zero",
    **options: Unpack[AskOptions],
) -> Float[Tensor, " N"]:
    """Mean drop of the score over the first regions.

    Args:
        model: From images to logits, in eval mode, or a `Perturber` of it.
        images: [N, C, H, W], normalised as the model expects.
        classes: [N] int64, the class of each map.
        maps: [N, c, h, w], raw and signed.
        regions: L, the most regions that go; all of them where a picture has fewer.
        patch: Side of a region in pixels; those at the lower and right edge may be smaller.
        baseline: "zero", "mean", "blur" or "noisy_linear".
        options: base_maps, ids, seed, max_batch and score; see `AskOptions`.

    Returns:
        [N] float64, in [-1, 1] but for logits; NaN for a map that is not finite.

    Raises:
        ValueError: shapes that do not belong together, or an option out of its range.
    """
    question = Question(as_perturber(model), images, classes, maps, baseline, **options)
    return _drops(question, regions, patch)[0]


class AOPC(PerturbationMetric):
    """Mean of `aopc`.

    Args:
        model: From images to logits, in eval mode, or a `Perturber` of it.
        regions: L, the most regions that go.
        patch: Side of a region in pixels.
        baseline: "zero", "mean", "blur" or "noisy_linear".
        ties: What ranks equal regions: "random", or "base" for `base_maps` and then at random.
        seed: Seed of the random order, and of noise.
        max_batch: Most images in one forward, halved when memory runs out.
        score: "probability", "logit", "accuracy" or "sigmoid".

    Raises:
        ValueError: an option out of its range.
    """

    higher_is_better = True
    bounds = (-1.0, 1.0)

    def __init__(
        self,
        model: Predict | Perturber,
        regions: int = 100,
        patch: int = 8,
        baseline: Baseline = "zero",
        ties: Ties = "random",
        seed: int = 0,
        max_batch: int = 64,
        score: Readout = "probability",
    ) -> None:
        super().__init__(model, baseline, score, ties, seed, max_batch)
        check_at_least_one(regions=regions, patch=patch)
        self.regions = regions
        self.patch = patch

    def _measure(self, question: Question) -> ScoresAndFlags:
        return _drops(question, self.regions, self.patch)


def _drops(question: Question, regions: int, patch: int) -> ScoresAndFlags:
    """Scores and flags."""
    check_at_least_one(regions=regions, patch=patch)
    ranking = question.ranking(patch)
    counts = range(min(regions, ranking.cells) + 1)
    curves = question.read(question.ranked(ranking, "most_first", counts))
    drops = (curves[:, :1] - curves).mean(1)
    return drops.where(ranking.finite(), torch.nan), ranking.flags(counts)
