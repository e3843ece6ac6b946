"""F-Fidelity: random parts of what a map marks are masked, for a network that knows such masks.

    score = FFid+ - FFid- = mean over draws of p(class | x without M-) - p(class | x without M+)

M+ is a random set of r patches among those that the map marks, M- among the others; higher is
better, a map without information scores 0. Deletion shows a network pictures as it has never seen,
and asks about sets whose size and shape the map decides. Here r is the same for every map and never
more than `most` of the picture, and the network has been fine-tuned with random masks of that size
(recipe=masked), so that what it sees is what it knows. No map has a part in that training.

The maps are those of the network that is to be explained: a run with maps=true writes them, and one
with method=saved and the fine-tuned network scores them. Without fine-tuning this is a perturbation
measure like others.

Departures: the paper has r⁺ and r⁻ of their own and reports both terms; with one r they compare,
and p(class | x) cancels. Features are patches, as masks in training. Cost: 2 draws forward passes
per map. Source: Zheng et al., "F-Fidelity: A Robust Framework for Faithfulness Evaluation of
Explainable AI", ICLR 2025, arXiv:2410.02970.
"""

from typing import Unpack

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

from var_exp.engine.chunks import check_at_least_one
from var_exp.metrics.baselines import Baseline
from var_exp.metrics.curve_metric import PerturbationMetric, Ties
from var_exp.metrics.perturbation import AskOptions, Question, as_perturber
from var_exp.metrics.perturber import Perturber, Readout
from var_exp.metrics.ranking import spread
from var_exp.metrics.share import ScoresAndFlags
from var_exp.seeds import sample_generator
from var_exp.types import Images, Predict


def f_fidelity(
    model: Predict | Perturber,
    images: Images,
    classes: Int[Tensor, " N"],
    maps: Float[Tensor, "N c h w"],
    marked: float = 0.25,
    most: float = 0.1,
    samples: int = 50,
    patch: int = 8,
    baseline: Baseline = "zero",
    **options: Unpack[AskOptions],
) -> Float[Tensor, " N"]:
    """What random parts of the marked patches cost, less what as many of the others cost.

    Args:
        model: From images to logits, in eval mode, or a `Perturber` of it.
        images: [N, C, H, W], normalised as the model expects.
        classes: [N] int64, the class of each map.
        maps: [N, c, h, w], raw and signed; channels are summed, then resized to the images' size.
        marked: Share of the patches that a map marks, strongest first; above 0, below 1.
        most: Largest share of the picture that is masked, which the network knows; likewise.
        samples: Draws of both sets.
        patch: Side of a patch in pixels.
        baseline: "zero", "mean", "blur" or "noisy_linear".
        options: base_maps, ids, seed, max_batch and score; see `AskOptions`.

    Returns:
        [N] float64, in [-1, 1] but for logits; NaN for a map that is not finite.

    Raises:
        ValueError: shapes that do not belong together, or an option out of its range.
    """
    question = Question(as_perturber(model), images, classes, maps, baseline, **options)
    return _gaps(question, marked, most, samples, patch)[0]


class FFidelity(PerturbationMetric):
    """Mean of `f_fidelity`.

    Args:
        model: From images to logits, in eval mode, or a `Perturber` of it.
        marked: Share of the patches that a map marks.
        most: Largest share of the picture that is masked.
        samples: Draws of both sets.
        patch: Side of a patch in pixels.
        baseline: "zero", "mean", "blur" or "noisy_linear".
        ties: What ranks equal patches: "random", or "base" for `base_maps` and then at random.
        seed: Seed of the sets, of the random order, and of noise.
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
        marked: float = 0.25,
        most: float = 0.1,
        samples: int = 50,
        patch: int = 8,
        baseline: Baseline = "zero",
        ties: Ties = "random",
        seed: int = 0,
        max_batch: int = 64,
        score: Readout = "probability",
    ) -> None:
        super().__init__(model, baseline, score, ties, seed, max_batch)
        _check(marked, most, samples, patch)
        self.marked = marked
        self.most = most
        self.samples = samples
        self.patch = patch

    def _measure(self, question: Question) -> ScoresAndFlags:
        return _gaps(question, self.marked, self.most, self.samples, self.patch)


def _gaps(
    question: Question, marked: float, most: float, samples: int, patch: int
) -> ScoresAndFlags:
    """Scores and flags."""
    _check(marked, most, samples, patch)
    ranking, batch = question.ranking(patch), question.batch
    height, width = question.images.shape[2:]
    across, cells = -(-width // patch), ranking.cells
    count = min(max(1, round(marked * cells)), cells - 1)
    removed = max(1, min(int(most * cells), count, cells - count))
    names = dict.fromkeys(batch.ids)
    chance = {name: _draw(name, question.seed, samples, cells) for name in names}
    chosen = torch.stack(
        [
            _sets(chance[name].to(order.device), order, count, removed)
            for name, order in zip(batch.ids, ranking.order, strict=True)
        ]
    )

    def missing(rows: Tensor, points: Tensor) -> Tensor:
        return spread(chosen[rows, points].view(len(rows), -1, across), patch, (height, width))

    logits = batch.sampled(None, missing, 2 * samples, question.baseline, question.max_batch)
    within, outside = question.read(logits).unflatten(1, (2, samples)).mean(2).unbind(1)
    gaps = outside - within
    return gaps.where(ranking.finite(), torch.nan), ranking.flags([count])


def _draw(name: str | None, seed: int, samples: int, cells: int) -> Float[Tensor, "samples cells"]:
    """Numbers by which patches are drawn, the same for all maps of a picture."""
    return torch.rand(samples, cells, generator=sample_generator(seed, name))


def _sets(
    chance: Float[Tensor, "samples cells"], order: Int[Tensor, " cells"], count: int, removed: int
) -> Bool[Tensor, "sets cells"]:
    """Random sets among the first `count` cells, then as many among the others."""
    sets = []
    for some in (order[:count], order[count:]):
        first = chance[:, some].argsort(1)[:, :removed]
        sets.append(torch.zeros_like(chance, dtype=torch.bool).scatter_(1, some[first], True))
    return torch.cat(sets)


def _check(marked: float, most: float, samples: int, patch: int) -> None:
    """Refuse an option out of its range."""
    check_at_least_one(samples=samples, patch=patch)
    for name, share in (("marked", marked), ("most", most)):
        if not 0 < share < 1:
            raise ValueError(f"{name} must be a share above 0 and below 1, got {share}.")
