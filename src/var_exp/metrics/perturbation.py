"""Curves of a class's score while pixels go in the order of a map.

Point j of a curve, j = 0..steps, has round(j HW / steps) pixels exchanged (all channels together),
so both ends are included and every step takes the same share of the picture. With steps = 224 at
224 px these are RISE's 224 pixels per step.

    deletion   image -> baseline, strongest pixels first ("MoRF", most relevant first)
    lerf       image -> baseline, weakest pixels first ("LeRF", least relevant first)
    insertion  baseline -> image, strongest pixels first; the same pictures as lerf, backwards
    AUC = trapezoid of the curve over the share of exchanged pixels

Cost: steps + 1 forward passes per map and curve, batched over steps and images; none for a curve
that another metric of the run has asked for (see `var_exp.metrics.perturber`).

All measures that ask a model about perturbed pictures share what is here: the options of the pure
functions (`RunOptions`, `AskOptions`) and the `Question` that they and the metrics put.

Source: Petsiuk, Das, Saenko, "RISE", BMVC 2018 (the score there is that of the top-1 class; here of
the class asked about); Samek et al., "Evaluating the Visualization of What a Deep Neural Network
Has Learned", TNNLS 2017 (MoRF, LeRF).
"""

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Literal, TypedDict, Unpack, get_args

import torch
from jaxtyping import Float, Int
from torch import Tensor

from var_exp.engine.chunks import check_at_least_one
from var_exp.metrics.baselines import Baseline
from var_exp.metrics.perturber import (
    PerturbedBatch,
    Perturber,
    PixelOrder,
    Readout,
    read_scores,
)
from var_exp.metrics.ranking import Ranking
from var_exp.metrics.share import MeasuresAndFlags
from var_exp.types import Images, Predict

CurveKind = Literal["insertion", "deletion", "lerf"]


class RunOptions(TypedDict, total=False):
    """Options of every pure function that asks a model about perturbed pictures.

    Attributes:
        ids: N sample ids, for all that is random, such as the order of equal pixels.
        seed: Seed of that; 0 unless told otherwise.
        max_batch: Most images in one forward, halved when memory runs out; 64.
    """

    ids: Sequence[str] | None
    seed: int
    max_batch: int


class AskOptions(RunOptions, total=False):
    """And of those that rank the pixels of a map and read one score.

    Attributes:
        base_maps: [N, c, h, w] that rank the pixels which `maps` leaves equal.
        score: "probability", the default, "logit", "accuracy" or "sigmoid"; see `read_scores`.
    """

    base_maps: Float[Tensor, "N _ _ _"] | None
    score: Readout


@dataclass(frozen=True)
class Question:
    """What a model is asked about pictures, one class and map for each; checked when it is made.

    Attributes:
        model: Who is asked.
        images: [N, C, H, W], normalised as the model expects.
        classes: [N] int64, the class of each map.
        maps: [N, c, h, w], raw and signed; channels are summed, then resized to the images' size.
        baseline: What stands where a pixel is taken away; see `var_exp.metrics.baselines`.
        base_maps: As in `AskOptions`, and so on.

    Raises:
        ValueError: shapes that do not belong together, or an option out of its range.
    """

    model: Perturber
    images: Images
    classes: Int[Tensor, " N"]
    maps: Float[Tensor, "N c h w"]
    baseline: Baseline = "zero"
    base_maps: Float[Tensor, "N _ _ _"] | None = None
    ids: Sequence[str] | None = None
    seed: int = 0
    max_batch: int = 64
    score: Readout = "probability"

    def __post_init__(self) -> None:
        _check_shapes(self.images, self.classes, self.maps, self.base_maps)
        check_options(self.baseline, self.max_batch, self.score)

    @cached_property
    def batch(self) -> PerturbedBatch:
        """What the model remembers of the pictures."""
        return self.model.batch(self.images, self.ids, self.seed)

    def ranking(self, patch: int = 1) -> Ranking:
        """The order of the pixels, or of patches of them, in each map."""
        return self.batch.ranking(self.maps, self.base_maps, patch)

    def ranked(
        self, ranking: Ranking, order: PixelOrder, counts: Sequence[int]
    ) -> Float[Tensor, "N points classes"]:
        """Logits without the first `counts` cells from one end of the ranking."""
        return self.batch.ranked(ranking, order, counts, self.baseline, self.max_batch)

    def read(self, logits: Float[Tensor, "N points classes"]) -> Float[Tensor, "N points"]:
        """The score of each map's class, float64."""
        return read_scores(logits, self.classes, self.score, self.model.head)

    def whole(self) -> Float[Tensor, "N 1"]:
        """The score of the pictures as they are."""
        return self.read(self.batch.clean(self.max_batch)[:, None])


