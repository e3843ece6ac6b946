"""Plain gradient and input x gradient: the score's first-order change, per pixel.

gradient            d s_c / d x          Simonyan et al. 2014, arXiv 1312.6034, signed, no maximum
input_x_gradient    x · d s_c / d x      Shrikumar et al. 2016, arXiv 1605.01713

with the score s_c = logit y_c, as in the papers, or (log) p_c of the softmax p, which lets the
classes compete inside the score: d log p_c / d x = d y_c / d x - Σ_n p_n d y_n / d x, and
d p_c / d x is that times p_c. Cost: one forward and K backward passes.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial
from typing import ClassVar

from torch import nn

from var_exp.engine.gradients import ClassGradients, class_gradients
from var_exp.engine.scores import ScoreName, check_score, named_scores
from var_exp.methods.method import Method
from var_exp.types import Classes, Images, Maps


@dataclass(frozen=True)
class Gradient(Method):
    """Gradient of the score with respect to the image.

    Args:
        score: What is differentiated: "logit", "probability" or "log_probability".

    Raises:
        ValueError: another score.
    """

    invariant_to_folding: ClassVar[bool] = True

    score: ScoreName = "logit"

    def __post_init__(self) -> None:
        super().__post_init__()
        check_score(self.score)

    def _attribute(
        self, model: nn.Module, images: Images, classes: Classes, ids: Sequence[str | None]
    ) -> Maps:
        return self._found(model, images, classes).gradients

    def _found(self, model: nn.Module, images: Images, classes: Classes) -> ClassGradients:
        score = partial(named_scores, score=self.score)
        return class_gradients(model, images, classes, score=score)


@dataclass(frozen=True)
class InputXGradient(Gradient):
    """Normalised image times gradient: what the first-order term attributes to each value.

    The zero of the normalised space, the data set's mean colour, gets no attribution. Options and
    errors are those of `Gradient`.
    """

    def _attribute(
        self, model: nn.Module, images: Images, classes: Classes, ids: Sequence[str | None]
    ) -> Maps:
        _, point, gradients = self._found(model, images, classes)
        return gradients.mul_(point[:, None])
