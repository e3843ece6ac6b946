"""Model randomisation: does the map change when the model loses what it learnt?

    score = mean over the stages of similarity(map, map of the model with x % of its layers random)

A map that stays as it is says nothing about the model. Stages randomise ever more layers from the
logits down ("top_down", the cascade of the paper) or from the picture up ("bottom_up"), or one
group of layers at a time ("independent"); one stage alone randomises all. Every layer is drawn anew
(`RandomizedModels`), the class and its competitors stay. The similarity of the map with itself is
drawn in the curve, but no part of the score. Where a randomised model leaves an empty map, the
similarity is undefined: neither 0, the best score, nor 1.

Read it as passed or failed, beside the controls: edges and a random map score 1. It cannot rank
methods, since noise passes best (Binder et al., CVPR 2023).

Source: Adebayo et al., "Sanity Checks for Saliency Maps", NeurIPS 2018, arXiv 1810.03292.
"""

import math
from collections.abc import Hashable, Sequence
from fractions import Fraction
from typing import Literal, get_args

import torch
from jaxtyping import Float, Int
from torch import Tensor, nn

from var_exp.metrics.curve_metric import CurveMetric
from var_exp.metrics.reattribution import Change, Reattribute
from var_exp.metrics.similarity import Looks, Similarity, check_similarity, compare
from var_exp.models.randomize import RandomizedModels
from var_exp.types import Images

LayerOrder = Literal["top_down", "bottom_up", "independent"]


class RandomizationCurve(CurveMetric):
    """Something about the model at each stage of its randomisation.

    Args:
        order: "top_down", "bottom_up" or "independent".
        stages: Into how many groups the layers are split.
        seed: Of the random layers.

    Raises:
        ValueError: an option out of its range.
    """

    def __init__(self, order: LayerOrder = "top_down", stages: int = 5, seed: int = 0) -> None:
        super().__init__()
        if order not in get_args(LayerOrder):
            raise ValueError(
                f"order must be one of {', '.join(get_args(LayerOrder))}, got '{order}'."
            )
        least = 2 if order == "independent" else 1
        if stages < least:
            raise ValueError(f"stages must be at least {least} with order={order}, got {stages}.")
        self.order = order
        self.stages = stages
        self.seed = seed
        self.x_label = {
            "top_down": "share of the layers that are random, from the logits down",
            "bottom_up": "share of the layers that are random, from the picture up",
            "independent": "depth of the group of layers that is random, 1 at the picture",
        }[order]

    def places(self) -> list[float]:
        """Where on x the points of the curve are."""
        first = 1 if self.order == "independent" else 0
        return [stage / self.stages for stage in range(first, self.stages + 1)]

    def changes(self, reattribute: Reattribute) -> list[tuple[Hashable, Change]]:
        """Key and change of each stage but that of the model as it is."""
        return [self._change(reattribute, stage) for stage in range(1, self.stages + 1)]

    def _change(self, reattribute: Reattribute, stage: int) -> tuple[Hashable, Change]:
        reached, before = Fraction(stage, self.stages), Fraction(stage - 1, self.stages)
        low, high = {
            "top_down": (1 - reached, Fraction(1)),
            "bottom_up": (Fraction(0), reached),
            "independent": (1 - reached, 1 - before),
        }[self.order]

        def change(
            model: nn.Module, images: Images, ids: Sequence[str]
        ) -> tuple[nn.Module, Images]:
            models = reattribute.once(
                ("randomized", self.seed), lambda: RandomizedModels(model, self.seed)
            )
            return models.between(low, high), images

        return ("randomized", self.seed, low, high), change

    def _value(self, measured: Float[Tensor, "N points"]) -> Float[Tensor, " N"]:
        """Mean over the stages at which something is random."""
        return measured[:, -self.stages :].mean(1)


class ModelRandomization(RandomizationCurve):
    """Mean similarity of the maps with those of ever more random models.

    Args:
        order: "top_down", "bottom_up" or "independent".
        similarity: "spearman", "spearman_abs", "spearman_union" or "ssim"; see `map_similarity`.
        stages: Into how many groups the layers are split; each costs one attribution.
        seed: Of the random layers.

    Raises:
        ValueError: an option out of its range.
    """

    higher_is_better = False
    bounds = (-1.0, 1.0)

    def __init__(
        self,
        order: LayerOrder = "top_down",
        similarity: Similarity = "spearman",
        stages: int = 5,
        seed: int = 0,
    ) -> None:
        super().__init__(order, stages, seed)
        check_similarity(similarity)
        self.similarity: Similarity = similarity

    def y_label(self) -> str:
        """What the curve shows."""
        name = {"ssim": "SSIM", "spearman": "rank correlation"}.get(self.similarity)
        kind = {"spearman_abs": "|values|", "spearman_union": "where either is not 0"}
        name = name or f"rank correlation, {kind[self.similarity]}"
        return f"{name} with the trained model's map"

    def update(
        self,
        *,
        maps: Float[Tensor, "N c h w"],
        reattribute: Reattribute,
        classes: Int[Tensor, " N"] | None = None,
        ids: Sequence[str] | None = None,
    ) -> None:
        """Score N maps; classes and ids name the rows (see `SampleMetric.record`)."""
        looks = Looks.of(maps, self.similarity)
        points = [] if self.order == "independent" else [compare(looks, looks, self.similarity)]
        points += [
            compare(looks, Looks.of(reattribute.maps(*change), self.similarity), self.similarity)
            for change in self.changes(reattribute)
        ]
        flags = torch.zeros_like(points[0][1])
        for _, odd in points:
            flags |= odd
        self.keep(torch.stack([scores for scores, _ in points], 1), flags, classes, ids)


class RandomizedModelScore(RandomizationCurve):
    """What the randomised models still know: a measure of the model, not of the map."""

    about_model = True
    bounds = (0.0, 1.0)

    def update(
        self,
        *,
        classes: Int[Tensor, " N"],
        reattribute: Reattribute,
        ids: Sequence[str] | None = None,
    ) -> None:
        """Score the models that N maps were made with."""
        known = [] if self.order == "independent" else [reattribute.logits()]
        logits = [*known, *(reattribute.logits(*change) for change in self.changes(reattribute))]
        points = torch.stack([self._score(some.double(), classes) for some in logits], 1)
        self.keep(points, torch.zeros_like(classes), classes, ids)

    def _score(self, logits: Float[Tensor, "N classes"], classes: Tensor) -> Float[Tensor, " N"]:
        raise NotImplementedError


class RandomizedAccuracy(RandomizedModelScore):
    """Share of the rows whose class is the top one; the arguments are those of the curve."""

    higher_is_better = False  # the less is known, the better the check

    def y_label(self) -> str:
        """What the curve shows."""
        return "accuracy of the model"

    def _score(self, logits: Float[Tensor, "N classes"], classes: Tensor) -> Float[Tensor, " N"]:
        return (logits.argmax(1) == classes).double()


class RandomizedEntropy(RandomizedModelScore):
    """Entropy of the probabilities over ln N, 1 where all classes are alike."""

    higher_is_better = True

    def y_label(self) -> str:
        """What the curve shows."""
        return "entropy of the model's probabilities / ln N"

    def _score(self, logits: Float[Tensor, "N classes"], classes: Tensor) -> Float[Tensor, " N"]:
        entropy: Tensor = torch.special.entr(logits.softmax(1)).sum(1)
        return entropy / math.log(logits.shape[1])
