"""Intervention: what becomes of each class when the pixels of one class's map go, or alone stay?

    matrix[i, j] = mean change of p(class j) when the strongest pixels of the map of class i go
    score        = fall of p(own class) - largest fall of p(another class asked about)
    kept         : matrix[i, j] is the change when these pixels alone stay, and the
    score        = p(own class) - largest p(another class asked about), afterwards

Both scores are higher for a better map: it holds what speaks for its class, and not what speaks for
the others. Every map marks the same share of the pixels, so that a sparse one has no advantage.
Costs one perturbed forward pass per map.

Source: the figure of class probabilities before and after masking in Walter et al., arXiv
2503.07346; the score is this project's.
"""

from collections.abc import Sequence
from typing import Literal, Unpack, get_args

import torch
from jaxtyping import Float, Int
from torch import Tensor

from var_exp.metrics.baselines import Baseline
from var_exp.metrics.curve_metric import PerturbationMetric, Ties
from var_exp.metrics.matrix_metric import MatrixMetric
from var_exp.metrics.perturbation import Question, RunOptions, as_perturber
from var_exp.metrics.perturber import Perturber
from var_exp.models.declared import probabilities
from var_exp.types import Images, Predict

Masking = Literal["deleted", "kept"]


def intervention(
    model: Predict | Perturber,
    images: Images,
    classes: Int[Tensor, " N"],
    asked: Int[Tensor, "N A"],
    maps: Float[Tensor, "N c h w"],
    mode: Masking = "deleted",
    share: float = 0.25,
    baseline: Baseline = "zero",
    *,
    base_maps: Float[Tensor, "N _ _ _"] | None = None,
    **options: Unpack[RunOptions],
) -> tuple[Float[Tensor, "N A"], Float[Tensor, "N A"]]:
    """Probabilities of all classes asked about before and after one map's pixels go or stay.

    Args:
        model: From images to logits, in eval mode, or a `Perturber` of it.
        images: [N, C, H, W], normalised as the model expects.
        classes: [N] int64, the class of each map.
        asked: [N, A] int64, the classes asked about each picture.
        maps: [N, c, h, w], raw and signed.
        mode: "deleted" takes the strongest pixels out, "kept" all others.
        share: Of the pixels that count as the strongest; above 0, below 1.
        baseline: What stands where a pixel is taken out: "zero", "mean", "blur" or "noisy_linear".
        base_maps: [N, c, h, w] that rank the pixels which `maps` leaves equal.
        options: ids, seed and max_batch; see `RunOptions`.

    Returns:
        Two tensors [N, A] float64 in [0, 1]; the second is NaN for a map that is not finite.

    Raises:
        ValueError: shapes that do not belong together, or an option out of its range.
    """
    question = Question(as_perturber(model), images, classes, maps, baseline, base_maps, **options)
    before, after, _ = _probabilities(question, asked, mode, share)
    return before, after


class Intervention(MatrixMetric, PerturbationMetric):
    """Mean lead of the own class, and the matrix of the mean changes.

    Args:
        model: From images to logits, in eval mode, or a `Perturber` of it.
        mode: "deleted" or "kept"; see `intervention`.
        share: Of the pixels that count as the strongest.
        baseline: "zero", "mean", "blur" or "noisy_linear".
        ties: What ranks equal pixels: "random", or "base" for `base_maps` and then at random.
        seed: Seed of the random order, and of noise.
        max_batch: Most images in one forward, halved when memory runs out.

    Raises:
        ValueError: an option out of its range.
    """

    higher_is_better = True
    matrix_axes = ("masked with the map of class", "change of the probability of class")

    def __init__(
        self,
        model: Predict | Perturber,
        mode: Masking = "deleted",
        share: float = 0.25,
        baseline: Baseline = "zero",
        ties: Ties = "random",
        seed: int = 0,
        max_batch: int = 64,
    ) -> None:
        super().__init__(model, baseline, "probability", ties, seed, max_batch)
        _check(mode, share)
        self.mode: Masking = mode
        self.bounds = (-2.0, 2.0) if mode == "deleted" else (-1.0, 1.0)
        self.share = share

    def update(  # type: ignore[override]  # the classes asked about are further keywords
        self,
        *,
        images: Images,
        classes: Int[Tensor, " N"],
        asked: Int[Tensor, "N A"],
        own: Int[Tensor, " N"],
        maps: Float[Tensor, "N c h w"],
        base_maps: Float[Tensor, "N _ _ _"] | None = None,
        ids: Sequence[str] | None = None,
    ) -> None:
        """Score N maps; own is the number of each map's class among those asked about.

        Raises:
            ValueError: ties="base" without base maps, one class asked about, or what
                `intervention` refuses.
        """
        if asked.shape[1] < 2:
            raise ValueError("asked must name two classes or more, got one; use layout=grid.")
        question = self.question(images, classes, maps, base_maps, ids)
        before, after, flags = _probabilities(question, asked, self.mode, self.share)
        self.forget()
        gain = after if self.mode == "kept" else before - after
        one = torch.nn.functional.one_hot(own, asked.shape[1]).bool()
        lead = gain[one] - gain.masked_fill(one, -torch.inf).amax(1)
        self.record(lead, flags, classes, ids)
        self.keep_lines(after - before, own)


def _probabilities(
    question: Question, asked: Int[Tensor, "N A"], mode: Masking, share: float
) -> tuple[Float[Tensor, "N A"], Float[Tensor, "N A"], Int[Tensor, " N"]]:
    """Probabilities before and after, and flags."""
    _check(mode, share)
    ranking = question.ranking()
    marked = round(share * ranking.cells)
    if mode == "deleted":
        logits = question.ranked(ranking, "most_first", [0, marked])
    else:
        logits = question.ranked(ranking, "least_first", [0, ranking.cells - marked])
    head = question.model.head
    before, after = (
        probabilities(some.double(), head).gather(1, asked) for some in logits.unbind(1)
    )
    after = after.where(ranking.finite()[:, None], torch.nan)
    return before, after, ranking.flags([marked])


def _check(mode: str, share: float) -> None:
    """Refuse an option out of its range."""
    if mode not in get_args(Masking):
        raise ValueError(f"mode must be deleted or kept, got '{mode}'.")
    if not 0 < share < 1:
        raise ValueError(f"share must be above 0 and below 1, got {share}.")
