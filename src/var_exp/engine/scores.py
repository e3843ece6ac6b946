"""From what a model returns to the scores of the classes asked about."""

from collections.abc import Callable
from functools import partial
from typing import Any, Literal, TypeAlias, get_args

import torch
from jaxtyping import Float, Int
from torch import Tensor

from var_exp.models.outputs import logits_of
from var_exp.types import Classes, Logits

ScoreName: TypeAlias = Literal["logit", "probability", "log_probability", "sigmoid"]

_FUNCTIONS: dict[str, Callable[[Tensor], Tensor]] = {
    "probability": partial(torch.softmax, dim=1),
    "log_probability": partial(torch.log_softmax, dim=1),
    "sigmoid": torch.sigmoid,
}


def check_logits(logits: Any) -> Logits:
    """Take the logits [B, N] out of what a model returned; see `var_exp.models.outputs`.

    Raises:
        UnsupportedModel: there are none, or it cannot be told which.
    """
    return logits_of(logits)


class MostDifferent:
    """A score of two pictures: the logit of the class that differs most between them.

    Attributes:
        values: [2, 1], of the latest call.
    """

    values: Float[Tensor, "2 1"]

    def __call__(self, logits: Logits, classes: Classes) -> Float[Tensor, "2 1"]:
        """That logit of both, whatever classes are asked about."""
        score = logits[:, [int((logits[1] - logits[0]).abs().argmax())]]
        self.values = score.detach()
        return score


def class_scores(scores: Float[Tensor, "B N"], classes: Int[Tensor, "B K"]) -> Float[Tensor, "B K"]:
    """Pick the scores of the classes asked about, one row of classes for each row of scores.

    Raises:
        ValueError: a class that the model does not have.
    """
    check_range(classes, scores.shape[1])
    return scores.gather(1, classes.to(scores.device))


def check_range(classes: Int[Tensor, "B K"], n_classes: int) -> None:
    """Refuse classes outside 0 … N - 1.

    Raises:
        ValueError: a class that the model does not have.
    """
    lowest, highest = int(classes.min()), int(classes.max())
    if lowest < 0 or highest >= n_classes:
        wrong = lowest if lowest < 0 else highest
        raise ValueError(
            f"classes must lie in 0 … {n_classes - 1}, the model's classes, got {wrong}; "
            "check that the model and the data name the same classes."
        )


def check_score(score: str) -> None:
    """Refuse an unknown score.

    Raises:
        ValueError: the score is none of `ScoreName`.
    """
    if score not in get_args(ScoreName):
        raise ValueError(
            f"score must be one of {', '.join(get_args(ScoreName))}, got '{score}'; "
            "choose one of these."
        )


def named_scores(logits: Logits, classes: Classes, score: ScoreName) -> Float[Tensor, "B K"]:
    """What a method may attribute in place of the logit y_c.

    logit               y_c
    probability         p_c = softmax(y)_c
    log_probability     log p_c
    sigmoid             1 / (1 + exp(-y_c)), for labels that do not exclude each other

    All but the logit are taken in float32 at least.

    Raises:
        ValueError: a class that the model does not have.
    """
    if score != "logit":
        precise = torch.promote_types(logits.dtype, torch.float32)
        logits = _FUNCTIONS[score](logits.to(precise))
    return class_scores(logits, classes)