def perturbation_curves(
    model: Predict | Perturber,
    images: Images,
    classes: Int[Tensor, " N"],
    maps: Float[Tensor, "N c h w"],
    kind: CurveKind,
    *,
    steps: int,
    baseline: Baseline,
    competitors: Int[Tensor, " N"] | None = None,
    **options: Unpack[AskOptions],
) -> MeasuresAndFlags:
    """Score of the class while pixels are exchanged in the order of the map.

    Args:
        model: From images [n, C, H, W] to logits [n, N], in eval mode, or a `Perturber` of it.
        images: [N, C, H, W], normalised as the model expects.
        classes: [N] int64, the class that is asked about.
        maps: [N, c, h, w]; channels are summed, then resized to the size of the images.
        kind: "deletion", "lerf" or "insertion", see above.
        steps: Number of steps, at least 1.
        baseline: "zero" (the mean colour, in normalised space), "mean" (of the image), "blur" or
            "noisy_linear"; see `var_exp.metrics.baselines`.
        competitors: [N] int64, classes whose score is subtracted.
        options: See `AskOptions`.

    Returns:
        Curves [N, steps + 1] float64, NaN for a map that is not finite; flags [N].

    Raises:
        ValueError: shapes that do not belong together, or an option out of its range.
    """
    question = Question(as_perturber(model), images, classes, maps, baseline, **options)
    return curves_of(question, kind, steps, competitors)


def curves_of(
    question: Question,
    kind: CurveKind,
    steps: int,
    competitors: Int[Tensor, " N"] | None = None,
) -> MeasuresAndFlags:
    """Curves [N, steps + 1] and flags [N] of a question; see `perturbation_curves`.

    Raises:
        ValueError: steps below 1, or not one competitor per map.
    """
    check_at_least_one(steps=steps)
    if competitors is not None and competitors.shape != question.classes.shape:
        raise ValueError(
            f"competitors must be one per map, got {len(competitors)} for "
            f"{len(question.maps)} maps."
        )
    ranking = question.ranking()
    counts = [round(step * ranking.cells / steps) for step in range(steps + 1)]
    opposite = [ranking.cells - count for count in counts]
    missing = opposite if kind == "insertion" else counts
    order: PixelOrder = "most_first" if kind == "deletion" else "least_first"
    logits = question.ranked(ranking, order, missing)
    curves = question.read(logits)
    if competitors is not None:
        curves = curves - read_scores(logits, competitors, question.score, question.model.head)
    flags = ranking.flags(opposite if kind == "lerf" else counts)
    return curves.where(ranking.finite()[:, None], torch.nan), flags


def area_under(curves: Float[Tensor, "N points"]) -> Float[Tensor, " N"]:
    """Trapezoid rule over equal steps from 0 to 1."""
    return torch.trapezoid(curves, dx=1 / (curves.shape[1] - 1))


def as_perturber(model: Predict | Perturber) -> Perturber:
    """The perturber itself, or a new one of a model."""
    return model if isinstance(model, Perturber) else Perturber(model)


def check_options(baseline: str, max_batch: int, score: str) -> None:
    """Refuse options out of their range.

    Raises:
        ValueError: max_batch below 1, an unknown baseline or an unknown score.
    """
    check_at_least_one(max_batch=max_batch)
    if baseline not in get_args(Baseline):
        raise ValueError(f"baseline must be zero, mean, blur or noisy_linear, got '{baseline}'.")
    if score not in get_args(Readout):
        raise ValueError(f"score must be one of {', '.join(get_args(Readout))}, got '{score}'.")


def _check_shapes(images: Tensor, classes: Tensor, maps: Tensor, base_maps: Tensor | None) -> None:
    """Refuse tensors that do not belong together.

    Raises:
        ValueError: not one class, map and base map per image.
    """
    shapes = [list(t.shape) for t in (images, classes, maps)]
    one_each = classes.shape == images.shape[:1] == maps.shape[:1]
    if images.ndim != 4 or maps.ndim != 4 or not one_each:
        raise ValueError(
            "images [N, C, H, W], classes [N] and maps [N, c, h, w] must have one N, got shapes "
            f"{shapes[0]}, {shapes[1]} and {shapes[2]}; pass one image and class per map."
        )
    if base_maps is not None and base_maps.shape[:1] != maps.shape[:1]:
        raise ValueError(
            f"base_maps must be one per map, got {len(base_maps)} for {len(maps)} maps."
        )
