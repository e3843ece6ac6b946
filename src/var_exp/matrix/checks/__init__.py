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

from var_exp.matrix.checks import activations, cams, differences, masks, others
from var_exp.matrix.checks.case import Case


@dataclass(frozen=True)
class Check:
    """How a method is verified.

    Attributes:
        error: From a case to the relative error; its docstring says what is compared.
        options: Of the method, so that a run is cheap.
        limit: Largest error that passes; maps are float32, whose rounding is 6e-8.
    """

    error: Callable[[Case], float]
    options: Mapping[str, Any] = field(default_factory=dict)
    limit: float = 1e-5


_DIFFERENCE = 1e-4  # limit of finite differences in float64
_FEW = {"samples": 3}

CHECKS: dict[str, Check] = {
    "captum": Check(others.captum),
    "deconvnet": Check(activations.deconvnet),
    "gbp": Check(activations.guided_backprop),
    "gradcam": Check(cams.gradcam),
    "gradient": Check(differences.gradient, limit=_DIFFERENCE),
    "gradient_shap": Check(differences.gradient_shap, _FEW, limit=_DIFFERENCE),
    "guided_gradcam": Check(cams.guided_gradcam),
    "ig": Check(differences.integrated_gradients, {"steps": 3}, limit=_DIFFERENCE),
    "input_x_gradient": Check(differences.input_x_gradient, limit=_DIFFERENCE),
    "occlusion": Check(masks.occlusion, {"window": 40, "stride": 24}),
    "rise": Check(masks.rise, {"masks": 6, "grid": 3}),
    "smoothgrad": Check(differences.smoothgrad, _FEW, limit=_DIFFERENCE),
    "softmax_gbp": Check(activations.guided_backprop),
    "softmax_gradient": Check(differences.gradient, limit=_DIFFERENCE),
    "vargrad": Check(differences.vargrad, _FEW),
}
"""Alias of a method -> its check."""
