"""What metrics share that keep a curve, and those that perturb pictures: a model, options."""

from collections.abc import Sequence
from typing import ClassVar, Literal, get_args

import torch
from jaxtyping import Float, Int
from torch import Tensor

from var_exp.engine.chunks import check_at_least_one
from var_exp.metrics.base import SampleMetric
from var_exp.metrics.baselines import Baseline
from var_exp.metrics.perturbation import (
    CurveKind,
    Question,
    area_under,
    as_perturber,
    check_options,
    curves_of,
)
from var_exp.metrics.perturber import Perturber, Readout
from var_exp.metrics.share import MeasuresAndFlags
from var_exp.types import Images, Predict

Ties = Literal["random", "base"]


class CurveMetric(SampleMetric):
    """A measure made of one curve per map, whose mean can be drawn.

    Attributes:
        x_label: What runs along x.
    """

    x_label: str = "share of the pixels"
    row_states: ClassVar[dict[str, torch.dtype]] = {
        **SampleMetric.row_states,
        "curves": torch.float32,
    }
    curves: list[Tensor]

    def places(self) -> list[float]:
        """Where on x the points of the curve are."""
        raise NotImplementedError

    def y_label(self) -> str:
        """What the curve shows."""
        raise NotImplementedError

    def keep(
        self,
        measured: Float[Tensor, "N points"],
        flags: Int[Tensor, " N"],
        classes: Int[Tensor, " N"] | None,
        ids: Sequence[str] | None,
    ) -> None:
        """Record what was measured of each map, and its curve."""
        self.record(self._value(measured), flags, classes, ids)
        self.curves.append(measured.to(torch.float32))

    def curve(self) -> Float[Tensor, " points"]:
        """Mean of what is defined at each point, over all processes (call it on each), float64."""
        with self.sync_context():
            return self._rows("curves").double().nanmean(0)

    def _value(self, measured: Float[Tensor, "N points"]) -> Float[Tensor, " N"]:
        """One number per curve."""
        raise NotImplementedError

    def row_shape(self, name: str) -> tuple[int, ...]:
        """Shape of one row of a state."""
        return (len(self.places()),) if name == "curves" else super().row_shape(name)


class PerturbationMetric(SampleMetric):
    """What the metrics that ask a model about perturbed pictures share.

    Args:
        model: From images to logits, in eval mode; or a `Perturber` of it, shared with other
            metrics, which then remembers from one update to the next.
        baseline: What stands where a pixel is taken away.
        score: "probability", "logit", "accuracy" or "sigmoid".
        ties: What ranks equal pixels: "random", or "base" for `base_maps` and then at random.
        seed: Seed of everything random.
        max_batch: Most images in one forward, halved when memory runs out.

    Attributes:
        in_units_of_score: Whether it is in units of what is read of the model, and so without
            bounds where that is the logit.

    Raises:
        ValueError: an option out of its range.
    """

    in_units_of_score = True

    def __init__(
        self,
        model: Predict | Perturber,
        baseline: Baseline,
        score: Readout,
        ties: Ties = "random",
        seed: int = 0,
        max_batch: int = 64,
    ) -> None:
        super().__init__()
        check_options(baseline, max_batch, score)
        if ties not in get_args(Ties):
            raise ValueError(f"ties must be random or base, got '{ties}'.")
        self.model = as_perturber(model)  # no module, so the model does not move with the metric
        self.baseline: Baseline = baseline
        self.score: Readout = score
        if score == "logit" and self.in_units_of_score:
            self.bounds = (None, None)
        self.ties = ties
        self.seed = seed
        self.max_batch = max_batch
        self._shared = isinstance(model, Perturber)

    def question(
        self,
        images: Images,
        classes: Int[Tensor, " N"],
        maps: Float[Tensor, "N c h w"],
        base_maps: Float[Tensor, "N _ _ _"] | None,
        ids: Sequence[str] | None,
    ) -> Question:
        """What the model is asked, with the options of the metric.

        Raises:
            ValueError: ties="base" without base maps, or what `Question` refuses.
        """
        base = self._ranked_by(base_maps)
        how = (self.baseline, base, ids, self.seed, self.max_batch, self.score)
        return Question(self.model, images, classes, maps, *how)

    def forget(self) -> None:
        """Let a perturber of the metric's own forget; one that is shared remembers."""
        if not self._shared:
            self.model.forget()

    def _ranked_by(self, base_maps: Tensor | None) -> Tensor | None:
        """The base maps, where they rank ties.

        Raises:
            ValueError: ties="base" without base maps.
        """
        if self.ties == "random":
            return None
        if base_maps is None:
            raise ValueError("ties='base' needs base_maps [N, c, h, w], got None; pass them.")
        return base_maps

    def update(
        self,
        *,
        images: Images,
        classes: Int[Tensor, " N"],
        maps: Float[Tensor, "N c h w"],
        base_maps: Float[Tensor, "N _ _ _"] | None = None,
        ids: Sequence[str] | None = None,
    ) -> None:
        """Score N maps; base_maps are used, and needed, with ties="base" only.

        Raises:
            ValueError: ties="base" without base maps, or what the pure function refuses.
        """
        measured = self._measure(self.question(images, classes, maps, base_maps, ids))
        self.forget()
        self.keep(*measured, classes, ids)

    def keep(
        self,
        measured: Float[Tensor, "N ..."],
        flags: Int[Tensor, " N"],
        classes: Int[Tensor, " N"] | None,
        ids: Sequence[str] | None,
    ) -> None:
        """Record what was measured of each map."""
        self.record(self._value(measured), flags, classes, ids)

    def _measure(self, question: Question) -> MeasuresAndFlags:
        """Scores [N] or curves [N, points], and flags [N]."""
        raise NotImplementedError

    def _value(self, measured: Float[Tensor, "N ..."]) -> Float[Tensor, " N"]:
        """One number per map."""
        return measured


class PerturbationCurve(CurveMetric, PerturbationMetric):
    """A measure of perturbed pictures made of one curve per map."""

    def y_label(self) -> str:
        """What the curve shows."""
        return f"mean {self.score} of the class"


class PerturbationAUC(PerturbationCurve):
    """Area under one curve per map, which is linear: the area under `curve()` is the value.

    Args:
        model: From images to logits, in eval mode, or a `Perturber` of it.
        steps: Number of steps.
        baseline: "zero", "mean", "blur" or "noisy_linear".
        ties: What ranks equal pixels: "random", or "base" for `base_maps` and then at random.
        seed: Seed of the random order, and of noise.
        max_batch: Most images in one forward, halved when memory runs out.
        score: "probability", "logit", "accuracy" or "sigmoid".

    Raises:
        ValueError: an option out of its range.
    """

    kind: ClassVar[CurveKind]

    def __init__(
        self,
        model: Predict | Perturber,
        steps: int = 224,
        baseline: Baseline = "zero",
        ties: Ties = "random",
        seed: int = 0,
        max_batch: int = 64,
        score: Readout = "probability",
    ) -> None:
        super().__init__(model, baseline, score, ties, seed, max_batch)
        check_at_least_one(steps=steps)
        self.steps = steps

    def places(self) -> list[float]:
        """Where on x the points of the curve are."""
        return [step / self.steps for step in range(self.steps + 1)]

    def _measure(self, question: Question) -> MeasuresAndFlags:
        """Curves [N, points] and flags [N]."""
        return curves_of(question, self.kind, self.steps)

    def _value(self, measured: Float[Tensor, "N points"]) -> Float[Tensor, " N"]:
        """One number per curve."""
        return area_under(measured)
