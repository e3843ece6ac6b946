"""Average drop, and increase: what a class loses, or gains, when only the map's pixels are kept.

    drop     = max(0, p(x) - p(m x)) / p(x), lower is better
    increase = 1 where p(m x) > p(x), else 0; higher is better
    m        = |a| from 0 at its minimum to 1 at its maximum

x is the normalised picture, so what m takes away becomes the mean colour. An all-zero map keeps
nothing; a constant one has no m, and its score is undefined.

Both reward large masks: a map that is nearly the same everywhere keeps the picture and drops
nothing (Poppi et al., "Revisiting the Evaluation of Class Activation Mapping", CVPR-W 2021). Read
them beside a measure of place, and never tune on them.

Cost: one forward pass per map and measure, and one per picture that all maps share. Source:
Chattopadhay et al., "Grad-CAM++", WACV 2018, arXiv:1710.11063.
"""

from typing import Unpack

import torch
from jaxtyping import Float, Int
from torch import Tensor

from var_exp.metrics.base import Flag
from var_exp.metrics.curve_metric import PerturbationMetric
from var_exp.metrics.perturbation import Question, RunOptions, as_perturber
from var_exp.metrics.perturber import Perturber
from var_exp.metrics.share import TIE, ScoresAndFlags, pixel_values
from var_exp.types import Images, Predict


def average_drop(
    model: Predict | Perturber,
    images: Images,
    classes: Int[Tensor, " N"],
    maps: Float[Tensor, "N c h w"],
    **options: Unpack[RunOptions],
) -> Float[Tensor, " N"]:
    """Share of the class's probability that is lost when only the map's pixels are kept.

    Args:
        model: From images to logits, in eval mode, or a `Perturber` of it.
        images: [N, C, H, W], normalised as the model expects.
        classes: [N] int64, the class of each map.
        maps: [N, c, h, w], raw and signed; channels are summed, then resized to the images' size.
        options: ids, seed and max_batch; see `RunOptions`. Nothing here is random, but measures of
            one perturber and seed share the whole picture.

    Returns:
        [N] float64 in [0, 1]; NaN for a map that is constant but not 0, or not finite.

    Raises:
        ValueError: shapes that do not belong together, or an option out of its range.
    """
    whole, kept, _ = _kept(Question(as_perturber(model), images, classes, maps, **options))
    return _drop(whole, kept)


def average_increase(
    model: Predict | Perturber,
    images: Images,
    classes: Int[Tensor, " N"],
    maps: Float[Tensor, "N c h w"],
    **options: Unpack[RunOptions],
) -> Float[Tensor, " N"]:
    """Whether the class's probability rises when only the map's pixels are kept.

    Arguments, shapes and errors are those of `average_drop`; the result is 0, 1 or NaN.
    """
    whole, kept, _ = _kept(Question(as_perturber(model), images, classes, maps, **options))
    return _increase(whole, kept)


class AverageDrop(PerturbationMetric):
    """Mean of `average_drop`.

    Args:
        model: From images to logits, in eval mode, or a `Perturber` of it.
        seed: That of the other measures of the same perturber.
        max_batch: Most images in one forward, halved when memory runs out.

    Raises:
        ValueError: an option out of its range.
    """

    higher_is_better = False
    bounds = (0.0, 1.0)

    def __init__(self, model: Predict | Perturber, seed: int = 0, max_batch: int = 64) -> None:
        super().__init__(model, "zero", "probability", seed=seed, max_batch=max_batch)

    def _measure(self, question: Question) -> ScoresAndFlags:
        whole, kept, flags = _kept(question)
        return self._read(whole, kept), flags

    def _read(self, whole: Float[Tensor, " N"], kept: Float[Tensor, " N"]) -> Float[Tensor, " N"]:
        """The score, from the probabilities of the whole picture and of what is kept."""
        return _drop(whole, kept)


class AverageIncrease(AverageDrop):
    """Mean of `average_increase`; the arguments are those of `AverageDrop`."""

    higher_is_better = True

    def _read(self, whole: Float[Tensor, " N"], kept: Float[Tensor, " N"]) -> Float[Tensor, " N"]:
        return _increase(whole, kept)


def _drop(whole: Float[Tensor, " N"], kept: Float[Tensor, " N"]) -> Float[Tensor, " N"]:
    return (whole - kept).clamp_min(0) / whole


def _increase(whole: Float[Tensor, " N"], kept: Float[Tensor, " N"]) -> Float[Tensor, " N"]:
    return (kept > whole).double().where(kept.isfinite(), torch.nan)


def _kept(
    question: Question,
) -> tuple[Float[Tensor, " N"], Float[Tensor, " N"], Int[Tensor, " N"]]:
    """Probability of the whole picture, of what the map keeps (NaN without a mask), and flags."""
    images = question.images
    values = pixel_values(question.maps, (images.shape[2], images.shape[3]))
    finite, magnitudes = values.isfinite().flatten(1).all(1), values.abs()
    low, high = magnitudes.amin((1, 2), keepdim=True), magnitudes.amax((1, 2), keepdim=True)
    span = high - low
    empty, constant = (high == 0)[:, 0, 0], (span <= TIE * high)[:, 0, 0]
    masks = ((magnitudes - low) / span.where(span > 0, 1)).to(images.dtype)

    def work(rows: Tensor) -> Tensor:
        rows = rows.to(images.device)
        with torch.inference_mode():
            return question.model(images[rows] * masks[rows, None])

    chunks = question.model.limit(question.max_batch).chunks(len(images), work)
    kept = question.read(torch.cat([logits for _, logits in chunks])[:, None])[:, 0]
    flags = Flag.EMPTY_MAP * empty + Flag.NON_FINITE * ~finite + Flag.TIED * (constant & finite)
    kept = kept.where(finite & (empty | ~constant), torch.nan)
    return question.whole()[:, 0], kept, flags
