"""Sensitivity-n: does the sum of the map over random patches follow what their loss costs?

    mean over n of the correlation, over random sets S of n features, of Σ_{i in S} a_i and
    f(x) - f(x without S), in [-1, 1]; higher is better

n takes `sizes` values from 0.8 % to 80 % of the features, evenly on a logarithmic scale; the sets
of one draw lie inside each other. They depend on the sample id only, so all maps of a picture share
the forward passes. A map whose sums do not differ, such as a constant one, foretells nothing and
scores 0; where the model does not react the correlation is undefined.

Departures: features are square patches, with the sum of the map over each. Of the paper's single
pixels (patch=1) a random set is salt and pepper all over the picture, whose harm hardly depends on
where its grains lie: on critters the object's own mask correlates 0.06 then, 0.46 with patches of
8 px. The paper starts at n = 1, where on photographs the change drowns in rounding.

Cost: samples x sizes + 1 forward passes per picture. Source: Ancona et al., "Towards Better
Understanding of Gradient-based Attribution Methods", ICLR 2018, arXiv:1711.06104.
"""

from collections.abc import Sequence
from typing import Unpack

import torch
from jaxtyping import Float, Int, UInt8
from torch import Tensor

from var_exp.engine.chunks import check_at_least_one
from var_exp.metrics.base import Flag
from var_exp.metrics.baselines import Baseline
from var_exp.metrics.curve_metric import PerturbationCurve
from var_exp.metrics.perturbation import Question, RunOptions, as_perturber
from var_exp.metrics.perturber import Perturber, Readout
from var_exp.metrics.ranking import patch_sums, spread
from var_exp.metrics.share import MeasuresAndFlags, pixel_values
from var_exp.seeds import sample_generator
from var_exp.types import Images, Predict

_EQUAL = 1e-12  # values that differ by less, of the largest, are equal but for rounding


def sensitivity_n(
    model: Predict | Perturber,
    images: Images,
    classes: Int[Tensor, " N"],
    maps: Float[Tensor, "N c h w"],
    samples: int = 100,
    sizes: int = 5,
    patch: int = 8,
    baseline: Baseline = "zero",
    *,
    score: Readout = "logit",
    **options: Unpack[RunOptions],
) -> Float[Tensor, " N"]:
    """Mean correlation between sums of the map and changes of the score.

    Args:
        model: From images to logits, in eval mode, or a `Perturber` of it.
        images: [N, C, H, W], normalised as the model expects.
        classes: [N] int64, the class of each map.
        maps: [N, c, h, w], raw and signed.
        samples: Random sets of each size, at least 2.
        sizes: How many sizes.
        patch: Side of a feature in pixels.
        baseline: "zero", "mean", "blur" or "noisy_linear".
        score: "logit", "probability", "accuracy" or "sigmoid".
        options: ids, seed and max_batch; see `RunOptions`.

    Returns:
        [N] float64 in [-1, 1]; NaN for a map that is not finite, and where the score never changes.

    Raises:
        ValueError: shapes that do not belong together, or an option out of its range.
    """
    perturber = as_perturber(model)
    question = Question(perturber, images, classes, maps, baseline, score=score, **options)
    return _measured(question, samples, sizes, patch)[0].mean(1)


class SensitivityN(PerturbationCurve):
    """Mean of `sensitivity_n`.

    Args:
        model: From images to logits, in eval mode, or a `Perturber` of it.
        samples: Random sets of each size, at least 2.
        sizes: How many sizes.
        patch: Side of a feature in pixels.
        baseline: "zero", "mean", "blur" or "noisy_linear".
        seed: Seed of the sets.
        max_batch: Most images in one forward, halved when memory runs out.
        score: "logit", "probability", "accuracy" or "sigmoid".

    Raises:
        ValueError: an option out of its range.
    """

    higher_is_better = True
    bounds = (-1.0, 1.0)
    in_units_of_score = False

    def __init__(
        self,
        model: Predict | Perturber,
        samples: int = 100,
        sizes: int = 5,
        patch: int = 8,
        baseline: Baseline = "zero",
        seed: int = 0,
        max_batch: int = 64,
        score: Readout = "logit",
    ) -> None:
        super().__init__(model, baseline, score, "random", seed, max_batch)
        _check_options(samples, sizes, patch)
        self.samples = samples
        self.sizes = sizes
        self.patch = patch

    def places(self) -> list[float]:
        """Where on x the points of the curve are."""
        return _shares(self.sizes)

    def y_label(self) -> str:
        """What the curve shows."""
        return f"mean correlation with the change of the {self.score}"

    def _measure(self, question: Question) -> MeasuresAndFlags:
        return _measured(question, self.samples, self.sizes, self.patch)

    def _value(self, measured: Float[Tensor, "N points"]) -> Float[Tensor, " N"]:
        return measured.mean(1)


