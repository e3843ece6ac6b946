"""IROF: how much of the class is lost while the picture's own segments go, most relevant first.

    IROF = mean area over the curve of p(class) without the first l segments / p(class)

as a share of the segments, l = 0..L; at most 1, higher is better. Segments are superpixels (SLIC)
with the mean of the map as their relevance, so that no order of single pixels makes a pattern that
the network has never seen; a missing one has the mean colour of its picture. Segments belong to the
picture alone, so all maps of it have the same.

Departure: Quantus sums over steps of 1, and so its figure grows with the number of segments, and
leaves out the point l = 0; here it is divided by L. Its figure is L x IROF + (1 + p_1) / 2 with p_1
the share that is left at l = 1 (0.6.0, pictures of one channel: equal to 4e-7). Needs
scikit-image (pip install 'var_exp[photographs]'). Cost: L + 1 forward passes per map. Source:
Rieger, Hansen, "IROF: a low resource evaluation metric for explanation methods", 2020,
arXiv:2003.08747.
"""

from collections.abc import Callable
from typing import Any, Unpack

import torch
from jaxtyping import Float, Int
from torch import Tensor

from var_exp.engine.chunks import check_at_least_one
from var_exp.metrics.base import Flag
from var_exp.metrics.baselines import Baseline
from var_exp.metrics.curve_metric import PerturbationMetric
from var_exp.metrics.perturbation import Question, RunOptions, area_under, as_perturber
from var_exp.metrics.perturber import Perturber
from var_exp.metrics.share import TIE, ScoresAndFlags, pixel_values
from var_exp.seeds import sample_generator
from var_exp.types import ConfigError, Images, Predict


def irof(
    model: Predict | Perturber,
    images: Images,
    classes: Int[Tensor, " N"],
    maps: Float[Tensor, "N c h w"],
    segments: int = 100,
    baseline: Baseline = "mean",
    compactness: float = 10.0,
    **options: Unpack[RunOptions],
) -> Float[Tensor, " N"]:
    """Area over the curve of the share of p(class) that is left, most relevant segments first.

    Args:
        model: From images to logits, in eval mode, or a `Perturber` of it.
        images: [N, 3, H, W], normalised as the model expects.
        classes: [N] int64, the class of each map.
        maps: [N, c, h, w], raw and signed; channels are summed, then resized to the images' size.
        segments: About how many superpixels a picture is cut into.
        baseline: "zero", "mean", "blur" or "noisy_linear".
        compactness: Of SLIC, above 0: the larger, the squarer the segments.
        options: ids, seed and max_batch; see `RunOptions`. Equal segments go in random order.

    Returns:
        [N] float64, at most 1; NaN for a map that is not finite.

    Raises:
        ValueError: shapes that do not belong together, or an option out of its range.
        ConfigError: scikit-image is not installed.
    """
    question = Question(as_perturber(model), images, classes, maps, baseline, **options)
    return _areas(question, segments, compactness)[0]


class IROF(PerturbationMetric):
    """Mean of `irof`.

    Args:
        model: From images to logits, in eval mode, or a `Perturber` of it.
        segments: About how many superpixels a picture is cut into.
        baseline: "zero", "mean", "blur" or "noisy_linear".
        compactness: Of SLIC, above 0: the larger, the squarer the segments.
        seed: Of the order of equal segments, and of noise.
        max_batch: Most images in one forward, halved when memory runs out.

    Raises:
        ValueError: an option out of its range.
        ConfigError: scikit-image is not installed.
    """

    higher_is_better = True
    bounds = (None, 1.0)

    def __init__(
        self,
        model: Predict | Perturber,
        segments: int = 100,
        baseline: Baseline = "mean",
        compactness: float = 10.0,
        seed: int = 0,
        max_batch: int = 64,
    ) -> None:
        super().__init__(model, baseline, "probability", seed=seed, max_batch=max_batch)
        check_at_least_one(segments=segments)
        _slic()
        self.segments = segments
        self.compactness = compactness

    def _measure(self, question: Question) -> ScoresAndFlags:
        return _areas(question, self.segments, self.compactness)


def superpixels(
    image: Float[Tensor, "C H W"], segments: int, compactness: float = 10.0
) -> Int[Tensor, "H W"]:
    """Numbers 0, 1, … of the segments that SLIC finds in a picture, scaled to 0..1.

    Raises:
        ConfigError: scikit-image is not installed.
    """
    colours = image.detach().double().cpu()
    low, high = colours.amin(), colours.amax()
    colours = (colours - low) / (high - low).clamp_min(1e-12)
    found = _slic()(
        colours.permute(1, 2, 0).numpy(),
        n_segments=segments,
        compactness=compactness,
        start_label=0,
    )
    numbers: Tensor = torch.from_numpy(found).unique(return_inverse=True)[1]
    return numbers


def _areas(question: Question, segments: int, compactness: float) -> ScoresAndFlags:
    """Scores and flags."""
    check_at_least_one(segments=segments)
    if not compactness > 0:
        raise ValueError(f"compactness must be above 0, got {compactness}; SLIC's own is 10.")
    images, batch = question.images, question.batch
    labels = batch.once(
        ("superpixels", segments, compactness),
        lambda: torch.stack([superpixels(i, segments, compactness) for i in images]).to(
            images.device
        ),
    )
    values = pixel_values(question.maps, (images.shape[2], images.shape[3]))
    finite, empty = values.isfinite().flatten(1).all(1), (values == 0).flatten(1).all(1)
    counts = (labels.flatten(1).amax(1) + 1).tolist()
    places = torch.empty_like(labels)
    tied = torch.zeros_like(finite)
    for n, count in enumerate(counts):
        sizes = torch.bincount(labels[n].flatten(), minlength=count)
        sums = torch.zeros_like(sizes, dtype=values.dtype)
        means = sums.index_add(0, labels[n].flatten(), values[n].flatten()) / sizes
        chance = torch.randperm(count, generator=sample_generator(question.seed, batch.ids[n]))
        order = chance.to(means.device)
        steps = (means / means.abs().amax().clamp_min(1e-300) / TIE).round()  # equal but for sums
        order = order[steps[order].argsort(descending=True, stable=True)]
        tied[n] = steps.unique().numel() < count
        place = torch.empty_like(order).scatter_(0, order, torch.arange(count).to(order))
        places[n] = place[labels[n]]

    def missing(rows: Tensor, points: Tensor) -> Tensor:
        return places[rows] <= points[:, None, None]

    logits = batch.sampled(None, missing, max(counts), question.baseline, question.max_batch)
    whole = question.whole()
    left = torch.cat([whole, question.read(logits)], 1) / whole
    scores = torch.cat(
        [1 - area_under(row[None, : c + 1]) for row, c in zip(left, counts, strict=True)]
    )
    flags = Flag.EMPTY_MAP * empty + Flag.NON_FINITE * ~finite + Flag.TIED * (tied & finite)
    return scores.where(finite, torch.nan), flags


def _slic() -> Callable[..., Any]:
    """SLIC of scikit-image, which is loaded when it is needed."""
    try:
        from skimage.segmentation import slic
    except ImportError as error:
        raise ConfigError(
            "metric irof needs scikit-image; pip install 'var_exp[photographs]', or use aopc."
        ) from error
    found: Callable[..., Any] = slic
    return found
