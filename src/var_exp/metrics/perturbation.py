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

Source: Petsiuk, Das, Saenko, "RISE", BMVC 2018 (the score there is that of the top-1 class; here of
the class asked about); Samek et al., "Evaluating the Visualization of What a Deep Neural Network
Has Learned", TNNLS 2017 (MoRF, LeRF).
"""

from collections.abc import Sequence
from typing import Literal, get_args

import torch
from jaxtyping import Float, Int
from torch import Tensor

from var_exp.metrics.baselines import Baseline
from var_exp.metrics.perturber import Order, Perturber, Score, read_scores
from var_exp.types import Images, Predict

Mode = Literal["insertion", "deletion", "lerf"]


def perturbation_curves(
    model: Predict | Perturber,
    images: Images,
    classes: Int[Tensor, " N"],
    maps: Float[Tensor, "N c h w"],
    mode: Mode,
    *,
    steps: int,
    baseline: Baseline,
    score: Score = "probability",
    competitors: Int[Tensor, " N"] | None = None,
    base_maps: Float[Tensor, "N _ _ _"] | None = None,
    ids: Sequence[str] | None = None,
    seed: int = 0,
    max_batch: int = 64,
) -> tuple[Float[Tensor, "N points"], Int[Tensor, " N"]]:
    """Score of the class while pixels are exchanged in the order of the map.

    Args:
        model: From images [n, C, H, W] to logits [n, N], in eval mode, or a `Perturber` of it.
        images: [N, C, H, W], normalised as the model expects.
        classes: [N] int64, the class that is asked about.
        maps: [N, c, h, w]; channels are summed, then resized to the size of the images.
        mode: "deletion", "lerf" or "insertion", see above.
        steps: Number of steps, at least 1.
        baseline: "zero" (the mean colour, in normalised space), "mean" (of the image), "blur" or
            "noisy_linear"; see `var_exp.metrics.baselines`.
        score: "probability", "logit", or "accuracy": 1 where the class is the top one.
        competitors: [N] int64, classes whose score is subtracted.
        base_maps: [N, c, h, w] that rank the pixels which `maps` leaves equal.
        ids: N sample ids, for the random order of what is still equal, and for noise.
        seed: Seed of both.
        max_batch: Most images in one forward, halved when memory runs out.

    Returns:
        Curves [N, steps + 1] float64, NaN for a map that is not finite; flags [N].

    Raises:
        ValueError: shapes that do not belong together, or an option out of its range.
    """
    check_inputs(images, classes, maps, base_maps)
    check_options(steps, baseline, max_batch, score)
    if competitors is not None and competitors.shape != classes.shape:
        raise ValueError(
            f"competitors must be one per map, got {len(competitors)} for {len(maps)} maps."
        )
    batch = as_perturber(model).batch(images, ids, seed)
    ranking = batch.ranking(maps, base_maps)
    counts = [round(step * ranking.cells / steps) for step in range(steps + 1)]
    opposite = [ranking.cells - count for count in counts]
    missing = opposite if mode == "insertion" else counts
    order: Order = "most_first" if mode == "deletion" else "least_first"
    logits = batch.ranked(ranking, order, missing, baseline, max_batch)
    curves = read_scores(logits, classes, score, batch.head)
    if competitors is not None:
        curves = curves - read_scores(logits, competitors, score, batch.head)
    flags = ranking.flags(opposite if mode == "lerf" else counts)
    return curves.where(ranking.finite()[:, None], torch.nan), flags


def area_under(curves: Float[Tensor, "N points"]) -> Float[Tensor, " N"]:
    """Trapezoid rule over equal steps from 0 to 1."""
    return torch.trapezoid(curves, dx=1 / (curves.shape[1] - 1))


def as_perturber(model: Predict | Perturber) -> Perturber:
    """The perturber itself, or a new one of a model."""
    return model if isinstance(model, Perturber) else Perturber(model)


def check_options(steps: int, baseline: str, max_batch: int, score: str = "probability") -> None:
    """Refuse options out of their range.

    Raises:
        ValueError: steps or max_batch below 1, an unknown baseline or an unknown score.
    """
    if steps < 1 or max_batch < 1:
        raise ValueError(f"steps and max_batch must be at least 1, got {steps} and {max_batch}.")
    if baseline not in get_args(Baseline):
        raise ValueError(f"baseline must be zero, mean, blur or noisy_linear, got '{baseline}'.")
    if score not in get_args(Score):
        raise ValueError(f"score must be one of {', '.join(get_args(Score))}, got '{score}'.")


def check_inputs(
    images: Tensor, classes: Tensor, maps: Tensor, base_maps: Tensor | None = None
) -> None:
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
