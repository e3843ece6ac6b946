"""Infidelity: how badly the map foretells what happens when squares of the picture go.

    min over β of the mean over squares S of (β Σ_{i in S} a_i - (f(x) - f(x without S)))²

Lower is better. β is the best factor of each map, since most maps have no unit; the paper's own
measure has β = 1. A map and its negative score the same. Squares have a side drawn evenly from 1 to
`size` of the picture's shorter side and an even place inside it; both depend on the sample id only,
so all maps of a picture share the forward passes. Two readings of a map are in use:

    contributions   a_i is what pixel i gives to the score, as in integrated gradients, occlusion,
                    class activation maps; channels are summed
    gradients       a_i is per unit of the input, as in gradients: the sum is over (x - x')_i a_i
                    with x' the baseline, a map with one channel standing for all of them

Departure: the paper's perturbation of images is a square too; its sizes it leaves open. Cost:
samples + 1 forward passes per picture. Source: Yeh et al., "On the (In)fidelity and Sensitivity of
Explanations", NeurIPS 2019, arXiv:1901.09392; best factor as Captum's `normalize=True`.
"""

from collections.abc import Sequence
from typing import Literal, Unpack, get_args

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor
from torch.nn import functional as F  # noqa: N812 (the name everybody knows)

from var_exp.engine.chunks import check_at_least_one
from var_exp.metrics.base import Flag
from var_exp.metrics.baselines import CANVASES, Baseline
from var_exp.metrics.curve_metric import PerturbationMetric
from var_exp.metrics.perturbation import Question, RunOptions, as_perturber
from var_exp.metrics.perturber import Perturber, Readout
from var_exp.metrics.share import ScoresAndFlags, pixel_values
from var_exp.seeds import sample_generator
from var_exp.types import Images, Predict

Reading = Literal["contributions", "gradients"]


def infidelity(
    model: Predict | Perturber,
    images: Images,
    classes: Int[Tensor, " N"],
    maps: Float[Tensor, "N c h w"],
    samples: int = 200,
    size: float = 0.5,
    reading: Reading = "contributions",
    baseline: Baseline = "zero",
    *,
    score: Readout = "logit",
    **options: Unpack[RunOptions],
) -> Float[Tensor, " N"]:
    """Mean squared error of the best multiple of the map.

    Args:
        model: From images to logits, in eval mode, or a `Perturber` of it.
        images: [N, C, H, W], normalised as the model expects.
        classes: [N] int64, the class of each map.
        maps: [N, c, h, w], raw and signed, c = C or 1.
        samples: Number of squares.
        size: Largest side of a square, as a share of the picture's shorter side, in (0, 1].
        reading: "contributions" or "gradients".
        baseline: "zero", "mean", "blur", or for contributions "noisy_linear".
        score: "logit", "probability", "accuracy" or "sigmoid".
        options: ids, seed and max_batch; see `RunOptions`.

    Returns:
        [N] float64, at least 0, in squared units of the score; NaN for a map that is not finite.

    Raises:
        ValueError: shapes that do not belong together, or an option out of its range.
    """
    perturber = as_perturber(model)
    question = Question(perturber, images, classes, maps, baseline, score=score, **options)
    return _errors(question, samples, size, reading)[0]


class Infidelity(PerturbationMetric):
    """Mean of `infidelity`.

    Args:
        model: From images to logits, in eval mode, or a `Perturber` of it.
        samples: Number of squares.
        size: Largest side of a square, as a share of the picture's shorter side.
        reading: "contributions" or "gradients".
        baseline: "zero", "mean", "blur", or for contributions "noisy_linear".
        seed: Seed of the squares.
        max_batch: Most images in one forward, halved when memory runs out.
        score: "logit", "probability", "accuracy" or "sigmoid".

    Raises:
        ValueError: an option out of its range.
    """

    higher_is_better = False
    bounds = (0.0, None)
    in_units_of_score = False

    def __init__(
        self,
        model: Predict | Perturber,
        samples: int = 200,
        size: float = 0.5,
        reading: Reading = "contributions",
        baseline: Baseline = "zero",
        seed: int = 0,
        max_batch: int = 64,
        score: Readout = "logit",
    ) -> None:
        super().__init__(model, baseline, score, "random", seed, max_batch)
        _check_options(samples, size, reading, baseline)
        self.samples = samples
        self.size = size
        self.reading: Reading = reading

    def _measure(self, question: Question) -> ScoresAndFlags:
        return _errors(question, self.samples, self.size, self.reading)


