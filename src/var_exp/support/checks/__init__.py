"""Runtime checks: one small function per method that recomputes its maps in another way.

A check takes a `Case`, one method that has run on one image, and returns the largest error it found
as a share of the largest value expected. It holds on every architecture that the method supports
and shares nothing with the method but what its docstring names: gradients are compared with finite
differences of the logits, backward rules with hooks on the nodes of the autograd graph, class
activation maps with hooks on the layer, everything that masks the image with a loop. All of it runs
in float64.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

from var_exp.support.checks import (
    activations,
    attention,
    cams,
    differences,
    masks,
    multipliers,
    others,
    relevance,
    segments,
)
from var_exp.support.checks.case import Case


@dataclass(frozen=True)
class Check:
    """How a method is verified.

    Attributes:
        error: From a case to the relative error; its docstring says what is compared.
        options: Of the method, so that a run is cheap.
        limit: Largest error that passes; maps are float32, whose rounding is 6e-8.
        small: Whether the small relatives stand in for the published sizes: for methods that make
            many passes of a kind that others make once.
        costly: Whether it makes a pass for every channel of a layer, whatever its options.
    """

    error: Callable[[Case], float]
    options: Mapping[str, Any] = field(default_factory=dict)
    limit: float = 1e-5
    small: bool = False
    costly: bool = False

    @property
    def phrase(self) -> str:
        """How the maps are made again."""
        return (self.error.__doc__ or "").rstrip(".")


_FEW = {"samples": 3}

CHECKS: dict[str, Check] = {
    "ablation_cam": Check(cams.ablation_cam, small=True, costly=True),
    "attention_gradcam": Check(attention.attention_gradcam),
    "attention_rollout": Check(attention.attention_rollout),
    "attnlrp": Check(relevance.attnlrp),
    "captum": Check(others.captum, small=True),
    "case": Check(cams.case_),
    "clrp": Check(relevance.clrp),
    "deconvnet": Check(activations.deconvnet),
    "deeplift": Check(multipliers.deeplift),
    "eigen_cam": Check(cams.eigen_cam),
    "finer_cam": Check(cams.finer_cam),
    "fullgrad": Check(others.fullgrad),
    "gbp": Check(activations.guided_backprop),
    "gradcam": Check(cams.gradcam),
    "gradcam_plus_plus": Check(cams.gradcam_plus_plus),
    "gradient": Check(differences.gradient, limit=differences.LIMIT),
    "gradient_shap": Check(differences.gradient_shap, _FEW, differences.LIMIT, small=True),
    "guided_gradcam": Check(cams.guided_gradcam),
    "hirescam": Check(cams.hirescam),
    "hsic": Check(segments.hsic, {"grid": 2, "samples": 9}, small=True),
    "idg": Check(
        differences.integrated_decision_gradients,
        {"steps": 2, "intervals": 3},
        differences.LIMIT,
        small=True,
    ),
    "ig": Check(differences.integrated_gradients, {"steps": 3}, differences.LIMIT, small=True),
    "input_x_gradient": Check(differences.input_x_gradient, limit=differences.LIMIT),
    # as many samples as there are coalitions of the cells
    "kernel_shap": Check(segments.kernel_shap, {"grid": 2, "samples": 14}, small=True),
    "layercam": Check(cams.layercam),
    "legrad": Check(attention.legrad),
    "libragrad": Check(relevance.libragrad),
    "lime": Check(segments.lime, {"grid": 2, "samples": 9}, small=True),
    "lrp": Check(relevance.lrp),
    "occlusion": Check(masks.occlusion, {"window": 40, "stride": 24}, small=True),
    "refine_cam": Check(cams.refine_cam),
    "rise": Check(masks.rise, {"masks": 6, "grid": 3}, small=True),
    "scorecam": Check(cams.scorecam, small=True, costly=True),
    "sglrp": Check(relevance.sglrp),
    "smoothgrad": Check(differences.smoothgrad, _FEW, differences.LIMIT, small=True),
    "sobol": Check(segments.sobol, {"grid": 2, "samples": 10}, small=True),
    "softmax_gbp": Check(activations.guided_backprop),
    "softmax_gradient": Check(differences.gradient, limit=differences.LIMIT),
    "transformer_attribution": Check(attention.transformer_attribution),
    "vargrad": Check(differences.vargrad, _FEW, small=True),
}
"""Alias of a method -> its check."""