def _measured(question: Question, samples: int, sizes: int, patch: int) -> MeasuresAndFlags:
    """Correlation per map and size [N, sizes], and flags [N]."""
    _check_options(samples, sizes, patch)
    images, maps, batch = question.images, question.maps, question.batch
    size = (images.shape[2], images.shape[3])
    values = patch_sums(pixel_values(maps, size), patch)
    down, across = values.shape[1:]
    counts = [max(1, round(share * down * across)) for share in _shares(sizes)]
    names = list(dict.fromkeys(batch.ids))
    key = ("sets", samples, sizes, patch)
    levels = batch.once(
        key, lambda: _draw(names, question.seed, samples, counts, down * across).to(images.device)
    )
    owner = torch.tensor([names.index(name) for name in batch.ids], device=images.device)

    def missing(rows: Tensor, points: Tensor) -> Tensor:
        sets = levels[owner[rows], points // sizes] <= (points % sizes)[:, None]
        return spread(sets.view(-1, down, across), patch, size)

    points, baseline = samples * sizes, question.baseline
    logits = batch.sampled(key, missing, points, baseline, question.max_batch)
    drops = (question.whole() - question.read(logits)).unflatten(1, (samples, sizes))
    flat = values.flatten(1)
    sums = _sums_inside(flat, [levels[index] for index in owner.tolist()], sizes)
    finite, empty = flat.isfinite().all(1), (flat == 0).all(1)
    constant = finite & ~empty & (sums == 0).flatten(1).all(1)
    flags = Flag.EMPTY_MAP * empty + Flag.NON_FINITE * ~finite + Flag.TIED * constant
    return _correlations(sums, drops).where(finite[:, None], torch.nan), flags


def _shares(sizes: int) -> list[float]:
    """Shares of the pixels, 0.8 % to 80 %."""
    return [0.8 * 0.01 ** (step / max(1, sizes - 1)) for step in reversed(range(sizes))]


def _draw(
    names: Sequence[str | None], seed: int, samples: int, counts: Sequence[int], cells: int
) -> UInt8[Tensor, "names samples cells"]:
    """Number of the first set that holds each cell, for sets that lie inside each other."""
    levels = torch.empty(len(names), samples, cells, dtype=torch.uint8)
    for name, own in zip(names, levels, strict=True):
        generator = sample_generator(seed, name)
        for draw in own:
            place = torch.randperm(cells, generator=generator)
            draw[:] = torch.bucketize(place, torch.tensor(counts), right=True)
    return levels


def _sums_inside(
    values: Float[Tensor, "N cells"], levels: Sequence[UInt8[Tensor, "samples cells"]], sizes: int
) -> Float[Tensor, "N samples sizes"]:
    """Sum of each map over each set, less what a constant map of its mean would have."""
    apart = values - values.mean(1, keepdim=True)
    constant = apart.abs().amax(1) <= _EQUAL * values.abs().amax(1)
    apart = apart.where(~constant[:, None], 0)
    rows = [
        torch.stack([(own == size).double() @ row for size in range(sizes)], 1).cumsum(1)
        for row, own in zip(apart, levels, strict=True)
    ]
    return torch.stack(rows)


def _correlations(
    sums: Float[Tensor, "N samples sizes"], drops: Float[Tensor, "N samples sizes"]
) -> Float[Tensor, "N sizes"]:
    """Pearson correlation over the samples; 0 where the sums do not differ, NaN where no drop."""
    sums, drops = sums - sums.mean(1, keepdim=True), drops - drops.mean(1, keepdim=True)
    told, seen = (sums**2).sum(1).sqrt(), (drops**2).sum(1).sqrt()
    both = (sums * drops).sum(1) / (told * seen).where(told > 0, 1)
    return both.where(seen > 0, torch.nan)


def _check_options(samples: int, sizes: int, patch: int) -> None:
    """Refuse what is out of its range."""
    check_at_least_one(sizes=sizes, patch=patch)
    if samples < 2:
        raise ValueError(f"samples must be at least 2, got {samples}; a correlation needs some.")