def _errors(question: Question, samples: int, size: float, reading: Reading) -> ScoresAndFlags:
    """Scores and flags."""
    _check_options(samples, size, reading, question.baseline)
    images, maps, batch = question.images, question.maps, question.batch
    height, width = images.shape[2:]
    key = ("squares", samples, size)
    squares = batch.once(key, lambda: _draw(batch.ids, question.seed, samples, size, height, width))
    squares = squares.to(images.device)

    def missing(rows: Tensor, points: Tensor) -> Bool[Tensor, "n H W"]:
        top, left, side = squares[rows, points].T[:, :, None]
        y, x = (torch.arange(length, device=rows.device) for length in (height, width))
        in_rows, in_columns = (y >= top) & (y < top + side), (x >= left) & (x < left + side)
        inside: Tensor = in_rows[:, :, None] & in_columns[:, None]
        return inside

    logits = batch.sampled(key, missing, samples, question.baseline, question.max_batch)
    drops = question.whole() - question.read(logits)
    values = pixel_values(maps, (height, width))
    finite = values.isfinite().flatten(1).all(1)
    if reading == "gradients":
        change = (images - CANVASES[question.baseline](images)).double()
        values = (change * _resized(maps.double(), (height, width))).sum(1)
    sums = _sums_inside(values, squares)
    energy = (sums**2).sum(1, keepdim=True)
    factor = (sums * drops).sum(1, keepdim=True) / energy.where(energy > 0, 1)
    errors = ((factor * sums - drops) ** 2).mean(1)
    flags = Flag.EMPTY_MAP * (maps == 0).flatten(1).all(1) + Flag.NON_FINITE * ~finite
    return errors.where(finite, torch.nan), flags


def _draw(
    ids: Sequence[str | None], seed: int, samples: int, size: float, height: int, width: int
) -> Int[Tensor, "N samples 3"]:
    """Top, left and side of the squares of each sample."""
    largest = max(1, int(size * min(height, width)))
    drawn = {}
    for name in dict.fromkeys(ids):
        chance = torch.rand(3, samples, generator=sample_generator(seed, name))
        side = 1 + (chance[0] * largest).long()
        top = (chance[1] * (height - side + 1)).long()
        left = (chance[2] * (width - side + 1)).long()
        drawn[name] = torch.stack([top, left, side], 1)
    return torch.stack([drawn[name] for name in ids])


def _sums_inside(
    values: Float[Tensor, "N H W"], squares: Int[Tensor, "N samples 3"]
) -> Float[Tensor, "N samples"]:
    """Sum of the values in each square, from running sums."""
    running = F.pad(values.cumsum(1).cumsum(2), (1, 0, 1, 0)).flatten(1)
    across = values.shape[2] + 1
    top, left, side = squares.unbind(2)
    upper, lower = top * across, (top + side) * across
    return (
        running.gather(1, lower + left + side)
        - running.gather(1, lower + left)
        - running.gather(1, upper + left + side)
        + running.gather(1, upper + left)
    )


def _resized(maps: Float[Tensor, "N c h w"], size: tuple[int, int]) -> Float[Tensor, "N c H W"]:
    return maps if maps.shape[2:] == size else F.interpolate(maps, size=size, mode="bilinear")


def _check_options(samples: int, size: float, reading: str, baseline: str) -> None:
    """Refuse what is out of its range."""
    check_at_least_one(samples=samples)
    if not 0 < size <= 1:
        raise ValueError(f"size must be a share of the picture's side in (0, 1], got {size}.")
    if reading not in get_args(Reading):
        raise ValueError(f"reading must be contributions or gradients, got '{reading}'.")
    if reading == "gradients" and baseline not in CANVASES:
        raise ValueError(
            f"reading=gradients needs a baseline that is one picture, got '{baseline}'; "
            "set baseline=zero, mean or blur."
        )
