"""Guided backpropagation and DeconvNet: gradients whose negative parts stop at every activation.

guided      relu(f'(x) · g) leaves an activation f    Springenberg et al. 2015, arXiv 1412.6806
deconvnet   relu(g) leaves it                          Zeiler & Fergus 2014, arXiv 1311.2901

Both papers have f = ReLU; `engine.rules` says how the other activations are met. Cost: one forward
and K backward passes.
"""

from collections.abc import Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass
from functools import partial
from typing import ClassVar

from torch import nn

from var_exp.engine.activations import Activations, Backward, activation_rule, check_activations
from var_exp.engine.gradients import class_gradients
from var_exp.engine.scores import ScoreName, check_score, named_scores
from var_exp.methods.method import Method
from var_exp.models.outputs import logits_of
from var_exp.types import Classes, Images, Logits, Maps


@dataclass(frozen=True)
class GuidedBackprop(Method):
    """Gradient that keeps, at every activation, only the positive part of what leaves it.

    Args:
        activations: "all" guides ReLU, its relatives, GELU and SiLU; "relu" every ReLU call;
            "relu_modules" only `nn.ReLU` modules, as Captum and the paper's code do.
        score: Where the backward pass starts: "logit", as in the papers, "probability" or
            "log_probability".

    Raises:
        ValueError: another value of activations or score.
        UnsupportedModel: by `check` and `attribute`, when the model has nothing to guide.
    """

    invariant_to_folding: ClassVar[bool] = True

    activations: Activations = "all"
    score: ScoreName = "logit"
    backward: ClassVar[Backward] = "guided"

    def __post_init__(self) -> None:
        super().__post_init__()
        check_activations(self.activations)
        check_score(self.score)

    def _look(self, model: nn.Module, image: Images) -> Logits:
        """Refuse a model without an activation to guide."""
        with self._rule(model):
            return logits_of(model(image))

    def _attribute(
        self, model: nn.Module, images: Images, classes: Classes, ids: Sequence[str | None]
    ) -> Maps:
        score = partial(named_scores, score=self.score)
        return class_gradients(
            model, images, classes, rule=self._rule(model), score=score
        ).gradients

    def _rule(self, model: nn.Module) -> AbstractContextManager[object]:
        return activation_rule(model, self.backward, self.activations)


@dataclass(frozen=True)
class DeconvNet(GuidedBackprop):
    """Backward pass of a deconvolutional network.

    An activation passes the positive part of the gradient, whether or not it was active.

    Options and errors are those of `GuidedBackprop`.
    """

    backward: ClassVar[Backward] = "deconvnet"
