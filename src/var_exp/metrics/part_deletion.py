"""Part deletion: does a map rank the parts as the network does, when each is really absent?

    score = Spearman correlation over the parts p of R_p and y_c(x) - y_c(x without p), in [-1, 1]
    R_p   = sum of the map where x and x without p differ

Higher is better. The part is not covered by a colour that the network has never seen: the picture
is drawn again without it, all else pixel for pixel. `contrast` takes the fall of the lead
y_c - y_r over the strongest competitor r in place of y_c: what a map refined against r claims to
show. A map that gives all parts the same foretells nothing and scores 0; where the network does not
react, or fewer than two parts are seen, the score is undefined.

`RegionEffect` is the fall for the first part, what the region shows: a fact about the network, with
which a share of energy in that region can be compared.

Cost: a forward pass for each part, which all maps of a picture share. Source: single deletion
protocol of Hesse, Schaub-Meyer, Roth, "FunnyBirds", ICCV 2023, arXiv:2308.06248, which maps the
correlation to 0..1; the contrast is this project's.
"""

from collections.abc import Sequence
from typing import Unpack

import torch
from jaxtyping import Float, Int
from torch import Tensor

from var_exp.metrics.base import Flag
from var_exp.metrics.curve_metric import PerturbationMetric
from var_exp.metrics.perturbation import Question, RunOptions, as_perturber
from var_exp.metrics.perturber import Perturber, read_scores
from var_exp.metrics.share import ScoresAndFlags, pixel_values
from var_exp.metrics.similarity import average_ranks, correlation
from var_exp.types import Images, Predict


def part_deletion(
    model: Predict | Perturber,
    images: Images,
    classes: Int[Tensor, " N"],
    maps: Float[Tensor, "N c h w"],
    without: Float[Tensor, "N P C H W"],
    competitors: Int[Tensor, " N"] | None = None,
    **options: Unpack[RunOptions],
) -> Float[Tensor, " N"]:
    """Rank correlation of the relevance of parts with the fall of the logit without each of them.

    Args:
        model: From images to logits, in eval mode, or a `Perturber` of it.
        images: [N, C, H, W], normalised as the model expects.
        classes: [N] int64, the class of each map.
        maps: [N, c, h, w], raw and signed; channels are summed, then resized to the images' size.
        without: [N, P, C, H, W], each image without each of P parts.
        competitors: [N] int64, classes whose fall is subtracted; None for none.
        options: ids, seed and max_batch; see `RunOptions`.

    Returns:
        [N] float64 in [-1, 1]; 0 for a map that gives every part the same, NaN for one that is not
        finite, and where the falls are all equal or fewer than two parts are seen.

    Raises:
        ValueError: shapes that do not belong together, or an option out of its range.
    """
    question = Question(as_perturber(model), images, classes, maps, score="logit", **options)
    return _correlations(question, without, competitors)[0]


class PartDeletion(PerturbationMetric):
    """Mean of `part_deletion`.

    Args:
        model: From images to logits, in eval mode, or a `Perturber` of it.
        contrast: Take the fall of the lead over the strongest competitor.
        seed: That of the other measures of the same perturber.
        max_batch: Most images in one forward, halved when memory runs out.

    Raises:
        ValueError: an option out of its range.
    """

    higher_is_better = True
    bounds = (-1.0, 1.0)
    in_units_of_score = False

    def __init__(
        self,
        model: Predict | Perturber,
        contrast: bool = False,
        seed: int = 0,
        max_batch: int = 64,
    ) -> None:
        super().__init__(model, "zero", "logit", seed=seed, max_batch=max_batch)
        self.contrast = contrast

    def update(  # type: ignore[override]  # the pictures without parts are one more keyword
        self,
        *,
        images: Images,
        classes: Int[Tensor, " N"],
        competitors: Int[Tensor, " N"],
        without: Float[Tensor, "N P C H W"],
        maps: Float[Tensor, "N c h w"],
        ids: Sequence[str] | None = None,
    ) -> None:
        """Score N maps; the competitors matter with `contrast` only."""
        question = self.question(images, classes, maps, None, ids)
        against = competitors if self.contrast else None
        self.record(*_correlations(question, without, against), classes, ids)
        self.forget()


class RegionEffect(PerturbationMetric):
    """Mean fall of the logit, or of the lead over the competitor, without what the region shows.

    Arguments are those of `PartDeletion`.
    """

    higher_is_better = False  # for what should not matter, such as a planted cue
    about_model = True

    def __init__(
        self,
        model: Predict | Perturber,
        contrast: bool = False,
        seed: int = 0,
        max_batch: int = 64,
    ) -> None:
        super().__init__(model, "zero", "logit", seed=seed, max_batch=max_batch)
        self.contrast = contrast

    def update(  # type: ignore[override]  # it looks at no map
        self,
        *,
        images: Images,
        classes: Int[Tensor, " N"],
        competitors: Int[Tensor, " N"],
        without: Float[Tensor, "N P C H W"],
        ids: Sequence[str] | None = None,
    ) -> None:
        """Score the model on N pictures."""
        question = self.question(images, classes, images, None, ids)
        falls = _falls(question, without, competitors if self.contrast else None)
        self.record(falls[:, 0], torch.zeros_like(classes), classes, ids)
        self.forget()


def _falls(question: Question, without: Tensor, competitors: Tensor | None) -> Float[Tensor, "N P"]:
    """How far the score falls without each part.

    Raises:
        ValueError: pictures without parts of another shape than the images.
    """
    images = question.images
    if without.ndim != 5 or without[:, 0].shape != images.shape:
        raise ValueError(
            f"without must be [N, P, C, H, W] of the images {list(images.shape)}, got "
            f"{list(without.shape)}; draw every picture without each of its parts."
        )
    whole = question.batch.clean(question.max_batch)[:, None]
    absent = question.batch.without(without, question.max_batch)
    falls = question.read(whole) - question.read(absent)
    if competitors is not None:
        before, after = (
            read_scores(logits, competitors, "logit", question.model.head)
            for logits in (whole, absent)
        )
        falls = falls - (before - after)
    return falls


def _correlations(
    question: Question, without: Tensor, competitors: Tensor | None
) -> ScoresAndFlags:
    """Scores and flags."""
    falls = _falls(question, without, competitors)
    places = (without != question.images[:, None]).any(2)
    values = pixel_values(question.maps, (places.shape[2], places.shape[3]))
    relevance = (values[:, None] * places).sum((2, 3))
    seen = places.flatten(2).any(2)
    scores = relevance.new_full((len(relevance),), torch.nan)
    for n, own in enumerate(seen):
        told, fallen = relevance[n, own], falls[n, own]
        if len(told) > 1 and (fallen != fallen[0]).any():
            ranks = [average_ranks(some[None]) for some in (told, fallen)]
            scores[n] = correlation(*ranks)[0].nan_to_num(0)  # all parts are told the same
    finite = values.isfinite().flatten(1).all(1)
    flags = (
        Flag.EMPTY_MAP * (values == 0).flatten(1).all(1)
        + Flag.EMPTY_REGION * (seen.sum(1) < 2)
        + Flag.NON_FINITE * ~finite
    )
    return scores.where(finite, torch.nan), flags
