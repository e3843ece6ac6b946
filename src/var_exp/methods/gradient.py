"""Plain gradient and input x gradient: the logit's first-order change, per pixel.

gradient            d y_c / d x          Simonyan et al. 2014, arXiv 1312.6034, signed, no maximum
input_x_gradient    x · d y_c / d x      Shrikumar et al. 2016, arXiv 1605.01713

Cost: one forward and K backward passes.
"""

from collections.abc import Sequence
from dataclasses import dataclass

from torch import nn

from var_exp.engine.gradients import class_gradients
from var_exp.methods.method import Method
from var_exp.types import Classes, Images, Maps


@dataclass(frozen=True)
class Gradient(Method):
    """Gradient of the logit with respect to the image."""

    def _attribute(
        self, model: nn.Module, images: Images, classes: Classes, ids: Sequence[str | None]
    ) -> Maps:
        return class_gradients(model, images, classes).gradients


@dataclass(frozen=True)
class InputXGradient(Method):
    """Normalised image times gradient: what the first-order term attributes to each value.

    The zero of the normalised space, the data set's mean colour, gets no attribution.
    """

    def _attribute(
        self, model: nn.Module, images: Images, classes: Classes, ids: Sequence[str | None]
    ) -> Maps:
        _, point, gradients = class_gradients(model, images, classes)
        return gradients.mul_(point[:, None])
