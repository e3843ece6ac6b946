"""SaCo: does what a map calls more important also do more, and by how much?

The pixels are split into G groups of equal size in the order of the map. For each pair of groups,
the first ranked higher, s the mean of the map and d the drop of p(class) without the group,

    F = Σ_{i<j} w_ij / Σ_{i<j} |w_ij|,   w_ij = ±(s_i - s_j), + where d_i >= d_j

in [-1, 1]; higher is better. Deletion and insertion take pixels away on top of each other and ask
about the order alone; here each group goes by itself, and a wrong order weighs more where the map
is surer of it. Groups of which the map says the same, such as the zeros of a refined map, do not
count; a map that says the same everywhere scores 0. (The paper has sums, which for groups of one
size give the same F; here groups may differ by a pixel.)

Cost: G + 1 forward passes per map. Source: Wu, Kang, Tang, Hong, Yan, "On the Faithfulness of
Vision Transformer Explanations", CVPR 2024, arXiv:2404.01415; a missing pixel is the mean colour of
its picture, as there.
"""

from itertools import pairwise
from typing import Unpack

import torch
from jaxtyping import Float, Int
from torch import Tensor

from var_exp.metrics.baselines import Baseline
from var_exp.metrics.curve_metric import PerturbationMetric, Ties
from var_exp.metrics.perturbation import AskOptions, Question, as_perturber
from var_exp.metrics.perturber import Perturber, Readout
from var_exp.metrics.share import TIE, ScoresAndFlags
from var_exp.types import Images, Predict


def saco(
    model: Predict | Perturber,
    images: Images,
    classes: Int[Tensor, " N"],
    maps: Float[Tensor, "N c h w"],
    groups: int = 10,
    baseline: Baseline = "mean",
    **options: Unpack[AskOptions],
) -> Float[Tensor, " N"]:
    """Salience-guided faithfulness coefficient of each map.

    Args:
        model: From images to logits, in eval mode, or a `Perturber` of it.
        images: [N, C, H, W], normalised as the model expects.
        classes: [N] int64, the class of each map.
        maps: [N, c, h, w], raw and signed; channels are summed, then resized to the images' size.
        groups: G, at least 2.
        baseline: "zero", "mean", "blur" or "noisy_linear".
        options: base_maps, ids, seed, max_batch and score; see `AskOptions`.

    Returns:
        [N] float64 in [-1, 1]; NaN for a map that is not finite.

    Raises:
        ValueError: shapes that do not belong together, or an option out of its range.
    """
    _check(groups)
    question = Question(as_perturber(model), images, classes, maps, baseline, **options)
    return _coefficients(question, groups)[0]


class SaCo(PerturbationMetric):
    """Mean of `saco`.

    Args:
        model: From images to logits, in eval mode, or a `Perturber` of it.
        groups: G, at least 2.
        baseline: "zero", "mean", "blur" or "noisy_linear".
        ties: What ranks equal pixels: "random", or "base" for `base_maps` and then at random.
        seed: Seed of the random order, and of noise.
        max_batch: Most images in one forward, halved when memory runs out.
        score: "probability", "logit", "accuracy" or "sigmoid".

    Raises:
        ValueError: an option out of its range.
    """

    higher_is_better = True
    bounds = (-1.0, 1.0)
    in_units_of_score = False

    def __init__(
        self,
        model: Predict | Perturber,
        groups: int = 10,
        baseline: Baseline = "mean",
        ties: Ties = "random",
        seed: int = 0,
        max_batch: int = 64,
        score: Readout = "probability",
    ) -> None:
        super().__init__(model, baseline, score, ties, seed, max_batch)
        _check(groups)
        self.groups = groups

    def _measure(self, question: Question) -> ScoresAndFlags:
        return _coefficients(question, self.groups)


def _coefficients(question: Question, groups: int) -> ScoresAndFlags:
    """Scores and flags."""
    ranking = question.ranking()
    cuts = [round(group * ranking.cells / groups) for group in range(groups + 1)]
    edges = torch.tensor(cuts, device=ranking.places.device)

    def missing(rows: Tensor, points: Tensor) -> Tensor:
        places = ranking.places[rows]
        inside: Tensor = (places >= edges[points][:, None, None]) & (
            places < edges[points + 1][:, None, None]
        )
        return inside

    logits = question.batch.sampled(None, missing, groups, question.baseline, question.max_batch)
    drops = question.whole() - question.read(logits)
    ordered = ranking.values[0].gather(1, ranking.order)
    means = torch.stack([ordered[:, first:last].mean(1) for first, last in pairwise(cuts)], 1)
    first, second = torch.triu_indices(groups, groups, 1, device=means.device)
    leads = means[:, first] - means[:, second]
    leads = leads.where(leads.abs() > TIE * ordered.abs().amax(1, keepdim=True), 0)
    signed = torch.where(drops[:, first] >= drops[:, second], leads, -leads)
    total = leads.abs().sum(1)
    scores = signed.sum(1) / total.where(total > 0, 1)
    return scores.where(ranking.finite(), torch.nan), ranking.flags(cuts)


def _check(groups: int) -> None:
    """Refuse what leaves no pair of groups."""
    if groups < 2:
        raise ValueError(f"groups must be at least 2, got {groups}; the paper takes 10.")
